"""docs/direct.md: its tables are those of the scripts, its example runs, and its users can do what it says."""

import re
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from golden import make
from golden.forms import Json, Reply, word_bytes
from golden.running import SCRIPT, Wire, by_function, by_script, load_functions, load_scripts, words_of, wrong_replies
from support.servers import EVERYDAY, Server, real, wait_until

from featurestore import Definition, FeatureStore
from featurestore.contract.library import LIBRARY
from featurestore.contract.manifest import built_files, contract_of
from featurestore.contract.scripts import SCRIPTS, Script

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "direct.md").read_text(encoding="utf-8")
FILES = make.contents()
READS = {"get_features", "get_features_batch", "describe_entity"}
KEEPS = {"retire_features", "drop_entity", "clear_hashes", "free_names"}


def table(name: str) -> list[list[str]]:
    """Return the rows of a table of the page."""
    lines = PAGE.partition(f"<!-- {name} -->\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def keys_of(script: Script) -> str:
    """Return what the header says of a script's keys, in the page's words."""
    words = ["hash…" if key.name == "hashes" else key.name for key in contract_of(script).keys]
    optional = [key.optional for key in contract_of(script).keys]
    return ", ".join(f"[{word}]" if left_out else word for word, left_out in zip(words, optional, strict=True))


def test_the_table_of_scripts_has_every_script_once() -> None:
    assert sorted(row[0].strip("`") for row in table("scripts")) == sorted(SCRIPT)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_table_of_scripts_says_what_the_headers_say(script: Script) -> None:
    row = next(row for row in table("scripts") if row[0] == f"`{script.name}`")
    assert row[1] == keys_of(script)
    words, arguments = [word for word in row[2].split(", ") if word], contract_of(script).arguments
    assert len(words) == len(arguments)
    for word, argument in zip(words, arguments, strict=True):
        assert argument.name in {"", word.strip("[]")}  # a header may have no name for a list
        assert word.startswith("[") or not argument.optional


def test_the_description_of_an_entity_has_the_keys_that_the_header_names() -> None:
    reply = re.search(r"^Reply .*?^Errors", SCRIPT["describe_entity"].header, re.MULTILINE | re.DOTALL)
    assert reply
    named = re.findall(r"^ {11}([a-z_]+(?:, [a-z_]+)*)  ", reply[0], re.MULTILINE)
    page = re.search(r"^`describe_entity` answers a map.*?\n\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert page
    listed = [row.split("|")[1] for row in page[1].splitlines()[2:]]
    assert sorted(re.findall(r"\w+", " ".join(named))) == sorted(re.findall(r"`(\w+)`", " ".join(listed)))


def test_the_table_of_errors_has_the_codes_that_the_headers_name() -> None:
    contracts = [contract_of(script) for script in SCRIPTS]
    named = {code for contract in contracts for code in (*contract.errors, *contract.row_errors)}
    assert {row[0].strip("`") for row in table("errors")} == named - {"NOPERM", "WRONGTYPE"}


def test_the_table_of_costs_has_a_line_for_each_script_and_those_that_its_program_prints() -> None:
    lines = [row[0] for row in table("costs")]
    assert lines == re.findall(r'^ {8}"(.*)": \(', (ROOT / "perf" / "script_time.py").read_text(), re.MULTILINE)
    assert all(re.fullmatch(r"\d+\.\d", row[1]) for row in table("costs"))
    assert all(re.fullmatch(r"\d\.\d\d", row[2]) for row in table("costs")[1:])
    assert set(re.findall(r"`([a-z]+_[a-z_]+)`", " ".join(lines))) == set(SCRIPT)


def test_the_client_of_the_page_reads(
    servers: dict[str, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers["valkey9"]
    for name, text in built_files().items():
        path = tmp_path / "build" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    with FeatureStore.connect(server.url, timeout=5) as store:
        store.transport.command("FLUSHALL")
        store.apply(Definition({"age": "float", "country": "string", "embedding": "float32[2]"}))
        store.upsert([("ann", {"age": 31.5, "country": "DE", "embedding": [1, 2]}), ("bob", {"age": 7})])
        (example,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        assert "port=6379" in example
        names: dict[str, Any] = {}
        exec(example.replace("6379", str(server.port)), names)
        assert names["get"]("ann") == {"age": 31.5, "country": "DE"}
        assert names["get"]("nobody") is names["get"]("nobody", "embedding") is None
        assert names["get"]("ann", "embedding", "age") == {
            "age": 31.5,
            "country": "DE",
            "embedding": struct.pack("<2f", 1, 2),
        }
        assert names["get"]("bob", "embedding") == {"age": 7, "country": None, "embedding": None}
        names["client"].close()
        store.transport.command("FLUSHALL")


# Users


BY_FUNCTIONS = {"+evalsha_ro": "+fcall_ro", "+evalsha": "+fcall"}


def user_lines(server: str, way: str = "") -> dict[str, list[str]]:
    """Return the words behind `ACL SETUSER` on the page for each user of a server."""
    newer, older, _in_clusters = (
        {line.split()[2]: line.split()[2:] for line in block.splitlines()}
        for block in re.findall(r"^```\n(ACL .*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    )
    lines = {**newer, **older} if server == "redis62" else newer
    if way != "functions":
        return lines
    assert all(f"`{new}` in place of `{old}`" in PAGE for old, new in BY_FUNCTIONS.items())
    assert "and no `+script|load`" in PAGE
    return {
        name: [BY_FUNCTIONS.get(word, word) for word in words if word != "+script|load"]
        for name, words in lines.items()
    }


class Users:
    """Connections of the page's users, and of one who may do everything.

    A step is a user's if its script is, and if all its keys are among those that the page gives to that user; otherwise
    it is made by the one who may do everything.
    """

    def __init__(self, server: Server, lines: dict[str, list[str]], way: str) -> None:
        self._server, self._door = server, by_function if way == "functions" else by_script
        self.everything = Wire(f"{server.folder}/s")
        load_scripts(self.everything)
        if way == "functions":
            load_functions(self.everything)
        self._asks = b"_RO" if any(word.endswith("_ro") for word in lines["reader"]) else b""
        self.wires = {name: self._wire(name, words) for name, words in lines.items()}
        self.made: Counter[str] = Counter()
        self._describing = cycle(lines)

    def _wire(self, name: str, words: list[str]) -> Wire:
        told = self.everything(b"ACL", b"SETUSER", *(word.encode() for word in words))
        assert told == b"OK", told
        wire = Wire(f"{self._server.folder}/s")
        assert wire(b"AUTH", name.encode(), b"secret") == b"OK"
        return wire

    def answer(self, step: Json) -> Reply:
        """Send a step as whose it is, and return the reply."""
        script = step.get("script")
        user = "reader" if script in READS else "keeper" if script in KEEPS else "writer"
        if script == "apply_schema":
            user = "owner"
        if script == "describe_entity":  # which each of them may
            user = next(self._describing)
        if not script or not all(self._is_theirs(user, word_bytes(key)) for key in step["keys"]):
            return self.everything(*words_of(step))
        self.made[user] += 1
        command, name = self._door(script)
        ending = self._asks if user == "reader" else b""
        return self.wires[user](*words_of(step, lambda _: [command + ending, name]))

    @staticmethod
    def _is_theirs(user: str, key: bytes) -> bool:
        if user == "owner":
            return key in {b"user:schema", b"featurestore:schemas"}
        return key.startswith(b"user:") or key == b"all_users" or (user == "keeper" and key == b"featurestore:schemas")

    def close(self) -> None:
        self.everything(b"FLUSHALL")
        self.everything(b"ACL", b"DELUSER", *(name.encode() for name in self.wires))
        if self._door is by_function:
            self.everything(b"FUNCTION", b"DELETE", LIBRARY.encode())
        for wire in (self.everything, *self.wires.values()):
            wire.close()


@pytest.fixture(params=real(*EVERYDAY, "valkey9-functions", "redis7-functions", ways=("", "-functions")))
def users(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Users]:
    name, _, way = request.param.partition("-")
    made = Users(servers[name], user_lines(name, way), way)
    yield made
    made.close()


def test_the_users_of_the_page_can_do_all_that_the_vectors_do(users: Users) -> None:
    assert [wrong for content in FILES.values() for wrong in wrong_replies(users.answer, content)] == []
    assert users.made.keys() == {"reader", "writer", "owner", "keeper"}
    assert users.made.pop("keeper") > 30
    assert min(users.made.values()) > 100


@pytest.mark.parametrize("users", ["valkey9"], indirect=True)
def test_the_users_need_every_command_that_the_page_gives_them(users: Users) -> None:
    needless = []
    for name, words in user_lines("valkey9").items():
        for word in words:
            if word.startswith("+") and not word.startswith(("+evalsha", "+script")):
                users.everything(b"ACL", b"SETUSER", name.encode(), f"-{word[1:]}".encode())
                if not any(wrong_replies(users.answer, content) for content in FILES.values()):
                    needless.append((name, word))
                users.everything(b"ACL", b"SETUSER", name.encode(), word.encode())
    assert needless == []


def test_the_reader_can_write_nothing(users: Users) -> None:
    assert users.everything(b"HSET", b"user:schema", b"f", b"float") == 1
    for words in ((b"HSET", b"user:schema", b"f", b"int"), (b"DEL", b"user:schema"), (b"SADD", b"all_users", b"x")):
        assert str(users.wires["reader"](*words)).startswith("NOPERM")
    for script in SCRIPTS:
        if script.name not in READS:
            call = {"script": script.name, "keys": ["all_users", "user:schema", "user:ann:features"], "args": ["ann"]}
            assert isinstance(users.wires["reader"](*words_of(call)), Exception)
    assert users.everything(b"HGET", b"user:schema", b"f") == b"float"
    assert users.everything(b"EXISTS", b"all_users", b"user:ann:features") == 0


# Replicas


@pytest.fixture
def replica(servers: dict[str, Server], tmp_path: Path) -> Iterator[Server]:
    """A replica of redis7, with nothing in its cache of scripts."""
    primary = servers["redis7"]
    server = Server(primary.binary, tmp_path, "--replicaof", f"127.0.0.1 {primary.port}")
    server.start()
    yield server
    server.stop()


def test_a_replica_reads_by_either_command_and_writes_nothing(servers: dict[str, Server], replica: Server) -> None:
    with Wire(f"{servers['redis7'].folder}/s") as primary, Wire(f"{replica.folder}/s") as beside:
        primary(b"FLUSHALL")
        load_scripts(primary)
        keys = ["all_users", "user:schema", "user:ann:features"]
        assert primary(*words_of({"script": "apply_schema", "keys": ["user:schema"], "args": ["n", "int"]})) == 1
        write = {"script": "upsert_features", "keys": keys, "args": ["", "1", "n", "ann", "7"]}
        primary(*words_of(write))
        wait_until(lambda: beside(b"SISMEMBER", b"all_users", b"ann") == 1, what="the write on the replica")
        read = {"script": "get_features", "keys": keys, "args": ["ann", "n"]}
        assert str(beside(*words_of(read))).startswith("NOSCRIPT")
        load_scripts(beside)
        for command in (b"EVALSHA", b"EVALSHA_RO"):
            assert beside(*words_of(read, lambda name: [command, SCRIPT[name].sha.encode()])) == b"\x91\x07"  # noqa: B023
        assert str(beside(*words_of(write))).startswith("READONLY")
        primary(b"FLUSHALL")
