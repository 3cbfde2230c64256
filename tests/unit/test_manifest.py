"""The headers of the scripts, read as the contract that they are, and the files that are built of them."""

import hashlib
import json
import re

import pytest
from lint_lua import words_in

from featurestore.contract.library import build
from featurestore.contract.manifest import (
    REDIS_CODES,
    SECTIONS,
    Argument,
    Key,
    built_files,
    contract_of,
    sections_of,
)
from featurestore.contract.scripts import SCRIPTS, Script, assemble, script_folder
from featurestore.errors import BY_CODE, ConfigurationError

CODES = {code for code in BY_CODE if code} | REDIS_CODES
of_each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)

HEADER = """\
Does a thing.

KEYS[1]  members   a set: ids
KEYS[2…] hashes    the features of each
                   entity

ARGV[1]  id        the id
ARGV[2]  time      optional: when
ARGV[3…]           name, value, name, value …:
                     a         the first
                     b         the second
                   and no more
then     rows      for each hash: an id

Reply    array of 2: a number; and [position, code]
         of each row: BADID or WRONGTYPE. FF is a mark
Errors   BADARGS (for an ID), NOSCHEMA, and Redis's own (OOM). After an error
         nothing has been written.
Cost     O(rows)
"""


def codes_answered_by(source: str) -> set[str]:
    """Return the codes that a script's strings start with; that of a constant only where the constant is used."""
    code = re.sub(r"--\[\[.*?\]\]|--[^\n]*", "", source, flags=re.DOTALL)
    words = words_in(code)
    found = re.findall(r"(?:local (\w+) = )?'([A-Z][A-Z_]{2,})[ ']", code)
    return {text for constant, text in found if text in CODES and (not constant or words.count(constant) > 1)}


def script_with(header: str) -> Script:
    return Script("thing", f"--[[\n{header}]]\nlocal function thing(KEYS, ARGV)\nend\n", "", writes=True)


@of_each_script
def test_a_header_has_all_that_a_caller_needs(script: Script) -> None:
    contract = contract_of(script)
    assert all((contract.about, contract.keys, contract.reply, contract.errors, contract.cost))
    assert all(key.about for key in contract.keys)
    assert all(argument.about for argument in contract.arguments)
    named = {key.name: key.type for key in contract.keys}
    types = {"members": "set", "schema": "hash", "hash": "hash", "hashes": "hash", "schemas": "set", "counted": "set",
             "stream": "stream", "bucket": "string"}  # fmt: skip
    assert named.items() <= types.items()


@of_each_script
def test_a_header_names_every_code_that_its_script_answers_and_no_other(script: Script) -> None:
    contract = contract_of(script)
    answered = codes_answered_by(assemble(script_folder(), script.name))
    assert {*contract.errors, *contract.row_errors} - REDIS_CODES == answered - REDIS_CODES
    assert answered & REDIS_CODES <= {*contract.redis_errors, *contract.row_errors}
    assert set(contract.errors) <= BY_CODE.keys()
    assert set(contract.redis_errors) <= REDIS_CODES


def test_the_codes_in_a_scripts_strings_are_found() -> None:
    source = (
        "--[[\nBADTIME\n]]\nlocal UNUSED = 'NOSCHEMA x'\nlocal USED = 'UNDECLARED y'\nreturn USED, 'BADID', 'ANY OOM '"
    )
    assert codes_answered_by(source) == {"UNDECLARED", "BADID"}


def test_a_header_is_read_line_by_line() -> None:
    contract = contract_of(script_with(HEADER))
    assert contract.about == "Does a thing."
    assert contract.keys == (
        Key("members", "set", repeats=False, optional=False, about="ids"),
        Key("hashes", "hash", repeats=True, optional=False, about="the features of each entity"),
    )
    assert contract.arguments == (
        Argument("id", repeats=False, optional=False, about="the id"),
        Argument("time", repeats=False, optional=True, about="when"),
        Argument(
            "",
            repeats=True,
            optional=False,
            about="name, value, name, value …:\n  a         the first\n  b         the second\nand no more",
        ),
        Argument("rows", repeats=True, optional=False, about="for each hash: an id"),
    )
    assert contract.reply.startswith("array of 2: a number; and [position, code] of each row")
    assert contract.errors == ("BADARGS", "NOSCHEMA")
    assert (contract.redis_errors, contract.row_errors, contract.cost) == (("OOM",), ("BADID", "WRONGTYPE"), "O(rows)")


def test_a_script_without_arguments_says_so() -> None:
    argv = re.compile(r"ARGV\[1\].*?\n\n", re.DOTALL)
    assert contract_of(script_with(argv.sub("ARGV     none\n\n", HEADER))).arguments == ()


@pytest.mark.parametrize("section", SECTIONS)
def test_a_header_that_lacks_a_section_is_refused(section: str) -> None:
    without = re.sub(rf"^{section}\b", "Else", HEADER, flags=re.MULTILINE)
    with pytest.raises(
        ConfigurationError, match=rf"header of lua/thing\.lua has (?!.*\b{section}\b.*want).*: want KEYS"
    ):
        sections_of("thing", without)


def test_a_header_with_sections_out_of_order_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has about, Cost, KEYS"):
        sections_of("thing", f"Cost     O(1)\n{HEADER.replace('Cost ', 'Else ')}")
    with pytest.raises(ConfigurationError, match="has Errors in two places"):
        sections_of("thing", f"{HEADER}Errors   BADARGS\n")


def test_what_is_built_is_what_is_called() -> None:
    files = built_files()
    told = json.loads(files["manifest.json"])
    assert (told["contract"], told["version"]) == (1, build().split()[0])
    assert told["library"]["build"] == build()
    for script, entry in zip(SCRIPTS, told["scripts"], strict=True):
        source = files[entry["file"]]
        assert hashlib.sha1(source.encode()).hexdigest() == entry["sha1"] == script.sha
        assert f"function_name = '{entry['function']}'" in files[told["library"]["file"]]
        assert entry["flags"] == (["no-writes"] if not script.writes else ["allow-oom"] if script.frees else [])
    assert files.keys() == {"manifest.json", "featurestore.lua", *(entry["file"] for entry in told["scripts"])}
