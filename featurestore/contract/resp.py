"""Commands as RESP2, the protocol of Redis."""

from collections.abc import Callable, Sequence
from typing import Any

from hiredis import pack_command

from featurestore.contract.scripts import Script

Word = str | bytes | int
"""One word of a command; text goes out as UTF-8."""

Reply = Any
"""A decoded RESP2 reply: bytes, int, None or a list of replies."""

encode_command: Callable[[tuple[Word, ...]], bytes] = pack_command  # type: ignore[assignment]
"""Words to RESP; the library's own annotation wants tuples of exactly one."""


def encode_call(script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> bytes:
    """Return EVALSHA with `keys` and `arguments` as RESP."""
    return encode_command(("EVALSHA", script.sha, len(keys), *keys, *arguments))
