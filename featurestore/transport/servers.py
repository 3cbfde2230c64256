"""The URL of a primary and its replicas without Sentinels."""

import msgspec

from featurestore.errors import ConfigurationError
from featurestore.transport.addresses import addresses_in, scheme_of, split_url

_EXAMPLE = "redis+replicas://host:port,host:port/0"


class ServersUrl(msgspec.Struct, frozen=True):
    """What a `redis+replicas://` URL says, or `redis://` where replicas are to be used.

    Attributes:
        scheme: `redis` or `rediss`.
        credentials: User and password as they stand in the URL, with the `@` behind; empty without any.
        seeds: Some of the servers.
        rest: The database and the options.
    """

    scheme: str
    credentials: str
    seeds: tuple[str, ...]
    rest: str

    def of_node(self, node: str) -> str:
        """Return the URL of a server, as redis-py takes it."""
        return f"{self.scheme}://{self.credentials}{node}{self.rest}"


def is_replicated(url: str) -> bool:
    """Return whether a URL names servers of which one is the primary."""
    return scheme_of(url) in {"redis+replicas", "rediss+replicas"}


def servers_url(url: str) -> ServersUrl:
    """Return what the URL of a primary and its replicas says.

    Raises:
        ConfigurationError: It names no server, or a port that is none.
    """
    parts = split_url(url)
    before, mark, hosts = parts.netloc.rpartition("@")
    if parts.scheme == "unix" or not hosts:
        raise ConfigurationError(f"replicas are found by host and port, not by a unix socket: want {_EXAMPLE}")
    seeds = addresses_in(url, hosts)
    query = f"?{parts.query}" if parts.query else ""
    return ServersUrl(parts.scheme.partition("+")[0], before + mark, seeds, f"{parts.path}{query}")
