"""Commands to the Redis that holds the streams, several in one write."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from featurestore.contract.resp import Reply, Word, encode_command
from featurestore.errors import FeatureStoreError, error_from_reply
from featurestore.transport.dial import TROUBLE, failure_of, open_pool, reply_text

Command = tuple[Word, ...]


class RedisLink:
    """One connection, made again where it broke.

    Args:
        url: Redis's address.
        timeout: Seconds that each reply may take.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._pool = open_pool(url, timeout=timeout, connect_timeout=timeout, max_connections=1)

    def ask(self, *commands: Command) -> list[Reply]:
        """Send commands in one write and return their replies; error replies stand in their places.

        Raises:
            UnavailableError: Redis cannot be reached, or does not answer. Whether the commands took place is unknown.
        """
        try:
            connection = self._pool.take()
            try:
                connection.send(b"".join(map(encode_command, commands)))
                return [connection.read() for _ in commands]
            except BaseException:
                connection.close()
                raise
            finally:
                connection.give_back()
        except TROUBLE as error:
            raise failure_of(error).error from error

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
        self._pool.close()


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
