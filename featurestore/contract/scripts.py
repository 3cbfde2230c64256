"""The Lua scripts: found, assembled from their includes, and named by the SHA-1 that EVALSHA takes.

A script's file is its header and one function of its name, which gets KEYS and ARGV. Includes are put inside this
function, so that their locals are made anew for each call, and a script can answer before they are. What only some
calls need is included in the block that needs it. A script for EVALSHA calls the function at its end; a library of
Redis Functions (`library.py`) registers it.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import msgspec

from featurestore.contract import replies
from featurestore.errors import ConfigurationError

CONTRACT = 1
"""The major version of the scripts' contract; what is added to a contract leaves it."""

_INCLUDE = re.compile(r" *-- @include (\w+)\n")
_COMMENT = re.compile(r" *--(?!\[\[)")
_HEADER = re.compile(r"\A--\[\[\n(.*?)\]\]\n", re.DOTALL)


class Script(msgspec.Struct, frozen=True):
    """One script, ready to be loaded.

    Attributes:
        name: The file's name without its suffix.
        source: What SCRIPT LOAD is given.
        sha: SHA-1 of the source in hexadecimal, as EVALSHA wants it.
        writes: Whether it changes data, so that repeating a call with unknown outcome is the caller's decision.
        fits: Which replies it may give.
        in_order: Whether calls depend on those before them. If one is repeated, all behind it are repeated too, so that
            an older row cannot end up over a newer one. Repeating such a call does no harm.
        frees: Whether it makes room, and has to work when memory is full.
    """

    name: str
    source: str
    sha: str
    writes: bool
    fits: replies.Fits = replies.any_plain
    in_order: bool = False
    frees: bool = False

    def answers(self, encoded: Sequence[bytes]) -> replies.Answers:
        """Return what may be the replies to encoded calls of this script."""
        return replies.Answers(self.name, self.fits, encoded)

    @property
    def function(self) -> str:
        """The function's name, as FCALL wants it: names are those of the whole server."""
        return f"featurestore_{CONTRACT}_{self.name}"

    @property
    def flags(self) -> tuple[str, ...]:
        """What Redis is told of the function: that it only reads, or that it works when memory is full."""
        return ("no-writes",) if not self.writes else ("allow-oom",) if self.frees else ()

    @property
    def header(self) -> str:
        """The script's contract: its leading comment."""
        match = _HEADER.match(self.source)
        return match[1].rstrip() if match else ""


def script_folder() -> Path:
    """Return the folder of the scripts, in a wheel or in a checkout."""
    packaged = Path(str(resources.files("featurestore"))) / "lua"
    folder = packaged if packaged.is_dir() else Path(__file__).parents[2] / "lua"
    if not folder.is_dir():
        raise ConfigurationError(f"the Lua scripts are missing: neither {packaged} nor {folder} exists")
    return folder


def assemble(folder: Path, name: str) -> str:
    """Return the text of a script or an include with what it includes in place, without comments but the header.

    An include is known from where it is put to the end of its block, which is where a line stands further left. It is
    not put in again where it is known.
    """
    blocks: list[tuple[int, set[str]]] = []  # indentation, what was included there

    def expand(file: Path, within: tuple[str, ...], indent: int) -> Iterator[str]:
        for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
            column = indent + len(line) - len(line.lstrip())
            while line.strip() and blocks and blocks[-1][0] > column:
                blocks.pop()
            match = _INCLUDE.fullmatch(line)
            if match is None:
                if not _COMMENT.match(line):
                    yield line
                continue
            wanted = match[1]
            if wanted in within:
                raise ConfigurationError(f"Lua includes in a circle: {' -> '.join((*within, wanted))}")
            if any(wanted in known for _, known in blocks):
                continue
            included = folder / "include" / f"{wanted}.lua"
            if not included.is_file():
                raise ConfigurationError(f"{file} includes {wanted}, but {included} does not exist")
            if not blocks or blocks[-1][0] < column:
                blocks.append((column, set()))
            blocks[-1][1].add(wanted)
            yield from expand(included, (*within, wanted), column)

    return "".join(expand(folder / f"{name}.lua", (name,), 0))


