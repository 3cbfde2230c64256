"""A primary that Sentinels watch: the URL that names them, what they are asked, and what they tell; without I/O.

The primary and its replicas are a topology of one shard, so that the transports to clusters serve them. Its keys are
those of a single Redis.
"""

import random
from collections import Counter
from collections.abc import Generator, Mapping
from time import monotonic
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from featurestore.contract.resp import Reply, encode_command
from featurestore.errors import ConfigurationError, FeatureStoreError, UnavailableError
from featurestore.transport.addresses import address, addresses_in, joined, scheme_of, split_url

_EXAMPLE = "redis+sentinel://host:port,host:port,host:port/name"
_SENTINEL_PORT = 26_379
_OWN_OPTIONS = ("sentinel_username", "sentinel_password")
_HOLD_S = 1.5
_ABORTED = ("-failover-abort",)
EVENTS = ("+switch-master", "+selected-slave", "+promoted-slave", "-failover-abort-no-good-slave",
          "-failover-abort-slave-timeout", "-failover-abort-not-elected")  # fmt: skip
"""What is heard of all Sentinels."""

SUBSCRIBE = encode_command(("SUBSCRIBE", *EVENTS))


class SentinelUrl(msgspec.Struct, frozen=True):
    """What a `redis+sentinel://` or `rediss+sentinel://` URL says.

    Attributes:
        scheme: `redis` or `rediss`, which all are spoken to by.
        credentials: The servers' user and password as they stand in the URL, with the `@` behind; empty without any.
        seeds: The Sentinels' addresses.
        name: What they call the primary.
        database: The servers' database number.
        options: What stands behind the `?`, with it, for every connection.
        own_credentials: The Sentinels' user and password, likewise.
    """

    scheme: str
    credentials: str
    seeds: tuple[str, ...]
    name: str
    database: str
    options: str
    own_credentials: str

    def of_node(self, node: str) -> str:
        """Return the URL of a server, as redis-py takes it."""
        return f"{self.scheme}://{self.credentials}{node}/{self.database}{self.options}"

    def of_sentinel(self, sentinel: str) -> str:
        """Return the URL of a Sentinel."""
        return f"{self.scheme}://{self.own_credentials}{sentinel}{self.options}"


def is_sentinel(url: str) -> bool:
    """Return whether a URL names Sentinels."""
    return scheme_of(url) in {"redis+sentinel", "rediss+sentinel"}


def sentinel_url(url: str) -> SentinelUrl:
    """Return what the URL of Sentinels says.

    Raises:
        ConfigurationError: It names no Sentinel or no primary, or has a port or a database that is none.
    """
    parts = split_url(url)
    before, mark, hosts = parts.netloc.rpartition("@")
    if not hosts:
        raise ConfigurationError(f"the URL names no Sentinel: want {_EXAMPLE}")
    name, _, database = parts.path.removeprefix("/").partition("/")
    if not name:
        raise ConfigurationError(f"the URL does not say what the Sentinels call the primary: want {_EXAMPLE}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    database = database or options.pop("db", "0")
    if not (database.isascii() and database.isdecimal()):
        raise ConfigurationError(f"{database!r} is no database number: want {_EXAMPLE}/0")
    user, password = (quote(options.pop(each, ""), safe="") for each in _OWN_OPTIONS)
    seeds = addresses_in(url, hosts, _with_port)
    rest = f"?{urlencode(options)}" if options else ""
    own = f"{user}:{password}@" if user or password else ""
    return SentinelUrl(parts.scheme.partition("+")[0], before + mark, seeds, name, database, rest, own)


def _with_port(text: str) -> str:
    has_port = ":" in text.rpartition("]")[2]
    return address(text if has_port else f"{text}:{_SENTINEL_PORT}")


class Question(msgspec.Struct, frozen=True):
    """What a Sentinel is asked.

    Attributes:
        sentinel: Its address.
        words: The command.
    """

    sentinel: str
    words: tuple[str, ...]


class Found(msgspec.Struct, frozen=True):
    """What Sentinels tell of the servers.

    Attributes:
        primary: Its address.
        replicas: Theirs, without those that are down.
    """

    primary: str
    replicas: tuple[str, ...]


Asking = Generator[Question, Reply | FeatureStoreError, Found]
"""Yields questions, is sent the replies, and returns what was found."""


def ask(url: SentinelUrl, reached_at: Mapping[str, str], heard: str | None) -> Asking:
    """Ask the Sentinels for the primary, in random order, until most of them agree or all were asked.

    One that is cut off from the others may tell of a primary that is none any more.

    Args:
        url: Who is asked, and for what.
        reached_at: Where servers are reached whose addresses are others from here.
        heard: The primary that `+switch-master` told of last, which decides where as many tell one as another.

    Raises:
        UnavailableError: No Sentinel tells of the primary.
    """
    told: Counter[str] = Counter()
    by: dict[str, str] = {}
    trouble = UnavailableError("no Sentinel can be reached")
    most = len(url.seeds) // 2 + 1
    for sentinel in random.sample(url.seeds, len(url.seeds)):
        reply = yield Question(sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.name))
        try:
            primary = _primary_of(reply, sentinel, url.name, reached_at)
        except FeatureStoreError as error:
            trouble = UnavailableError(f"{error}")
            continue
        told[primary] += 1
        by[primary] = sentinel
        if told[primary] >= most:
            break
    if not told:
        raise trouble
    primary = max(told, key=lambda each: (told[each], each == heard))
    replicas = yield Question(by[primary], ("SENTINEL", "REPLICAS", url.name))
    return Found(primary, _replicas_of(replicas, primary, reached_at))


