"""Scripts called over RESP3. The package itself speaks RESP2; other callers speak what their client does."""

from typing import Any

from featurestore import SyncTransport
from featurestore.contract.resp import Reply, Word

CALLS = {"EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO"}
"""The commands that call a script."""


class Resp3Transport(SyncTransport):
    """A transport whose calls of scripts go over RESP3, and are held to the same shapes of replies.

    Plain commands go over RESP2: by them the tests look at what is stored, and their replies differ by protocol.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._pool._pool.connection_kwargs["protocol"] = 3
        self._plain = SyncTransport(url, **options)

    def command(self, *words: Word, writes: bool = False) -> Reply:
        if words[0] in CALLS:
            return super().command(*words, writes=writes)
        return self._plain.command(*words, writes=writes)

    def close(self) -> None:
        super().close()
        self._plain.close()
