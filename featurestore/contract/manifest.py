"""What the scripts take and give, for programs: read out of the scripts' headers, which are the contract.

A header is what a script does, then sections. KEYS and ARGV have a line for each key and argument; Reply, Errors and
Cost are text.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from featurestore.contract.library import LIBRARY, VERSION_FUNCTION, build, function_library, package_version
from featurestore.contract.scripts import CONTRACT, SCRIPTS, Script
from featurestore.errors import BY_CODE, ConfigurationError

SECTIONS = ("KEYS", "ARGV", "Reply", "Errors", "Cost")
"""The sections of a header, in their order."""

REDIS_CODES = frozenset({"NOPERM", "OOM", "READONLY", "WRONGTYPE"})
"""Codes of Redis's own errors that headers name."""

_CODE = re.compile(r"[A-Z][A-Z_]{2,}")
_OPTIONAL = "optional: "
_TYPED = re.compile(r"a (set|hash|stream|string): ")
_ABOUT = "about"
_NAME_AT, _TEXT_AT = 9, 19  # the columns of an entry's name and text; the other sections' text starts where names do


class Key(msgspec.Struct, frozen=True):
    """A key that a script takes, or several alike.

    Attributes:
        name: What it is called.
        type: What Redis holds there: `set`, `hash` or `string`.
        repeats: Whether it stands for one or more keys.
        optional: Whether it may be left out.
        about: What it is.
    """

    name: str
    type: str
    repeats: bool
    optional: bool
    about: str


class Argument(msgspec.Struct, frozen=True):
    """An argument that a script takes, or several alike.

    Attributes:
        name: What it is called.
        repeats: Whether it stands for any number of words, none included.
        optional: Whether it may be left out.
        about: What it is.
    """

    name: str
    repeats: bool
    optional: bool
    about: str


class Contract(msgspec.Struct, frozen=True):
    """A script's contract.

    Attributes:
        name: The script.
        version: The major version of its contract.
        file: Its source, as SCRIPT LOAD takes it.
        sha1: What EVALSHA calls it.
        function: What FCALL calls it.
        flags: Of the function: `no-writes` for one that only reads, which a replica runs, and which may be called by
            EVALSHA_RO and FCALL_RO; `allow-oom` for one that writes and works when memory is full.
        about: What it does.
        keys: In the order of KEYS.
        arguments: In the order of ARGV.
        reply: What it replies.
        errors: The codes of its own error replies.
        redis_errors: Codes of Redis's own that are to be expected; others may come.
        row_errors: The codes of single rows in the reply.
        cost: In Redis's time.
    """

    name: str
    version: int
    file: str
    sha1: str
    function: str
    flags: tuple[str, ...]
    about: str
    keys: tuple[Key, ...]
    arguments: tuple[Argument, ...]
    reply: str
    errors: tuple[str, ...]
    redis_errors: tuple[str, ...]
    row_errors: tuple[str, ...]
    cost: str


class Library(msgspec.Struct, frozen=True):
    """The library of functions.

    Attributes:
        name: Its name on a server.
        file: Its source, as FUNCTION LOAD takes it.
        build: What tells it from other builds: the package's version and a digest of the functions.
        version_function: What FCALL calls the function that replies `build`.
    """

    name: str
    file: str
    build: str
    version_function: str


class Manifest(msgspec.Struct, frozen=True):
    """All scripts, with the major version of their contract and the version of the package that they are from."""

    contract: int
    version: str
    library: Library
    scripts: tuple[Contract, ...]


def manifest() -> Manifest:
    """Return what is told of all scripts.

    Raises:
        ConfigurationError: A header cannot be read.
    """
    library = Library(LIBRARY, "featurestore.lua", build(), VERSION_FUNCTION)
    return Manifest(CONTRACT, package_version(), library, tuple(map(contract_of, SCRIPTS)))


def built_files() -> dict[str, str]:
    """Return what callers in other languages ship, by path: the manifest, and the files that it names.

    Raises:
        ConfigurationError: As for `manifest`.
    """
    made = manifest()
    shown = msgspec.json.format(msgspec.json.encode(made), indent=2).decode()
    sources = {contract.file: script.source for contract, script in zip(made.scripts, SCRIPTS, strict=True)}
    return {"manifest.json": f"{shown}\n", made.library.file: function_library(), **sources}


def contract_of(script: Script) -> Contract:
    """Return what a script's header says, and by what names it is called; errors as in `manifest`."""
    sections = sections_of(script.name, script.header)
    reply, errors = _text(sections["Reply"]), _text(sections["Errors"])
    own, _, redis_own = errors.partition("Redis's own")
    return Contract(
        name=script.name,
        version=CONTRACT,
        file=f"scripts/{script.name}.lua",
        sha1=script.sha,
        function=script.function,
        flags=script.flags,
        about=_flowed(sections[_ABOUT]),
        keys=tuple(_keys(sections["KEYS"])),
        arguments=tuple(_arguments(sections["ARGV"])),
        reply=reply,
        errors=tuple(_CODE.findall(own)),
        redis_errors=tuple(_CODE.findall(redis_own)),
        row_errors=tuple(code for code in _CODE.findall(reply) if code in BY_CODE or code in REDIS_CODES),
        cost=_text(sections["Cost"]),
    )


def sections_of(name: str, header: str) -> dict[str, list[str]]:
    """Return the lines of each section of a script's header, and of the text before them.

    Raises:
        ConfigurationError: A section is missing, stands twice, or is not in its place.
    """
    sections: dict[str, list[str]] = {_ABOUT: []}
    current = _ABOUT
    for line in header.splitlines():
        word = re.split(r"[ \[]", line)[0]
        if word in SECTIONS and word != current:
            if word in sections:
                raise ConfigurationError(f"the header of lua/{name}.lua has {word} in two places")
            current = word
            sections[current] = []
        if line:
            sections[current].append(line)
    if list(sections) != [_ABOUT, *SECTIONS]:
        raise ConfigurationError(f"the header of lua/{name}.lua has {', '.join(sections)}: want {', '.join(SECTIONS)}")
    return sections


def _keys(lines: Sequence[str]) -> Iterator[Key]:
    for head, name, about in _entries(lines):
        plain = about.removeprefix(_OPTIONAL)
        typed = _TYPED.match(plain)
        kind = typed[1] if typed else "hash"
        yield Key(name, kind, "…" in head, plain != about, _TYPED.sub("", plain, count=1))


def _arguments(lines: Sequence[str]) -> Iterator[Argument]:
    for head, name, about in _entries(lines):
        if name != "none":
            plain = about.removeprefix(_OPTIONAL)
            yield Argument(name, "…" in head or head == "then", plain != about, plain)


def _entries(lines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield what stands in front of each entry, its name, and its text."""
    entries: list[list[str]] = []
    for line in lines:
        if line[:_NAME_AT].strip():
            entries.append([line])
        else:
            entries[-1].append(line)
    for first, *others in entries:
        text = [first[_TEXT_AT:], *(line[_TEXT_AT:] for line in others)]
        yield first[:_NAME_AT].strip(), first[_NAME_AT:_TEXT_AT].strip(), _flowed(text)


def _text(lines: Sequence[str]) -> str:
    return _flowed([line[_NAME_AT:] for line in lines])


def _flowed(lines: Sequence[str]) -> str:
    """Return lines as one, but for those of lists, which are indented."""
    text, *others = lines
    listed = False
    for line in others:
        indented = line.startswith("  ")
        text += f"\n{line.rstrip()}" if indented or listed else f" {line.rstrip()}"
        listed = indented
    return text
