"""What is told of an entity or a feature to people: it does not matter to rows."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from featurestore.schema.values import is_unicode

MOST_BYTES: Mapping[str, int] = {"description": 2000, "owner": 200}
"""Longest text of each kind, in bytes of UTF-8."""

MOST_TAGS, LONGEST_TAG = 20, 64
"""Most tags, and the bytes of the longest."""

_MOST_TAGS_BYTES = 2000  # of their JSON

KINDS = ("description", "owner", "tags")
"""What notes there are."""


class Note(msgspec.Struct, frozen=True):
    """What is told of an entity or a feature.

    Attributes:
        description: What it is.
        owner: Who answers for it.
        tags: Words to find it by.
    """

    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, stored: Mapping[str, str]) -> "Note":
        """Return the note that options hold, by kind."""
        tags = msgspec.json.decode(stored.get("tags") or "[]", type=tuple[str, ...])
        return cls(stored.get("description", ""), stored.get("owner", ""), tags)

    def shown(self) -> dict[str, Any]:
        """Return what is told, as JSON."""
        told = {"description": self.description, "owner": self.owner, "tags": list(self.tags)}
        return {kind: value for kind, value in told.items() if value}


def wrong_note(kind: str, value: object) -> str | None:
    """Return what would be right where a value of a schema file is no note of that kind; None where it is one."""
    if kind == "tags":
        want = f"want a list of at most {MOST_TAGS} texts of at most {LONGEST_TAG} bytes, {_MOST_TAGS_BYTES} in all"
        if not isinstance(value, list | tuple) or len(value) > MOST_TAGS:
            return want
        fine = all(_is_text(tag, LONGEST_TAG) and tag for tag in value)
        return None if fine and len(msgspec.json.encode(value)) <= _MOST_TAGS_BYTES else want
    return None if _is_text(value, MOST_BYTES[kind]) else f"want text of at most {MOST_BYTES[kind]} bytes"


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and is_unicode(value) and len(value.encode()) <= most


def note_words(behind: str, holder: Any) -> Iterator[str]:
    """Yield option and value of each note that a definition has, as apply_schema takes them.

    Args:
        behind: What stands behind the option's name: a colon and the feature, or nothing for the entity.
        holder: The definition; a note that is None is left out, an empty one takes back what is stored.
    """
    for kind in KINDS:
        value = getattr(holder, kind)
        if value is not None:
            text = value if kind != "tags" else msgspec.json.encode(value).decode() if value else ""
            yield from (f"@{kind}{behind}", text)
