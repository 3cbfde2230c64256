"""Calls encoded around their ids are those that the client library packs word by word."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore import BadArgumentsError
from featurestore.contract import read_calls
from featurestore.contract.read_calls import ReadCalls
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH
from featurestore.keys import Keys

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
words = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=3)


@pytest.fixture(params=[False, True], ids=["as built", "without the extension"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(read_calls, "encode_ids_quickly", None)


@pytest.mark.usefixtures("way")
@given(st.sampled_from([Keys(), Keys("a$1", "é", "s")]), words, st.lists(ids, min_size=1, max_size=12))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_calls_are_encoded_as_the_library_encodes_them(keys: Keys, words: list[str], entity_ids: list[str]) -> None:
    calls = ReadCalls(keys, words)
    hashes = [keys.features(entity_id) for entity_id in entity_ids]
    for _ in range(2):  # made, then remembered
        assert calls.many(entity_ids) == encode_call(
            GET_FEATURES_BATCH, (keys.members, keys.schema, *hashes), (len(words), *words, *entity_ids)
        )
        for hash_key, entity_id in zip(hashes, entity_ids, strict=True):
            call = encode_call(GET_FEATURES, (keys.members, keys.schema, hash_key), (entity_id, *words))
            assert calls.one(entity_id.encode()) == call


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("entity_id", "reason"), [("", "not 0"), ("é" * 129, "not 258"), ("\ud800", "unicode text"), (7, "unicode text")]
)
def test_what_is_no_id_is_told(entity_id: Any, reason: str) -> None:
    with pytest.raises(BadArgumentsError, match=reason):
        ReadCalls(Keys(), ["age"]).many(["a", entity_id])


@pytest.mark.skipif(read_calls.encode_ids_quickly is None, reason="the extension was not built")
def test_wrong_calls_of_the_extension_are_told() -> None:
    quick: Any = read_calls.encode_ids_quickly
    for arguments in ([], [("a",), b"", b""], [["a"], "", b""], [["a"], b"", None], [[7], b"", b""]):
        with pytest.raises(TypeError):
            quick(*arguments)
    assert quick(["a", "bc"], b"k:", b"") == (b"$3\r\nk:a\r\n$4\r\nk:bc\r\n", b"$1\r\na\r\n$2\r\nbc\r\n")
    assert quick(["x" * 256] * 300, b"", b"")[1] == b"$256\r\n" + b"$256\r\n".join([b"x" * 256 + b"\r\n"] * 300)
