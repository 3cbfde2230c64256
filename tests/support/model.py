"""What the scripts promise, in plain Python: the oracle of the property tests."""

import math
import re
from collections.abc import Sequence

from featurestore.schema import Value

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
    """A store of one entity."""

    def __init__(self, schema: dict[str, str]) -> None:
        self.schema = schema
        self.rows: dict[str, dict[str, Value]] = {}
        self.times: dict[str, int] = {}

    def upsert(
        self, names: Sequence[str], rows: Sequence[tuple[str, Sequence[bytes]]], time: int
    ) -> tuple[int, int, list[tuple[int, str]]]:
        """Return how many rows were written and skipped, and position and code of those rejected."""
        written, skipped, rejected = 0, 0, []
        for position, (entity_id, texts) in enumerate(rows):
            values = {name: parse(self.schema[name], text) for name, text in zip(names, texts, strict=True)}
            marks = dict(zip(names, texts, strict=True))
            if not 0 < len(entity_id.encode()) <= 256:
                rejected.append((position, "BADID"))
            elif any(value is None and marks[name] not in (FORGET, LEAVE) for name, value in values.items()):
                rejected.append((position, "BADTYPE"))
            elif self.times.get(entity_id, 0) > time:
                skipped += 1
            else:
                row = self.rows.setdefault(entity_id, {})
                self.times[entity_id] = time
                written += 1
                for name, value in values.items():
                    if marks[name] == FORGET:
                        row.pop(name, None)
                    elif value is not None and marks[name] != LEAVE:
                        row[name] = value
        return written, skipped, rejected

    def get(self, entity_id: str, names: Sequence[str]) -> dict[str, Value | None] | None:
        row = self.rows.get(entity_id)
        return None if row is None else {name: row.get(name) for name in names}

    def delete(self, entity_id: str) -> bool:
        self.times.pop(entity_id, None)
        return self.rows.pop(entity_id, None) is not None
