"""The Lua scripts: found, assembled from their includes, and named by the SHA-1 that EVALSHA takes.

A script's file is its header and one function of its name, which gets KEYS and ARGV. Includes are put inside this
function, so that their locals are made anew for each call, and a script can answer before they are. A script for
EVALSHA calls the function at its end; a library of Redis Functions registers it.
"""

import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import msgspec

from featurestore.contract import replies
from featurestore.errors import ConfigurationError, FeatureStoreError

_INCLUDE = re.compile(r"^ *-- @include (\w+)\n", re.MULTILINE)
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
    """

    name: str
    source: str
    sha: str
    writes: bool
    fits: replies.Fits = replies.any_plain
    in_order: bool = False

    def answers(self, encoded: Sequence[bytes]) -> replies.Answers:
        """Return what may be the replies to encoded calls of this script."""
        return replies.Answers(self.name, self.fits, encoded)

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
    """Return the text of a script or an include with what it includes in place, each once, where it is first named."""
    placed: set[str] = set()

    def expand(file: Path, within: tuple[str, ...]) -> str:
        def include(match: re.Match[str]) -> str:
            wanted = match[1]
            if wanted in within:
                raise ConfigurationError(f"Lua includes in a circle: {' -> '.join((*within, wanted))}")
            if wanted in placed:
                return ""
            included = folder / "include" / f"{wanted}.lua"
            if not included.is_file():
                raise ConfigurationError(f"{file} includes {wanted}, but {included} does not exist")
            placed.add(wanted)
            return expand(included, (*within, wanted))

        return _INCLUDE.sub(include, file.read_text(encoding="utf-8"))

    return expand(folder / f"{name}.lua", (name,))


def entry(name: str) -> str:
    """Return what stands at the end of a script for EVALSHA, behind its function: its call.

    Redis 6.2, which has no `acl_check_cmd`, gets the errors of Redis 7.
    """
    old = assemble(script_folder() / "include", "plain_errors")
    call = f"with_plain_error(pcall({name}, KEYS, ARGV))"
    return f"if redis.acl_check_cmd then return {name}(KEYS, ARGV) end\n{old}return {call}\n"


def load_script(name: str, fits: replies.Fits, *, writes: bool, in_order: bool = False) -> Script:
    """Assemble `<name>.lua` as a script that EVALSHA calls."""
    source = f"{assemble(script_folder(), name)}{entry(name)}"
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, sha, writes, fits, in_order)


GET_FEATURES = load_script("get_features", replies.a_row, writes=False)
GET_FEATURES_BATCH = load_script("get_features_batch", replies.rows, writes=False)
UPSERT_FEATURES = load_script("upsert_features", replies.outcomes, writes=True, in_order=True)
REPLACE_ROWS = load_script("replace_rows", replies.replaced, writes=True, in_order=True)
DELETE_ENTITY = load_script("delete_entity", replies.a_number, writes=True)
REPACK_ROWS = load_script("repack_rows", replies.a_number, writes=True)
INCREMENT_FEATURES = load_script("increment_features", replies.a_row, writes=True)
RECORD_EVENTS = load_script("record_events", replies.outcomes, writes=True)
DESCRIBE_ENTITY = load_script("describe_entity", replies.a_map, writes=False)
SWEEP_MEMBERS = load_script("sweep_members", replies.a_number, writes=True)
APPLY_SCHEMA = load_script("apply_schema", replies.a_number, writes=True)

SCRIPTS = (
    GET_FEATURES,
    GET_FEATURES_BATCH,
    UPSERT_FEATURES,
    REPLACE_ROWS,
    INCREMENT_FEATURES,
    RECORD_EVENTS,
    DELETE_ENTITY,
    APPLY_SCHEMA,
    DESCRIBE_ENTITY,
    REPACK_ROWS,
    SWEEP_MEMBERS,
)
"""All scripts, in the order of the contract."""


def function_library() -> str:
    """Assemble the scripts as a library of Redis Functions, as FUNCTION LOAD takes it: FCALL has the scripts' names."""
    parts = ["#!lua name=featurestore\n"]
    for script in SCRIPTS:
        flags = "" if script.writes else ", flags = { 'no-writes' }"
        parts.append(assemble(script_folder(), script.name))
        parts.append(f"redis.register_function{{ function_name = '{script.name}', callback = {script.name}{flags} }}\n")
    return "".join(parts)


_BY_SHA = {script.sha.encode(): script for script in SCRIPTS}


def answer_to(encoded: bytes) -> replies.Answers:
    """Return what may be the reply to an encoded call of any of the scripts."""
    script = _called(encoded)
    return script.answers([encoded]) if script else replies.Answers("a call", replies.any_plain, [encoded])


def keeps_order(encoded: bytes) -> bool:
    """Return whether an encoded call depends on those before it; see `Script.in_order`."""
    script = _called(encoded)
    return script is not None and script.in_order


def _called(encoded: bytes) -> Script | None:
    return _BY_SHA.get(encoded[: replies.HEAD_BYTES].split(b"\r\n", 5)[4])


def _fits_what_was_called(reply: object, encoded: bytes) -> bool:
    script = _called(encoded)
    return script is not None and script.fits(reply, encoded)


WRITE_AND_READ = Script("a write and a read", "", "", writes=True, fits=_fits_what_was_called, in_order=True)
"""Stands for a script where a call that writes and one that reads what it wrote leave in one write, in this order."""


class _Loaded:
    """The replies to `load_commands`: the SHA-1 of each script, or why it was not loaded."""

    def misfit(self, loaded: Sequence[object]) -> str | None:
        """Return what is wrong with the replies, None where nothing is."""
        for script, reply in zip(SCRIPTS, loaded, strict=True):
            if not isinstance(reply, FeatureStoreError) and reply != script.sha.encode():
                return replies.unfit("SCRIPT LOAD", reply)
        return None


LOADED: replies.Expected = _Loaded()
"""What may be the replies to the commands that load every script."""
