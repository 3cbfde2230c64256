"""Calls by EVALSHA as calls by FCALL."""

import pytest

from featurestore.contract.doors import BY_EVALSHA, BY_FCALL, as_function_call
from featurestore.contract.library import serves
from featurestore.contract.resp import Word, encode_call, encode_command
from featurestore.contract.scripts import SCRIPTS, Script, answer_to, keeps_order

TRICK = b"*3\r\n$7\r\nEVALSHA\r\n$40\r\n" + SCRIPTS[0].sha.encode() + b"\r\n$1\r\n0\r\n"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
@pytest.mark.parametrize("count", [0, 1, 5000])
def test_only_the_head_of_a_call_changes(script: Script, count: int) -> None:
    keys: list[Word] = ["all_users", "user:schema", "k"]
    words: list[Word] = [TRICK, b"", "\xff", *["x"] * count]
    made = as_function_call(encode_call(script, keys, words))
    assert made == encode_command(("FCALL", f"featurestore_1_{script.name}", 3, *keys, *words))
    assert as_function_call(made) == made
    assert keeps_order(made) == script.in_order


@pytest.mark.parametrize("words", [("PING",), ("ECHO", TRICK), ("EVALSHA", "0" * 40, 0), ("EVALSHA", "short")])
def test_other_commands_stay_as_they_are(words: tuple[Word, ...]) -> None:
    assert as_function_call(encode_command(words)) == encode_command(words)


def test_a_call_by_either_door_has_the_same_answers() -> None:
    call = encode_call(SCRIPTS[1], ["all_users", "user:schema", "a", "b"], [1, "age", "a", "b"])
    for encoded in (call, as_function_call(call)):
        assert answer_to(encoded).misfit([b"\x92\xc0\xc0"]) is None
        assert answer_to(encoded).misfit([b"\x93\xc0\xc0\xc0"]) is not None


def test_what_is_loaded_is_told_by_its_names() -> None:
    names = [script.sha.encode() for script in SCRIPTS]
    assert BY_EVALSHA.loaded.misfit(names) is None
    assert BY_EVALSHA.loaded.misfit([*names[1:], names[0]]) is not None
    assert BY_FCALL.loaded.misfit([b"featurestore_1"]) is None
    assert BY_FCALL.loaded.misfit([b"featurestore_2"]) is not None
    assert (len(BY_EVALSHA.load_commands()), len(BY_FCALL.load_commands())) == (len(SCRIPTS), 1)


def test_versions_are_compared_by_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurestore.contract.library.build", lambda: "0.9.0 abc")
    served = [b"0.9.0 abc", b"0.10.0 x", b"1.0 x", b"0.9.1rc1 x", b"0.9.0.1 x"]
    not_served = [b"0.9.0 abd", b"0.9.0rc2 x", b"0.8.99 x", b"0.9 x", b"", b"\xff", b"rubbish"]
    assert [serves(told) for told in served + not_served] == [True] * len(served) + [False] * len(not_served)
