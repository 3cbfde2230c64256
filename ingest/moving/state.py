"""How far a move is: what it counted, and what an interrupted one goes on from."""

from pathlib import Path
from typing import Any

import msgspec

from featurestore.errors import ConfigurationError

from ..files.kept import held, replace, unlock  # noqa: TID252 - this package has two names
from .walk import Place

_FORM = 2


class Copied(msgspec.Struct):
    """What became of the ids of one pass.

    Attributes:
        seen: Ids of the source.
        equal: Those that the target had already.
        created: Those that it had nothing of.
        replaced: Those stored in place of what it had.
        merged: Those stored in part, beside newer features that it had.
        newer: Those of which the target had nothing older.
        gone: Those of which nothing was left at the source when they were read.
        refused: Those whose key holds something else at the target.
    """

    seen: int = 0
    equal: int = 0
    created: int = 0
    replaced: int = 0
    merged: int = 0
    newer: int = 0
    gone: int = 0
    refused: int = 0


class Example(msgspec.Struct, frozen=True):
    """An entity that is not the same on both sides.

    Attributes:
        kind: In which way.
        entity: The entity's name.
        id: Its id.
        field: The first field that differs; None where one side has nothing.
        source: What the source has in it.
        target: What the target has in it.
    """

    kind: str
    entity: str
    id: str
    field: str | None = None
    source: Any = None
    target: Any = None


class Compared(msgspec.Struct):
    """What the target has of the source's ids, and beside them.

    Attributes:
        seen: Ids of the source that were compared.
        equal: Those that are the same.
        behind: Those of which the target has something older.
        newer: Those of which it has something newer.
        missing: Those that it does not know.
        different: Those of which it has something else of the same event time.
        extra: Ids that the target alone has.
        examples: Some of those that are not the same.
    """

    seen: int = 0
    equal: int = 0
    behind: int = 0
    newer: int = 0
    missing: int = 0
    different: int = 0
    extra: int = 0
    examples: list[Example] = []


class State(msgspec.Struct):
    """What a move needs to go on.

    Attributes:
        command: What is moved to where and what for, in words that only equal moves share.
        options: How often it is copied and how much is compared, likewise.
        stage: Index of the stage it is in.
        began_ms: When that stage began, by the source's clock.
        copied_ms: When the last pass that copied began; what was written since may be behind, and is not lost.
        place: How far the stage is.
        passes: What each pass over the source did.
        removed: Ids that the target alone had, and that were removed.
        compared: What the comparison found.
        share: Which share of the ids is compared.
    """

    command: str
    options: str = ""
    stage: int = 0
    began_ms: int = 0
    copied_ms: int = 0
    place: Place = msgspec.field(default_factory=Place)
    passes: list[Copied] = []
    removed: int = 0
    compared: Compared = msgspec.field(default_factory=Compared)
    share: float = 1.0
    form: int = _FORM


class StateFile:
    """The state on disk, held by one process at a time.

    Args:
        path: Where it is; its folder is made.

    Raises:
        ConfigurationError: Another process is at this move, or the folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = held(path, "move", str(path), "--state")

    def read(self, command: str) -> State | None:
        """Return the state of an interrupted move; None if there is none.

        Raises:
            ConfigurationError: It is that of another move, or no such file.
        """
        try:
            found = msgspec.json.decode(self.path.read_bytes(), type=State)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            text = f"{self.path} is not the state of a move ({error}): name another file by --state, or remove it"
            raise ConfigurationError(text) from error
        if found.form != _FORM or found.command != command:
            raise ConfigurationError(f"{self.path} is the state of another move: --restart begins anew")
        return found

    def write(self, state: State) -> None:
        """Put a state in place of the last one; return once it is on disk."""
        replace(self.path, msgspec.json.encode(state))

    def remove(self) -> None:
        """Remove the state: the move is done."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let other processes have it."""
        unlock(self.path, self._lock)
