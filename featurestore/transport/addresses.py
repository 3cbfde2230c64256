"""Addresses in a cluster: the URL that names some of its nodes, and how nodes are reached from here."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, parse_qs, urlsplit

import msgspec

from featurestore.errors import ConfigurationError

_MOST_PORT = 65_535
_EXAMPLE = "redis+cluster://host:port,host:port"
_NODE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:\[\]/,=@]+)(?::(?P<port>\d+))?")
_DEFAULT_PORT = 6379


UNREADABLE = "it cannot be parsed; in a password, / ? # @ are written as %2F %3F %23 %40"
"""Said of a URL in whose parts there may be a part of the password, which are not shown then."""


class ClusterUrl(msgspec.Struct, frozen=True):
    """What a `redis+cluster://` or `rediss+cluster://` URL says.

    Attributes:
        scheme: `redis` or `rediss`, which each node is spoken to by.
        credentials: User and password as they stand in the URL, with the `@` behind them; empty without any.
        seeds: Some nodes' addresses, any of which knows the others.
        options: What stands behind the `?`, for every node.
    """

    scheme: str
    credentials: str
    seeds: tuple[str, ...]
    options: str

    def of_node(self, address: str) -> str:
        """Return the URL of one node, as redis-py takes it."""
        return f"{self.scheme}://{self.credentials}{address}{self.options}"


def is_cluster(url: str) -> bool:
    """Return whether a URL leads to a cluster."""
    return scheme_of(url) in {"redis+cluster", "rediss+cluster"}


def scheme_of(url: str) -> str:
    """Return what stands in front of `://`, whatever the rest is."""
    return url.partition("://")[0].lower()


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL that names servers.

    Raises:
        ConfigurationError: It cannot be parsed, or a password of it has what ends a password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # its text may have a part of the password
        raise ConfigurationError(f"cannot use the Redis URL: {UNREADABLE}") from None
    if "@" in f"{parts.path}{parts.fragment}{parts.query.partition('=')[0]}":
        raise ConfigurationError(f"cannot use the Redis URL: {UNREADABLE}")
    return parts


def addresses_in(url: str, hosts: str, read: Callable[[str], str] | None = None) -> tuple[str, ...]:
    """Return the addresses that a URL names, as `read` reads each; `address` does when left out.

    Raises:
        ConfigurationError: One of them is none.
    """
    try:
        return tuple((read or address)(each.strip()) for each in hosts.split(","))
    except ConfigurationError:
        if is_unsafe(url):
            raise ConfigurationError(f"cannot use the Redis URL: {UNREADABLE}") from None
        raise


def is_unsafe(url: str) -> bool:
    """Return whether what looks like a host in a URL that cannot be used may be a part of the password."""
    try:
        urlsplit(url)
    except ValueError:  # its text has the part with the password
        return True
    rest = url.partition("://")[2]
    return "@" in rest and "@" not in re.split("[/?#]", rest, maxsplit=1)[0]


def cluster_url(url: str) -> ClusterUrl:
    """Return what the URL of a cluster says.

    Raises:
        ConfigurationError: It names no node, a port that is none, or a database.
    """
    parts = split_url(url)
    before, mark, hosts = parts.netloc.rpartition("@")
    if not hosts:
        raise ConfigurationError(f"the URL of a cluster names no node: want {_EXAMPLE}")
    database = parts.path.removeprefix("/") or parse_qs(parts.query).get("db", [""])[0]
    if database not in {"", "0"}:
        raise ConfigurationError(f"a cluster has database 0 only, not {database!r}: want {_EXAMPLE}")
    seeds = addresses_in(url, hosts)
    options = f"?{parts.query}" if parts.query else ""
    return ClusterUrl(parts.scheme.partition("+")[0], before + mark, seeds, options)


def address(text: str) -> str:
    """Return `host:port` of a text that is that; the port may be left out, and is 6379 then.

    Raises:
        ConfigurationError: It is none.
    """
    found = _NODE.fullmatch(text)
    if not found:
        raise ConfigurationError(f"{text!r} is no address of a node: want host:port")
    port = int(found["port"] or _DEFAULT_PORT)
    if not 0 < port <= _MOST_PORT:
        raise ConfigurationError(f"{text!r} has a port that is none: want 1 to {_MOST_PORT}")
    return f"{found['host']}:{port}"


def joined(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port:d}" if ":" in host and not host.startswith("[") else f"{host}:{port:d}"


def host_of(node: str) -> str:
    """Return the host of an address, an IPv6 address with its brackets."""
    return node.rpartition(":")[0]


def address_map(text: str) -> Mapping[str, str]:
    """Return where nodes are reached that the cluster calls by other addresses.

    Args:
        text: `10.0.0.5:7000=host:17000,…`: the cluster's address, and the one to connect to.

    Raises:
        ConfigurationError: It is something else.
    """
    found = {}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        told, _, reached = pair.partition("=")
        try:
            found[address(told.strip())] = address(reached.strip())
        except ConfigurationError as error:
            raise ConfigurationError(
                f"FEATURESTORE_ADDRESS_MAP: {pair!r}: {error}; want 10.0.0.5:7000=host:17000,…"
            ) from error
    return found
