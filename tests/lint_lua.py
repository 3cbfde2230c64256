"""Run luacheck over the scripts: each file by itself with what it includes, then the scripts as Redis gets them.

A file may use the names of the includes that it names itself, and has to use one of each. Every name that an include
defines has to be used.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from featurestore.contract.scripts import SCRIPTS, entry, script_folder

INCLUDE = re.compile(r"^ *-- @include (\w+)$", re.MULTILINE)
DEFINITION = re.compile(r"^local (?:function (\w+)|(\w+(?:, \w+)*)$|(\w+(?:, \w+)*) =)", re.MULTILINE)
NO_CODE = re.compile(r"""--\[\[.*?\]\]|--[^\n]*|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
FIELD = re.compile(r"(?<!\.)[.:]\w+")


def names_in(text: str) -> set[str]:
    """Return the names that an include defines for those who include it."""
    return {name for groups in DEFINITION.findall(text) for group in groups if group for name in group.split(", ")}


def words_in(text: str) -> list[str]:
    """Return the words of the code, without comments, strings, and what stands behind a dot, as in `string.find`."""
    return re.findall(r"\w+", FIELD.sub("", NO_CODE.sub(" ", text)))


def alone(text: str, names: set[str], defines: dict[str, set[str]]) -> str:
    """Return a file's text for luacheck, line by line as it is: what it includes is known, `names` are used."""
    text = INCLUDE.sub(lambda match: f"-- luacheck: read globals {' '.join(sorted(defines[match[1]]))}", text)
    return f"{text}return {', '.join(sorted(names))}\n"


def complaints(files: dict[Path, str], defines: dict[str, set[str]]) -> Iterator[str]:
    """Yield what is wrong with includes that luacheck does not know of."""
    used = set(words_in(entry("")))
    for path, text in files.items():
        words = words_in(text)
        included = INCLUDE.findall(text)
        used |= {name for each in included for name in defines[each] if name in words}
        used |= {name for name in defines.get(path.stem, ()) if words.count(name) > 1}
        yield from (f"{path}: uses nothing of {each}" for each in included if not defines[each] & set(words))
    for include, names in defines.items():
        yield from (f"include/{include}.lua: nobody uses {name}" for name in sorted(names - used))


def luacheck(folder: Path, *options: str) -> int:
    """Return luacheck's exit code for the files in a folder."""
    command = ["luacheck", ".", "--quiet", "--config", str(script_folder() / ".luacheckrc"), *options]
    return subprocess.run(command, cwd=folder, check=False).returncode


def main() -> int:
    """Return 0 where nothing is wrong."""
    source = script_folder()
    ours = sorted([*source.glob("*.lua"), *source.glob("include/*.lua")])
    files = {path.relative_to(source): path.read_text(encoding="utf-8") for path in ours}
    defines = {path.stem: names_in(text) for path, text in files.items() if path.parent.name == "include"}
    wrong = list(complaints(files, defines))
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        each, whole = Path(folder, "lua"), Path(folder, "assembled")
        (each / "include").mkdir(parents=True)
        whole.mkdir()
        for path, text in files.items():
            (each / path).write_text(alone(text, defines.get(path.stem, {path.stem}), defines), encoding="utf-8")
        for script in SCRIPTS:
            (whole / f"{script.name}.lua").write_text(script.source, encoding="utf-8")
        # Assembled, a script has names that it does not use; two includes with the same name show here. In a block, an
        # include's own names may be those of the function around it.
        unknown = "--no-unused", "--ignore", "43.", "--read-globals", "KEYS", "ARGV"
        codes = luacheck(each), luacheck(whole, *unknown)
    return max(*codes, 1 if wrong else 0)


if __name__ == "__main__":
    sys.exit(main())
