"""Commands to the Redis that holds the streams, several in one write."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from featurestore.contract.resp import Reply, Word, encode_command
from featurestore.errors import ClusterNodeError, FeatureStoreError, UnavailableError, error_from_reply
from featurestore.transport.addresses import address_map
from featurestore.transport.cluster import Inquiry, Target
from featurestore.transport.dial import TROUBLE, Pool, failure_of, open_pool, reply_text
from featurestore.transport.replicas import Reading
from featurestore.transport.sources import cluster_of, names_several

Command = tuple[Word, ...]

_ELSEWHERE = ("MOVED ", "ASK ", "CLUSTERDOWN ", "TRYAGAIN ", "READONLY ", "MASTERDOWN ", "UNBLOCKED ")
"""How errors start that say that another server is to be asked, now or soon. The command was not executed."""


class RedisLink:
    """One connection, made again where it broke.

    In a cluster it leads to the primary that has one slot, and behind Sentinels, or where replicas are told, to the
    primary. It looks for that again after each failure, as the transports do.

    Args:
        url: Redis's address.
        timeout: Seconds that each reply may take.
        reached_at: FEATURESTORE_ADDRESS_MAP: where nodes of a cluster are reached whose addresses are others from here.

    Attributes:
        clustered: Whether it leads to a cluster, where `keep_to` comes first.
    """

    def __init__(self, url: str, timeout: float, *, reached_at: str = "") -> None:
        self._timeout, self._slot = timeout, 0
        several = names_several(url)
        self._servers = cluster_of(url, address_map(reached_at), Reading()) if several else None
        self.clustered = self._servers is not None and self._servers.clustered
        self._pool: Pool | None = None if several else self._opened(url)

    def keep_to(self, slot: int) -> None:
        """Lead to the primary that has this slot of the cluster; all keys of all commands have to be in it."""
        self._slot = slot

    def ask(self, *commands: Command) -> list[Reply]:
        """Send commands in one write and return their replies; error replies stand in their places.

        Raises:
            UnavailableError: Redis cannot be reached, or does not answer: whether the commands took place is unknown.
                Or another server has to be asked for one of them, which did not take place then; others may have.
        """
        pool = self._pool or self._found()
        try:
            replies = _exchanged(pool, b"".join(map(encode_command, commands)), len(commands))
        except TROUBLE as error:
            self._lose()
            raise failure_of(error).error from error
        if self._servers is not None:
            away = next((each for each in replies if isinstance(each, Exception) and _is_elsewhere(each)), None)
            if away is not None:
                self._lose()
                who = "another node of the cluster" if self.clustered else "another server"
                raise UnavailableError(f"{who} has the stream, or will have it: {_reply_of(away)}")
        return replies

    def command(self, *words: Word) -> Reply:
        """Run one command; an error reply is raised."""
        (reply,) = self.ask(words)
        if isinstance(reply, FeatureStoreError):
            raise reply
        return reply

    def transact(self, commands: Sequence[Command]) -> None:
        """Run commands, all or none.

        Raises:
            FeatureStoreError: One of them was refused.
        """
        replies = self.ask(("MULTI",), *commands, ("EXEC",))
        for error in _errors(replies):  # the first says why; EXEC's own only says that there was one
            raise error

    def close(self) -> None:
        """Close the connection."""
        if self._pool is not None:
            self._pool.close()

    def _opened(self, url: str) -> Pool:
        return open_pool(url, timeout=self._timeout, connect_timeout=self._timeout, max_connections=1)

    def _lose(self) -> None:
        """Where there are several servers, look for the right one again before the next command."""
        if self._servers is not None and self._pool is not None:
            self._pool.close()
            self._pool = None

    def _found(self) -> Pool:
        """Return a connection to the primary that has the slot, as the servers say that are asked now."""
        servers = self._servers
        assert servers is not None  # noqa: S101 - without several there is a connection
        failed = untold = UnavailableError("no server tells who has the stream")
        servers.trouble = untold
        steps, reply = servers.asking(), None
        try:
            while True:
                reply = self._asked(steps.send(reply))
        except StopIteration:
            failed = servers.trouble
        if servers.topology is None or failed is not untold:
            raise type(failed)(*failed.args)
        shard = servers.topology.shard(self._slot)
        if shard is None:
            raise UnavailableError(f"no node of the cluster has slot {self._slot}")
        self._pool = self._opened(servers.url_of(Target(shard.primary)))
        return self._pool

    def _asked(self, inquiry: Inquiry) -> Reply:
        """Return what a server replies to a question, or the error that is met."""
        pool = self._opened(self._servers.url_of(inquiry.target)) if self._servers else self._pool
        assert pool is not None  # noqa: S101 - likewise
        try:
            (reply,) = _exchanged(pool, encode_command(inquiry.words), 1)
        except TROUBLE as error:
            return failure_of(error).error
        finally:
            pool.close()
        return reply


def _exchanged(pool: Pool, encoded: bytes, count: int) -> list[Reply]:
    """Send commands and return so many replies; the connection is closed where that fails."""
    connection = pool.take()
    try:
        connection.send(encoded)
        return [connection.read() for _ in range(count)]
    except BaseException:
        connection.close()
        raise
    finally:
        connection.give_back()


def _is_elsewhere(error: Exception) -> bool:
    return bool(error.args) and str(error.args[0]).startswith(_ELSEWHERE)  # as it came: some errors say more


def _reply_of(error: Exception) -> str:
    """Return what Redis replied; of a redirect without the advice for those who do not follow it."""
    text = str(error)
    return text.rpartition("(")[2].rstrip(")") if isinstance(error, ClusterNodeError) else text


def _errors(replies: Sequence[Any]) -> Iterator[FeatureStoreError]:
    for reply in replies:
        if isinstance(reply, FeatureStoreError):
            yield reply
    for reply in replies[-1] if isinstance(replies[-1], list) else ():
        if isinstance(reply, Exception):  # of redis-py, as errors inside of a reply are
            yield error_from_reply(reply_text(cast("Any", reply)))


def mapping_of(flat: Sequence[Any]) -> dict[bytes, Any]:
    """Return a reply of names and values in turn by name."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
