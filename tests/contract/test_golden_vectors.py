"""The golden vectors: every server answers them, byte for byte, through every door."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
from support.fake import FakeTransport
from support.servers import Server
from vectors import make
from vectors.forms import Json, differences
from vectors.running import Connection, Wire, load_scripts, words_of, wrong_replies

from featurestore.contract.scripts import SCRIPTS, Script
from featurestore.transport.dial import reply_text

FILES = make.contents()
CHANGES = Path(__file__).parents[2] / "CHANGELOG.md"
CODES = re.compile(r"\b[A-Z][A-Z_]{4,}\b")
REDIS_OWN = {"NOPERM", "OOM", "READONLY", "WRONGTYPE"}
"""Errors that depend on users and memory, which vectors leave as they are, or that come in each server's own words."""


class Fake:
    """A connection to fakeredis."""

    def __init__(self) -> None:
        self._client = FakeTransport()._client

    def __call__(self, *words: bytes) -> Any:
        try:
            return self._client.execute_command(*words)
        except redis.ResponseError as error:
            return hiredis.ReplyError(reply_text(error))


@pytest.fixture(
    scope="module",
    params=["fakeredis", "valkey9", "valkey9, RESP3", "redis62", "redis62, RESP3", "redis7", "redis7, RESP3"],
)
def connection(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Connection]:
    """A connection to a server that has the scripts."""
    name, _, protocol = request.param.partition(", RESP")
    opened: Any = Fake() if name == "fakeredis" else Wire(f"{servers[name].folder}/s", int(protocol or 2))
    load_scripts(opened)
    yield opened
    opened(b"FLUSHALL")
    if isinstance(opened, Wire):
        opened.close()


@pytest.mark.parametrize("name", FILES)
def test_every_server_answers_as_the_vectors_say(connection: Connection, name: str) -> None:
    assert wrong_replies(lambda step: connection(*words_of(step)), FILES[name]) == []


@pytest.mark.parametrize(
    ("expected", "reply"),
    [
        ({"int": 1}, 2),
        ({"int": 1}, b"1"),
        ({"nil": True}, b""),
        ({"bulk": "a"}, b"b"),
        ({"bulk": {"hex": "9101"}, "values": [1]}, b"\x91\x02"),
        ({"array": [{"int": 1}, {"nil": True}]}, [1]),
        ({"array": [{"int": 1}, {"nil": True}]}, [1, 0]),
        ({"array": []}, None),
        ({"error": "BADARGS a"}, hiredis.ReplyError("BADARGS b")),
        ({"error": "BADARGS a"}, b"BADARGS a"),
        ({"error_code": "OOM"}, hiredis.ReplyError("OOMS x")),
        ({"int_at_least": 5}, 4),
        ({"int_at_least": 5}, None),
        ({"msgpack": {"map": {"a": 1}}}, b"\x81\xa1a\x02"),
    ],
)
def test_another_reply_is_told(expected: Json, reply: Any) -> None:
    assert f"expected {expected}" in differences(expected, reply) or differences(expected["array"][1], reply[1])


def test_the_files_are_what_the_declared_cases_make(servers: dict[str, Server]) -> None:
    """If this fails: run tests/vectors/make.py, and read what it changed."""
    wire = Wire(f"{servers['valkey9'].folder}/s")
    assert make.made(wire) == make.stored()
    wire(b"FLUSHALL")
    wire.close()


def test_a_vector_that_changes_is_told_in_the_changelog() -> None:
    """If this fails, the contract has another vector than was told: see tests/vectors/README.md."""
    unreleased = CHANGES.read_text(encoding="utf-8").split("\n## ")[1]
    assert f"Golden vectors: `{make.digest(make.stored())}`" in unreleased


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_error_that_a_script_names_is_in_a_vector_of_it(script: Script) -> None:
    errors = re.search(r"^Errors +(.*(?:\n .*)*)", script.header, re.MULTILINE)
    assert errors
    named = set(CODES.findall(errors[1])) - REDIS_OWN
    steps = [step for file in FILES.values() for case in file["cases"] for step in case["steps"]]
    replies = [step["reply"] for step in steps if step.get("script") == script.name]
    answered = {reply["error"].split(" ", 1)[0] for reply in replies if "error" in reply}
    assert named
    assert answered - REDIS_OWN == named


@pytest.mark.parametrize("name", FILES)
def test_no_two_cases_of_a_file_have_one_name(name: str) -> None:
    names = [case["name"] for case in FILES[name]["cases"]]
    assert len(set(names)) == len(names) > 1
