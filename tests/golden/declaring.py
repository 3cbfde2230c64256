"""How cases are declared: a case is a name and the calls it makes; what is answered is recorded by make.py.

`T` is the event time of most rows, in November 2023: long ago on any server, so that no reply depends on the clock.
"""

import hashlib
import json
import struct
from typing import Any, NamedTuple

from golden.forms import Json, as_word

Word = str | bytes | int

T = 1_700_000_000_000
LONG_AGO = 50_000_000_000
"""No more than the age of `T`, in ms: less than two years."""
NEVER = 9_999_999_999_999
"""The longest time that an option takes, in ms: 317 years."""
FORGET, LEAVE = b"\xff", b"\xfe"


class Step(NamedTuple):
    """A call of a script, or a plain command.

    `reply` is there where it is not recorded as it comes. `clocked` are the places in the reply, each a path of
    positions, of numbers that depend on the clock: they are only known to be no less than what is given.
    """

    script: str | None
    keys: tuple[Word, ...]
    args: tuple[Word, ...]
    reply: Json = None
    compared: bool = True
    clocked: tuple[tuple[tuple[int, ...], int], ...] = ()

    def as_json(self) -> dict[str, Json]:
        """Return the step without its reply."""
        if self.script is None:
            return {"command": [as_word(word) for word in self.args]}
        return {
            "script": self.script,
            "keys": [as_word(key) for key in self.keys],
            "args": [as_word(word) for word in self.args],
        }


class Case(NamedTuple):
    """A name that is a sentence, and the steps, which start on an empty database."""

    name: str
    steps: tuple[Step, ...]


def case(name: str, *steps: Step) -> Case:
    """Declare a case."""
    return Case(name, steps)


def call(script: str, keys: Any, *args: Word) -> Step:
    """Call a script with just these keys and arguments."""
    return Step(script, tuple(keys), args)


def store(*words: Word) -> Step:
    """Store something beside the scripts, by a plain command whose reply does not matter."""
    return Step(None, (), words, compared=False)


def look(*words: Word) -> Step:
    """Look at what is stored, by a plain command."""
    return Step(None, (), words)


def fails(step: Step, code: str) -> Step:
    """Say that the reply is an error of Redis's own, whose words are the server's."""
    return step._replace(reply={"error_code": code})


def clocked(step: Step, *places: tuple[int, ...], least: int = LONG_AGO) -> Step:
    """Say which numbers in the reply depend on the clock."""
    return step._replace(clocked=(*step.clocked, *((place, least) for place in places)))


def hash_key(entity_id: Word, entity: str = "user") -> Word:
    """Return the key of an entity's features."""
    if isinstance(entity_id, bytes):
        return f"{entity}:".encode() + entity_id + b":features"
    return f"{entity}:{entity_id}:features"


def keys(*entity_ids: Word, entity: str = "user") -> list[Word]:
    """Return the keys of a call about these ids."""
    return [f"all_{entity}s", f"{entity}:schema", *(hash_key(each, entity) for each in entity_ids)]


def schema(*words: Word, entity: str = "user") -> Step:
    """Declare features: name, type …"""
    return call("apply_schema", [f"{entity}:schema"], *words)


def upsert(names: str, *rows: Any, time: Word = T, entity: str = "user") -> Step:
    """Write rows, each a tuple of its id and its values; `names` are separated by blanks."""
    words = names.split()
    given = [word for row in rows for word in row]
    return call("upsert_features", keys(*(row[0] for row in rows), entity=entity), time, len(words), *words, *given)


def get(entity_id: Word, *words: Word, entity: str = "user") -> Step:
    """Read one entity."""
    return call("get_features", keys(entity_id, entity=entity), entity_id, *words)


def get_batch(words: str, *entity_ids: Word, entity: str = "user") -> Step:
    """Read several; the words are separated by blanks."""
    named = words.split()
    return call("get_features_batch", keys(*entity_ids, entity=entity), len(named), *named, *entity_ids)


def delete(entity_id: Word, *words: Word) -> Step:
    """Delete an entity."""
    return call("delete_entity", keys(entity_id), entity_id, *words)


def increment(entity_id: Word, *words: Word, time: Word = T) -> Step:
    """Add to numbers: name, amount …"""
    return call("increment_features", keys(entity_id), entity_id, time, *words)


def record(fields: str, *events: Any, time: Word = T) -> Step:
    """Record events, each a tuple of its id and its numbers; the fields are separated by blanks."""
    words = fields.split()
    given = [word for event in events for word in event]
    return call("record_events", keys(*(event[0] for event in events)), time, len(words), *words, *given)


def count(what: str, names: str, *entries: Any, time: Word = T, source: str = "clicks") -> Step:
    """Count entries of a stream, each a tuple of its entity's id and a word for each name, separated by blanks."""
    words = [what, *names.split()]
    given = [word for entry in entries for word in entry]
    members, stored, *hashes = keys(*(entry[0] for entry in entries))
    counted = [members, stored, f"user:{source}:counted", *hashes]
    return call("count_entries", counted, time, len(words), *words, *given)


def replace(layout: str, names: str, *rows: Any, time: Word = T, entity: str = "item") -> Step:
    """Write whole rows, each a tuple of its id, perhaps its time, its packed row, and its texts."""
    words = names.split()
    packed = strings(*(word for row in rows for word in row))
    row_keys = keys(*(row[0] for row in rows), entity=entity)
    return call("replace_rows", row_keys, layout, time, len(words), *words, packed)


def layout_of(*words: str, rules: tuple[str, ...] = ()) -> str:
    """Return the layout of a schema of these features: name, type …; and rules, sorted: word, value …"""
    text = "".join(json.dumps(each, separators=(",", ":")) for each in (words, rules) if each)
    return "@" + hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:7]


def strings(*words: Word) -> bytes:
    """Return a msgpack array of strings, which may be any bytes; false stays what it is."""
    return b"\xdd" + len(words).to_bytes(4) + b"".join(map(_string, words))


def _string(word: Word) -> bytes:
    if word is False:
        return b"\xc2"
    data = word if isinstance(word, bytes) else str(word).encode()
    size = len(data)
    if size < 32:
        return bytes([0xA0 | size]) + data
    return (b"\xd9" + size.to_bytes(1) if size < 256 else b"\xda" + size.to_bytes(2)) + data


def floats(*numbers: float) -> bytes:
    """Return a vector as it is sent and stored: float32, little-endian."""
    return struct.pack(f"<{len(numbers)}f", *numbers)
