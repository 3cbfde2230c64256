"""How scripts are put together: includes, the one function, and how far Lua's limits are."""

import re
from pathlib import Path

import pytest
from lint_lua import complaints
from support.bytecode import functions

from featurestore.contract.scripts import (
    GET_FEATURES,
    GET_FEATURES_BATCH,
    SCRIPTS,
    Script,
    assemble,
    entry,
    script_folder,
)
from featurestore.errors import ConfigurationError

LOCALS, UPVALUES = 200, 60  # of a function: LUAI_MAXVARS and LUAI_MAXUPVALUES of Lua 5.1
FORM = re.compile(r"--\[\[\n.*?\n\]\]\nlocal function (\w+)\(KEYS, ARGV\)\n(.*\n)end\n", re.DOTALL)


def folder_of(folder: Path, **includes: str) -> Path:
    """Write includes, and a script `script` that includes the first of them."""
    (folder / "include").mkdir()
    for name, text in includes.items():
        (folder / "include" / f"{name}.lua").write_text(text)
    (folder / "script.lua").write_text(f"local function script()\n  -- @include {next(iter(includes))}\nend\n")
    return folder


def test_an_include_is_put_in_once_where_it_is_first_named(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, a="-- @include b\n-- @include c\nlocal a\n", b="-- @include c\nlocal b\n", c="local c\n"
    )
    assert assemble(folder, "script") == "local function script()\nlocal c\nlocal b\nlocal a\nend\n"


def test_an_include_that_does_not_exist_is_named_with_the_file_that_names_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a="-- @include b\n")
    with pytest.raises(ConfigurationError, match=r"include/a\.lua includes b, but .*include/b\.lua does not exist"):
        assemble(folder, "script")


@pytest.mark.parametrize("includes", [{"a": "-- @include a\n"}, {"a": "-- @include b\n", "b": "-- @include a\n"}])
def test_a_circle_of_includes_is_shown(tmp_path: Path, includes: dict[str, str]) -> None:
    folder = folder_of(tmp_path, **includes)
    circle = " -> ".join([*includes, "a"])
    with pytest.raises(ConfigurationError, match=rf"Lua includes in a circle: script -> {circle}$"):
        assemble(folder, "script")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_a_header_and_one_function_of_its_name(script: Script) -> None:
    """What stood outside the function would, in a library of Redis Functions, outlive a call."""
    match = FORM.fullmatch((script_folder() / f"{script.name}.lua").read_text(encoding="utf-8"))
    assert match
    assert match[1] == script.name
    assert all(line.startswith("  ") or not line for line in match[2].splitlines())
    assert script.source.endswith(f"end\n{entry(script.name)}")
    assert "@include" not in script.source


@pytest.mark.parametrize(
    ("script", "answer", "functions"),
    [(GET_FEATURES, "return found end", 0), (GET_FEATURES_BATCH, "return rows end", 1)],
)
def test_a_stored_row_is_handed_on_before_other_functions_are_made(script: Script, answer: str, functions: int) -> None:
    """The usual read does not pay for the functions of includes, which are made at each call."""
    before, found, _ = script.source.partition("(KEYS, ARGV)\n")[2].partition(answer)
    assert found
    assert before.count("function ") == functions
    assert "'HGET', " in before


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_no_function_comes_near_to_what_lua_permits(script: Script) -> None:
    """A script that declares too many does not load at all, so there is to be room for as many again."""
    for function in functions(script.source):
        assert function.most_locals <= LOCALS // 2, function
        assert function.upvalues <= UPVALUES // 2, function


def test_functions_are_counted_as_lua_does() -> None:
    names = ", ".join(f"a{number}" for number in range(40))
    inner = f"local function inner() local b return b, {names} end"
    counted = functions(f"local {names}\ndo local x, y = 1, 2 print(x, y) end\n{inner}")
    assert [function[1:] for function in counted] == [(1, 40), (42, 0)]


@pytest.mark.parametrize(
    "text",
    [
        "--[[\nA header of two lines\nthat speaks of now.\n]]\n",
        "-- a comment that speaks of now\n",
        "return 'now -- and \\' now' .. \"now\"\n",
        "return clock.now\n",
    ],
    ids=["header", "comment", "string", "field"],
)
def test_an_include_that_is_only_spoken_of_is_not_used(text: str) -> None:
    path, includes, text = Path("script.lua"), {"clock": {"now"}}, f"-- @include clock\n{text}"
    expected = ["script.lua: uses nothing of clock", "include/clock.lua: nobody uses now"]
    assert list(complaints({path: text}, includes)) == expected
    assert list(complaints({path: f"local time = now()\n{text}"}, includes)) == []
