"""The line of a key in a TOML text, which tomllib does not tell."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

_BEGINS = re.compile(r"""\s*(\[|[\w"'-].*=)""")
"""What a line looks like that begins a table or a value. One within a value may look so, too."""


def line_of(text: str, where: Sequence[str]) -> int | None:
    """Return the line, from 1, where the value of a key starts in a TOML text that tomllib can read.

    The text is cut in front of lines, and the parser says from which cut on the key is there. So keys are found however
    they are spelled: in tables, dotted, in quotes, inline.

    Args:
        text: The whole file.
        where: The keys that lead to the value. Behind the key of a list may stand one of its texts: then the line is
            that of the text, if it stands there as it is.

    Returns:
        None where the key is not there.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if not where or not _has(_read(lines, len(lines)), where):
        return None
    before, behind = 0, len(lines)  # lines without the key, and with it
    cuts = [cut for cut in range(1, len(lines)) if _BEGINS.match(lines[cut])]
    while cuts:
        cut = _near_the_middle(lines, cuts)
        if cut is None:
            break
        if _has(_read(lines, cut), where):
            behind, cuts = cut, [each for each in cuts if each < cut]
        else:
            before, cuts = cut, [each for each in cuts if each > cut]
    quoted = (f'"{where[-1]}"', f"'{where[-1]}'")
    found = [number for number in range(before, behind) if any(each in lines[number] for each in quoted)]
    begins = [number for number in range(before, behind) if _BEGINS.match(lines[number])]
    return [*found, *begins, before][0] + 1


def _read(lines: Sequence[str], count: int) -> Mapping[str, Any] | None:
    """Return what the first lines say; None where they end within a value."""
    try:
        return tomllib.loads("\n".join(lines[:count]))
    except (ValueError, RecursionError):
        return None


def _near_the_middle(lines: Sequence[str], cuts: Sequence[int]) -> int | None:
    """Return the one nearest to the middle of the cuts in front of which the text can be read."""
    middle = len(cuts) / 2
    ways = sorted(range(len(cuts)), key=lambda position: abs(position - middle))
    return next((cuts[position] for position in ways if _read(lines, cuts[position]) is not None), None)


def _has(table: Any, where: Sequence[str]) -> bool:
    """Return whether the keys lead to a value, or to one that is no table before they end."""
    for key in where:
        if not isinstance(table, Mapping):
            return table is not None
        if key not in table:
            return False
        table = table[key]
    return True
