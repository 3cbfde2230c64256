"""The Lua scripts: found, assembled from their includes, and named by the SHA-1 that EVALSHA takes."""

import hashlib
import re
from importlib import resources
from pathlib import Path

import msgspec

from featurestore.errors import ConfigurationError

_INCLUDE = re.compile(r"^-- @include (\w+)\n", re.MULTILINE)
_HEADER = re.compile(r"\A--\[\[\n(.*?)\]\]\n", re.DOTALL)


class Script(msgspec.Struct, frozen=True):
    """One script, ready to be loaded.

    Attributes:
        name: The file's name without its suffix.
        source: What SCRIPT LOAD is given.
        sha: SHA-1 of the source in hexadecimal, as EVALSHA wants it.
        writes: Whether it changes data, so that repeating a call with unknown outcome is the caller's decision.
    """

    name: str
    source: str
    sha: str
    writes: bool

    @property
    def header(self) -> str:
        """The script's contract: its leading comment."""
        match = _HEADER.match(self.source)
        return match[1].rstrip() if match else ""


def script_folder() -> Path:
    """Return the folder of the scripts, in a wheel or in a checkout."""
    packaged = Path(str(resources.files("featurestore"))) / "lua"
    folder = packaged if packaged.is_dir() else Path(__file__).parent.parent / "lua"
    if not folder.is_dir():
        raise ConfigurationError(f"the Lua scripts are missing: neither {packaged} nor {folder} exists")
    return folder


def load_script(name: str, *, writes: bool) -> Script:
    """Read `<name>.lua` and put its includes in place, each where it is named."""
    folder = script_folder()

    def included(match: re.Match[str]) -> str:
        return (folder / "include" / f"{match[1]}.lua").read_text(encoding="utf-8")

    source = _INCLUDE.sub(included, (folder / f"{name}.lua").read_text(encoding="utf-8"))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(), writes)


GET_FEATURES = load_script("get_features", writes=False)
GET_FEATURES_BATCH = load_script("get_features_batch", writes=False)
UPSERT_FEATURES = load_script("upsert_features", writes=True)
LOAD_ENTITIES = load_script("load_entities", writes=True)
REPLACE_ROWS = load_script("replace_rows", writes=True)
DELETE_ENTITY = load_script("delete_entity", writes=True)
REPACK_ROWS = load_script("repack_rows", writes=True)
INCREMENT_FEATURES = load_script("increment_features", writes=True)
RECORD_EVENTS = load_script("record_events", writes=True)
SWEEP_MEMBERS = load_script("sweep_members", writes=True)
APPLY_SCHEMA = load_script("apply_schema", writes=True)

SCRIPTS = (
    GET_FEATURES,
    GET_FEATURES_BATCH,
    UPSERT_FEATURES,
    LOAD_ENTITIES,
    REPLACE_ROWS,
    INCREMENT_FEATURES,
    RECORD_EVENTS,
    DELETE_ENTITY,
    APPLY_SCHEMA,
    REPACK_ROWS,
    SWEEP_MEMBERS,
)
"""All scripts, in the order of the contract."""
