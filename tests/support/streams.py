"""Streams for tests: a schema, entries of every kind, and what the store holds once each was written once."""

import json
import random
from collections.abc import Sequence
from typing import Any

from featurestore import Definition, FeatureStore

FEATURES = {
    "age": "float", "name": "string", "vip": "bool", "logins": "int", "often": "count(999999d)",
    "spent": "sum(amount, 999999d)",
}  # fmt: skip
"""With windows that hold whatever is not centuries old."""

WHOLE = {"age": "float", "name": "string", "vip": "bool", "logins": "int"}
"""Without windows: rows that give all of it are written whole."""

T = 1_700_000_000_000


def declare(store: FeatureStore, features: dict[str, str] | None = None) -> None:
    store.apply(Definition(features=dict(features or FEATURES)))


def mixed_entries(count: int, users: int, seed: int, *, timed: bool) -> list[dict[str, str]]:
    """Entries of every kind for some users; each has a later event time than those before it where `timed`."""
    draw, entries = random.Random(seed), []
    for number in range(count):
        user_id, kind = f"u{draw.randrange(users)}", draw.randrange(6)
        entry = {"user_id": user_id}
        if kind == 0:
            entry["incr"] = f'{{"logins": {draw.randrange(1, 9)}}}'
        elif kind == 1:
            entry["event"] = f'{{"amount": {draw.randrange(1, 9)}}}'
        elif kind == 2:
            entry["age"] = str(number)
        else:
            entry |= {"age": str(number), "name": f"name{number}", "vip": draw.choice(("true", "false"))}
        if timed:
            entry["event_time"] = str(T + number)
        entries.append(entry)
    return entries


def expected_of(entries: Sequence[dict[str, str]]) -> dict[str, dict[str, Any]]:
    """Return the features of each user once every entry was written once, in order."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        user = found.setdefault(
            entry["user_id"], {"age": None, "name": None, "vip": None, "logins": None, "often": 0, "spent": 0.0}
        )
        if "incr" in entry:
            user["logins"] = (user["logins"] or 0) + int(entry["incr"].split(":")[1].strip(" }"))
        elif "event" in entry:
            user["often"] += 1
            user["spent"] += int(entry["event"].split(":")[1].strip(" }"))
        else:
            user["age"] = float(entry["age"])
            user |= {name: entry[name] for name in ("name",) if name in entry}
            user |= {"vip": entry["vip"] == "true"} if "vip" in entry else {}
    return found


def stored_of(store: FeatureStore, users: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    return dict(zip(users, store.get_many(users), strict=True))


_ADD = """
local ids = {}
for _, fields in ipairs(cjson.decode(ARGV[1])) do ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', unpack(fields)) end
return ids
"""


def add(store: FeatureStore, stream: str, entries: Sequence[dict[str, str]]) -> list[str]:
    """Add entries to a stream, many in the same ms; return their ids."""
    ids = []
    for first in range(0, len(entries), 500):
        words = [[word for pair in entry.items() for word in pair] for entry in entries[first : first + 500]]
        ids += store.transport.command("EVAL", _ADD, 1, stream, json.dumps(words))
    return [each.decode() for each in ids]


def dead_letters(store: FeatureStore, stream: str) -> list[dict[str, str]]:
    letters = store.transport.command("XRANGE", f"{stream}.dead", "-", "+")
    texts = [[word.decode(errors="replace") for word in fields] for _, fields in letters]
    return [dict(zip(words[::2], words[1::2], strict=True)) for words in texts]


def pending(store: FeatureStore, stream: str, group: str = "featurestore") -> int:
    return int(store.transport.command("XPENDING", stream, group)[0])
