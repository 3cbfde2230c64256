"""What the scripts promise, in plain Python: the oracle of the property tests."""

import math
import re
from collections.abc import Sequence

from featurestore.schema.types import Value

_FLOAT = re.compile(rb"-?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_INT = re.compile(rb"0|-?[1-9][0-9]*")
_BOOLS = {b"true": True, b"1": True, b"false": False, b"0": False}
FORGET, LEAVE = b"\xff", b"\xfe"


def parse(kind: str, text: bytes) -> Value | None:
    """Return the value that `text` stands for, None for none."""
    match kind:
        case "float":
            if not _FLOAT.fullmatch(text) or not math.isfinite(float(text)):
                return None
            return float(text) + 0.0  # there is no negative zero
        case "int":
            if not _INT.fullmatch(text) or len(text) > 20 or not -(2**63) <= int(text) < 2**63:
                return None
            return int(text)
        case "bool":
            return _BOOLS.get(text)
        case _:
            try:
                return text.decode()
            except UnicodeDecodeError:
                return None


class Model:
    """A store of one entity: every feature has a value and a time, or a time alone once it was removed."""

    def __init__(self, schema: dict[str, str]) -> None:
        self.schema = schema
        self.rows: dict[str, dict[str, tuple[Value | None, int]]] = {}
        self.floors: dict[str, int] = {}
        self.created: dict[str, int] = {}

    def upsert(
        self, names: Sequence[str], rows: Sequence[tuple[str, Sequence[bytes]]], time: int, *, overwrite: bool = False
    ) -> tuple[int, int, list[tuple[int, str]], str]:
        """Return how many rows were written and skipped, position and code of those rejected, and the verdicts."""
        rejected, verdicts = [], ""
        for position, (entity_id, texts) in enumerate(rows):
            values = {name: parse(self.schema[name], text) for name, text in zip(names, texts, strict=True)}
            marks = dict(zip(names, texts, strict=True))
            if not 0 < len(entity_id.encode()) <= 256:
                rejected.append((position, "BADID"))
            elif any(value is None and marks[name] not in (FORGET, LEAVE) for name, value in values.items()):
                rejected.append((position, "BADTYPE"))
            else:
                given = {
                    name: None if marks[name] == FORGET else value
                    for name, value in values.items()
                    if marks[name] != LEAVE
                }
                verdicts += self._write(entity_id, given, time, overwrite=overwrite)
                continue
            verdicts += "R"
        skipped = verdicts.count("S")
        return len(rows) - len(rejected) - skipped, skipped, rejected, verdicts

    def _write(self, entity_id: str, given: dict[str, Value | None], time: int, *, overwrite: bool) -> str:
        row, floor = self.rows.get(entity_id), self.floors.get(entity_id, -1)
        if row is None:
            taken = {name: value for name, value in given.items() if overwrite or floor < time}
            if not overwrite and time <= floor:
                return "S"
        else:
            taken = {
                name: value
                for name, value in given.items()
                if overwrite or (row.get(name, (None, floor))[1] <= time and floor < time)
            }
            if given and not taken:
                return "S"
        before = row or {}
        changed = any(before.get(name) != (value, time) for name, value in taken.items())
        self.rows.setdefault(entity_id, {}).update({name: (value, time) for name, value in taken.items()})
        self.created.setdefault(entity_id, time)
        if row is not None and not changed and not overwrite:
            return "D"
        if len(taken) < len(given):
            return "P"
        return "C" if row is None else "A"

    def get(self, entity_id: str, names: Sequence[str]) -> dict[str, Value | None] | None:
        row = self.rows.get(entity_id)
        return None if row is None else {name: row.get(name, (None, 0))[0] for name in names}

    def delete(self, entity_id: str, time: int) -> bool:
        row = self.rows.get(entity_id)
        if row is None:
            self.floors[entity_id] = max(time, self.floors.get(entity_id, -1))
            return False
        if self._newest(entity_id) > time:
            return False
        self.floors[entity_id] = time
        del self.rows[entity_id], self.created[entity_id]
        return True

    def lose_row(self, entity_id: str) -> bool:
        """Forget all times but the newest; return whether the entity is known."""
        if entity_id not in self.rows:
            return False
        newest = self.created[entity_id] = self._newest(entity_id)
        kept = {name: value for name, (value, _) in self.rows[entity_id].items() if value is not None}
        self.rows[entity_id] = {name: (value, newest) for name, value in kept.items()}
        self.floors.pop(entity_id, None)
        return True

    def _newest(self, entity_id: str) -> int:
        return max((time for _, time in self.rows[entity_id].values()), default=self.created[entity_id])
