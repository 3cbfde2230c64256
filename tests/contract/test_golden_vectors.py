"""The golden vectors: every server answers them, byte for byte, through every door."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
from golden import make
from golden.forms import Json, Reply, differences
from golden.running import Wire, by_function, by_script, load_functions, load_scripts, words_of, wrong_replies
from support.fake import FakeTransport
from support.servers import Server, real

from featurestore.contract.library import LIBRARY
from featurestore.contract.manifest import contract_of
from featurestore.contract.scripts import SCRIPTS, Script
from featurestore.transport.dial import reply_text

FILES = make.contents()
WAYS = ("", "-resp3", "-functions")
BACKENDS = real(
    "fakeredis",
    *(f"{server}{way}" for server in ("valkey9", "redis7") for way in WAYS),
    *("redis62", "redis62-resp3"),
    ways=WAYS,
)
"""Servers; with `-resp3` behind it, one that is asked over RESP3; with `-functions`, by FCALL."""

CHANGES = Path(__file__).parents[2] / "CHANGELOG.md"


class Fake:
    """A connection to fakeredis."""

    def __init__(self) -> None:
        self._client = FakeTransport()._client

    def __call__(self, *words: bytes) -> Any:
        try:
            return self._client.execute_command(*words)
        except redis.ResponseError as error:
            return hiredis.ReplyError(reply_text(error))


@pytest.fixture(scope="module", params=BACKENDS)
def answer(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Callable[[Json], Reply]]:
    """What makes a step on a server, and returns the reply."""
    name, _, way = request.param.partition("-")
    connection: Any = Fake() if name == "fakeredis" else Wire(f"{servers[name].folder}/s", 3 if way == "resp3" else 2)
    if way == "functions":
        load_functions(connection)
    else:
        load_scripts(connection)
    yield lambda step: connection(*words_of(step, by_function if way == "functions" else by_script))
    connection(b"FLUSHALL")
    if way == "functions":
        connection(b"FUNCTION", b"DELETE", LIBRARY.encode())
    if name != "fakeredis":
        connection.close()


@pytest.mark.parametrize("name", FILES)
def test_every_server_answers_as_the_vectors_say(answer: Callable[[Json], Reply], name: str) -> None:
    assert wrong_replies(answer, FILES[name]) == []


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
    assert differences(expected, reply).startswith("expected {")


def test_the_files_are_what_the_declared_cases_make(servers: dict[str, Server]) -> None:
    """If this fails: run tests/golden/make.py, and read what it changed."""
    with Wire(f"{servers['valkey9'].folder}/s") as wire:
        assert make.made(wire) == make.stored()
        wire(b"FLUSHALL")


def test_a_vector_that_changes_is_told_in_the_changelog() -> None:
    """If this fails, the contract has another vector than was told: see tests/vectors/README.md."""
    told = re.findall(r"Golden vectors: `(\w+)`", CHANGES.read_text(encoding="utf-8"))  # the newest first
    assert told[0] == make.digest(make.stored())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_error_that_a_script_names_is_in_a_vector_of_it(script: Script) -> None:
    steps = [step for file in FILES.values() for case in file["cases"] for step in case["steps"]]
    replies = [step["reply"] for step in steps if step.get("script") == script.name]
    answered = {reply["error"].split(" ", 1)[0] for reply in replies if "error" in reply}
    assert answered == set(contract_of(script).errors)


@pytest.mark.parametrize("name", FILES)
def test_no_two_cases_of_a_file_have_one_name(name: str) -> None:
    names = [case["name"] for case in FILES[name]["cases"]]
    assert len(set(names)) == len(names) > 1