def entry(name: str) -> str:
    """Return what stands at the end of a script for EVALSHA, behind its function: its call.

    Redis 6.2, which has no `acl_check_cmd`, gets the errors of Redis 7.
    """
    old = assemble(script_folder() / "include", "plain_errors")
    call = f"with_plain_error(pcall({name}, KEYS, ARGV))"
    return f"if redis.acl_check_cmd then return {name}(KEYS, ARGV) end\n{old}return {call}\n"


def load_script(name: str, fits: replies.Fits, *, writes: bool, in_order: bool = False, frees: bool = False) -> Script:
    """Assemble `<name>.lua` as a script that EVALSHA calls."""
    source = f"{assemble(script_folder(), name)}{entry(name)}"
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, sha, writes, fits, in_order, frees)


GET_FEATURES = load_script("get_features", replies.a_row, writes=False)
GET_FEATURES_BATCH = load_script("get_features_batch", replies.rows, writes=False)
UPSERT_FEATURES = load_script("upsert_features", replies.outcomes, writes=True, in_order=True)
REPLACE_ROWS = load_script("replace_rows", replies.replaced, writes=True, in_order=True)
DELETE_ENTITY = load_script("delete_entity", replies.a_number, writes=True, frees=True)
REPACK_ROWS = load_script("repack_rows", replies.a_number, writes=True)
INCREMENT_FEATURES = load_script("increment_features", replies.a_row, writes=True)
RECORD_EVENTS = load_script("record_events", replies.outcomes, writes=True)
COUNT_ENTRIES = load_script("count_entries", replies.counted, writes=True, in_order=True)
DESCRIBE_ENTITY = load_script("describe_entity", replies.a_map, writes=False)
SWEEP_MEMBERS = load_script("sweep_members", replies.a_number, writes=True, frees=True)
APPLY_SCHEMA = load_script("apply_schema", replies.a_number, writes=True)
COPY_SCHEMA = load_script("copy_schema", replies.a_number, writes=True)
RETIRE_FEATURES = load_script("retire_features", replies.a_number, writes=True, frees=True)
DROP_ENTITY = load_script("drop_entity", replies.a_number, writes=True, frees=True)
CLEAR_HASHES = load_script("clear_hashes", replies.a_number, writes=True, frees=True)
FREE_NAMES = load_script("free_names", replies.a_number, writes=True, frees=True)
COPY_ENTITIES = load_script("copy_entities", replies.letters, writes=True)
LOG_SERVED = load_script("log_served", replies.a_number, writes=True)
TAKE_TOKENS = load_script("take_tokens", replies.tokens, writes=True)

SCRIPTS = (
    GET_FEATURES,
    GET_FEATURES_BATCH,
    UPSERT_FEATURES,
    REPLACE_ROWS,
    INCREMENT_FEATURES,
    RECORD_EVENTS,
    COUNT_ENTRIES,
    DELETE_ENTITY,
    APPLY_SCHEMA,
    DESCRIBE_ENTITY,
    REPACK_ROWS,
    SWEEP_MEMBERS,
    RETIRE_FEATURES,
    DROP_ENTITY,
    CLEAR_HASHES,
    FREE_NAMES,
    COPY_SCHEMA,
    COPY_ENTITIES,
    LOG_SERVED,
    TAKE_TOKENS,
)
"""All scripts, in the order of the contract."""


_BY_WORD = {word.encode(): script for script in SCRIPTS for word in (script.sha, script.function)}
"""What EVALSHA or FCALL calls → the script."""


def answer_to(encoded: bytes) -> replies.Answers:
    """Return what may be the reply to an encoded call of any of the scripts."""
    script = _called(encoded)
    return script.answers([encoded]) if script else replies.Answers("a call", replies.any_plain, [encoded])


def keeps_order(encoded: bytes) -> bool:
    """Return whether an encoded call depends on those before it; see `Script.in_order`."""
    script = _called(encoded)
    return script is not None and script.in_order


def _called(encoded: bytes) -> Script | None:
    return _BY_WORD.get(encoded[: replies.HEAD_BYTES].split(b"\r\n", 5)[4])


def _fits_what_was_called(reply: object, encoded: bytes) -> bool:
    script = _called(encoded)
    return script is not None and script.fits(reply, encoded)


WRITE_AND_READ = Script("a write and a read", "", "", writes=True, fits=_fits_what_was_called, in_order=True)
"""Stands for a script where a call that writes and one that reads what it wrote leave in one write, in this order."""
