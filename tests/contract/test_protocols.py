"""Scripts called by every command that calls them, over RESP2 and over RESP3: what they reply is the same."""

from collections.abc import Iterator, Sequence
from types import NoneType
from typing import NamedTuple

import pytest
from support.resp3 import Resp3Transport
from support.servers import EVERYDAY, Server, real

from featurestore import BadReplyError, FeatureStoreError, SyncTransport
from featurestore.contract.library import LIBRARY, function_library
from featurestore.contract.resp import Reply, Word
from featurestore.contract.scripts import (
    APPLY_SCHEMA,
    DELETE_ENTITY,
    DESCRIBE_ENTITY,
    GET_FEATURES,
    GET_FEATURES_BATCH,
    INCREMENT_FEATURES,
    SCRIPTS,
    UPSERT_FEATURES,
    Script,
)

SHARED = ("all_users", "user:schema")
ANN, BEN = "user:ann:features", "user:ben:features"
TIME = 1_700_000_000_123
NAMES = ("n", "score", "vip", "city")

WRITES: Sequence[tuple[Script, Sequence[Word], Sequence[Word]]] = [
    (APPLY_SCHEMA, ["user:schema"], ["n", "int", "score", "float", "vip", "bool", "city", "string"]),
    (UPSERT_FEATURES, [*SHARED, ANN, BEN],
     [TIME, 5, "?verdicts", *NAMES, "ann", "7", "0.5", "true", "Åre", "ben", "many", "1", "0", "x"]),
    (INCREMENT_FEATURES, [*SHARED, ANN], ["ann", TIME + 1, "n", "5", "score", "0.25"]),
    (INCREMENT_FEATURES, [*SHARED, ANN], ["ann", TIME, "city", "1"]),
]  # fmt: skip
READS: Sequence[tuple[Script, Sequence[Word], Sequence[Word]]] = [
    (DESCRIBE_ENTITY, ["user:schema"], []),
    (GET_FEATURES, [*SHARED, ANN], ["ann", *NAMES]),
    (GET_FEATURES, [*SHARED, ANN], ["ann"]),
    (GET_FEATURES, [*SHARED, ANN], ["ann", "?current", "n"]),
    (GET_FEATURES, [*SHARED, ANN], ["ann", "?metadata", *NAMES]),
    (GET_FEATURES, [*SHARED, BEN], ["ben", "n"]),
    (GET_FEATURES, [*SHARED, ANN], ["ann", "height"]),
    (GET_FEATURES, [*SHARED, ANN], []),
    (GET_FEATURES_BATCH, [*SHARED, ANN, BEN], [2, "n", "vip", "ann", "ben"]),
    (GET_FEATURES_BATCH, [*SHARED, ANN, BEN], [0, "ann", "ben"]),
    (GET_FEATURES_BATCH, [*SHARED, ANN], [0, "ann", "ben"]),
]  # fmt: skip
ENDS: Sequence[tuple[Script, Sequence[Word], Sequence[Word]]] = [
    (DELETE_ENTITY, [*SHARED, ANN], ["ann"]),
    (DELETE_ENTITY, [*SHARED, ANN], ["ann", "yesterday"]),
]


class Links(NamedTuple):
    """An empty server, asked over either protocol."""

    resp2: SyncTransport
    resp3: Resp3Transport


@pytest.fixture(params=real(*EVERYDAY))
def links(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Links]:
    url = servers[request.param].socket_url
    both = Links(SyncTransport(url, timeout=5, connect_timeout=5), Resp3Transport(url, timeout=5, connect_timeout=5))
    both.resp2.command("FLUSHALL")
    yield both
    both.resp2.command("FLUSHALL")
    for link in both:
        link.close()


def load(link: SyncTransport, command: str) -> dict[str, Word]:
    """Load what the command calls, and return under which word it calls each script."""
    if not command.startswith("FCALL"):
        return {script.name: link.command("SCRIPT", "LOAD", script.source) for script in SCRIPTS}
    link.command("FUNCTION", "LOAD", "REPLACE", function_library())
    return {script.name: f"{LIBRARY}_{script.name}" for script in SCRIPTS}


def replies(
    link: SyncTransport,
    command: str,
    words: dict[str, Word],
    calls: Sequence[tuple[Script, Sequence[Word], Sequence[Word]]],
) -> list[Reply]:
    """Return what each call is answered with, an error by its text."""
    answers = []
    for script, keys, arguments in calls:
        try:
            answer = link.command(command, words[script.name], len(keys), *keys, *arguments)
            if "?metadata" in arguments:
                answer[2] = type(answer[2])  # the age, which goes on
            answers.append(answer)
        except FeatureStoreError as error:
            answers.append(f"{type(error).__name__}: {error}")
    return answers


@pytest.mark.parametrize("command", ["EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO"])
def test_a_call_is_answered_alike_over_both_protocols(links: Links, command: str) -> None:
    if links.resp2.command("COMMAND", "INFO", command) == [None]:
        pytest.skip(f"{command} is of Redis 7.0")
    words = load(links.resp2, command)
    writing = command.removesuffix("_RO")
    answers = []
    for link in links:
        link.command("FLUSHALL")
        written, read = replies(link, writing, words, WRITES), replies(link, command, words, READS)
        answers.append([*written, *read, *replies(link, writing, words, ENDS)])
    assert repr(answers[1]) == repr(answers[0])  # which tells 1 from True, too
    assert {type(answer) for answer in answers[0]} == {NoneType, bytes, int, list, str}


def test_a_reply_that_only_resp3_has_is_none_of_a_script(links: Links) -> None:
    links.resp2.command("HSET", "user:schema", "n", "int")
    text = "redis.setresp(3); return redis.call('HGETALL', KEYS[1])"
    sha = links.resp2.command("SCRIPT", "LOAD", text)
    assert links.resp2.command("EVALSHA", sha, 1, "user:schema") == [b"n", b"int"]
    with pytest.raises(BadReplyError, match="a dict"):
        links.resp3.command("EVALSHA", sha, 1, "user:schema")
