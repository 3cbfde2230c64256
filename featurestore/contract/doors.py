"""The two doors to the scripts: EVALSHA, for which they are loaded one by one, and FCALL, for which they are a library.

Calls are encoded as EVALSHA, and a transport that goes by FCALL changes their heads. Everything behind the head is the
same: the keys, the arguments, the reply.
"""

from collections.abc import Callable, Mapping, Sequence

from featurestore.contract import replies
from featurestore.contract.library import LIBRARY, function_library
from featurestore.contract.resp import encode_command
from featurestore.contract.scripts import SCRIPTS
from featurestore.errors import FeatureStoreError, RedisError
from featurestore.settings import CallBy

_UNKNOWN = ("NOSCRIPT", "ERR Function not found")


class Door:
    """How a server is asked to run the scripts.

    Args:
        loading: The commands that load all scripts, as words. They are made when they are first needed.
        loaded: For each of them, what is replied when it was obeyed.
        converted: What makes a call through this door of a call by EVALSHA; None where it is one.

    Attributes:
        converted: See there.
        loaded: Checks the replies to `load_commands`.
    """

    __slots__ = ("_loading", "converted", "loaded")

    def __init__(
        self,
        loading: Callable[[], Sequence[tuple[str, ...]]],
        loaded: Sequence[bytes],
        converted: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._loading, self.converted = loading, converted
        self.loaded: replies.Expected = _Loaded(loaded)

    def load_commands(self) -> list[bytes]:
        """Return the commands, as RESP, that put every script onto a server."""
        return [encode_command(words) for words in self._loading()]


class _Loaded:
    """The replies to `load_commands`: the name of what was loaded, or why it was not."""

    name = "LOAD"

    def __init__(self, names: Sequence[bytes]) -> None:
        self._names = names

    def misfit(self, loaded: Sequence[object]) -> str | None:
        """Return what is wrong with the replies, None where nothing is."""
        for name, reply in zip(self._names, loaded, strict=True):
            if not isinstance(reply, FeatureStoreError) and reply != name:
                return replies.unfit("a command that loads scripts", reply)
        return None


def _head(*words: str) -> bytes:
    """Return the words that a call starts with, without the count that stands before them."""
    return encode_command(words).partition(b"\r\n")[2]


_FUNCTION_HEADS = {_head("EVALSHA", script.sha): _head("FCALL", script.function) for script in SCRIPTS}
"""The first two words of a call by EVALSHA → those of the same call by FCALL."""

_HEAD_BYTES = len(next(iter(_FUNCTION_HEADS)))


def as_function_call(encoded: bytes) -> bytes:
    """Return an encoded EVALSHA of one of the scripts as FCALL; any other command as it is."""
    start = encoded.find(b"\n") + 1
    head = _FUNCTION_HEADS.get(encoded[start : start + _HEAD_BYTES])
    return encoded if head is None else b"%b%b%b" % (encoded[:start], head, encoded[start + _HEAD_BYTES :])


BY_EVALSHA = Door(
    lambda: [("SCRIPT", "LOAD", script.source) for script in SCRIPTS], [script.sha.encode() for script in SCRIPTS]
)
BY_FCALL = Door(lambda: [("FUNCTION", "LOAD", "REPLACE", function_library())], [LIBRARY.encode()], as_function_call)

DOORS: Mapping[CallBy, Door] = {"scripts": BY_EVALSHA, "functions": BY_FCALL}
"""The setting FEATURESTORE_CALL → what it stands for."""


def is_unknown(reply: object) -> bool:
    """Return whether a server does not know what was called: it has lost the scripts, or never had them.

    The call did not take place.
    """
    return isinstance(reply, RedisError) and str(reply).startswith(_UNKNOWN)