def _primary_of(reply: Any, sentinel: str, name: str, reached_at: Mapping[str, str]) -> str:
    if isinstance(reply, FeatureStoreError):
        hint = ": it is a server, no Sentinel" if "unknown command" in str(reply).lower() else ""
        raise UnavailableError(f"Sentinel {sentinel}{hint}: {reply}")
    if reply is None:
        raise UnavailableError(f"Sentinel {sentinel} watches no primary called {name!r}")
    try:
        host, port = reply
        return _reached(host, port, reached_at)
    except (TypeError, ValueError, AttributeError) as error:
        raise UnavailableError(f"Sentinel {sentinel} sent what is no address: {str(reply)[:80]}") from error


def _replicas_of(reply: Any, primary: str, reached_at: Mapping[str, str]) -> tuple[str, ...]:
    if not isinstance(reply, list):
        return ()
    found = []
    for each in reply:
        told = dict(zip(each[::2], each[1::2], strict=True))
        flags = told.get(b"flags", b"").split(b",")
        if b"s_down" not in flags and b"o_down" not in flags and b"disconnected" not in flags:
            found.append(_reached(told[b"ip"], told[b"port"], reached_at))
    return tuple(sorted(each for each in set(found) if each != primary))


def _reached(host: bytes, port: bytes, reached_at: Mapping[str, str]) -> str:
    told = joined(host.decode(), int(port))
    return reached_at.get(told, told)


class Event(msgspec.Struct, frozen=True):
    """What a Sentinel tells without being asked.

    Attributes:
        kind: `switched`: there is another primary. `selected`: a replica is about to take over. `aborted`: it is not.
        primary: The new primary, or the one that is about to be; empty where there is none.
    """

    kind: str
    primary: str = ""


def event_of(message: Any, name: str, reached_at: Mapping[str, str]) -> Event | None:  # noqa: PLR0911 - one for each
    """Return what a message of a subscription says of the primary of that name; None if nothing.

    Args:
        message: `message`, channel, text.
        name: The primary's.
        reached_at: See `ask`.
    """
    if not isinstance(message, list) or len(message) != 3 or message[0] != b"message":  # noqa: PLR2004 - see above
        return None
    channel, words = message[1].decode(), message[2].decode().split()
    try:
        if channel == "+switch-master":
            of, _host, _port, host, port = words
            return Event("switched", _reached(host.encode(), port.encode(), reached_at)) if of == name else None
        if name not in words:
            return None
        if channel in {"+selected-slave", "+promoted-slave"} and words[words.index("@") + 1] == name:
            kind = "selected" if channel == "+selected-slave" else "switched"
            return Event(kind, _reached(words[2].encode(), words[3].encode(), reached_at))
        if channel.startswith(_ABORTED) and words[1] == name:
            return Event("aborted")
    except (ValueError, IndexError):
        return None
    return None


class Hold:
    """Writes are held back while a replica is about to take over: what the old primary acknowledged then would be lost.

    Sentinels name the replica about 100 ms before they promote it, and tell that they did up to a second later.

    Attributes:
        successor: The replica's address; None where nothing is held back.
    """

    def __init__(self) -> None:
        self.successor: str | None = None
        self._until = 0.0

    def begin(self, successor: str) -> None:
        """Hold writes back, for a while at most."""
        self.successor, self._until = successor, monotonic() + _HOLD_S

    def end(self) -> None:
        """Let writes go on."""
        self.successor = None

    @property
    def lasts(self) -> bool:
        """Whether writes are held back."""
        if self.successor is not None and monotonic() >= self._until:
            self.successor = None
        return self.successor is not None
