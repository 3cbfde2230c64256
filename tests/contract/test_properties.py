"""The scripts against the model, step by step, on every backend."""

import struct
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.keys import single
from support.model import FORGET, LEAVE, Model
from support.names import single_redis
from support.ways import asking

from featurestore import Definition, FeatureStore, Transport
from featurestore.contract.scripts import UPSERT_FEATURES
from featurestore.store.maintenance import repack

SCHEMA = {"f": "float", "i": "int", "b": "bool", "s": "string", "f.2": "float", "s-2": "string"}
IDS = ["a", "user:*", "é€😀", "a/b", " ", "x" * 256, "x" * 257, ""]

floats = st.floats(allow_nan=True, allow_infinity=True).map(lambda value: repr(value).encode())
ints = st.integers(-(2**65), 2**65).map(lambda value: str(value).encode())
numberlike = st.text("0123456789.+-eExX ,naif\x00\n", max_size=12).map(str.encode)
text = st.one_of(st.text(max_size=70).map(str.encode), st.binary(max_size=12))
rare = st.sampled_from([b"", b"true", b"false", b"1", b"0", b"-0", b"-0.0", b"1e999", b"1e-999", b"00123", b"1e5",
                        b"null", b"9007199254740993", b"-9223372036854775808", b"9223372036854775808", b"5.",
                        b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", FORGET, LEAVE])  # fmt: skip
value = st.one_of(floats, ints, numberlike, text, rare)
names = st.lists(st.sampled_from(list(SCHEMA)), unique=True, max_size=len(SCHEMA))
time = st.integers(1, 5)


@st.composite
def upserts(draw: st.DrawFn) -> tuple[str, list[str], list[tuple[str, list[bytes]]], int, bool]:
    columns = draw(names)
    cells = st.lists(value, min_size=len(columns), max_size=len(columns))
    rows = draw(st.lists(st.tuples(st.sampled_from(IDS), cells), min_size=1, max_size=4))
    return "upsert", columns, rows, draw(time), draw(st.integers(0, 3)) == 0


step = st.one_of(
    upserts(),
    upserts(),
    st.tuples(st.just("declare"), st.sampled_from(["new_1", "new_2"])),
    st.tuples(st.just("repack")),
    st.tuples(st.just("lose_row"), st.sampled_from(IDS[:6])),
    st.tuples(st.just("delete"), st.sampled_from(IDS[:6]), time),
    st.tuples(st.just("get"), st.sampled_from(IDS[:6]), st.one_of(st.none(), names.filter(bool))),
    st.tuples(st.just("get_many"), st.lists(st.sampled_from(IDS[:6]), min_size=1, max_size=8)),
)


def bits(value: Any) -> Any:
    """Make floats comparable bit for bit and apart from ints and bools."""
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    return (type(value), struct.pack(">d", value)) if isinstance(value, float) else (type(value), value)


@single_redis("one call of the script has rows of one partition")
@given(st.lists(step, max_size=12))
@settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scripts_do_what_the_model_does(  # noqa: C901 - one branch a verb
    transport: Transport, steps: list[Any]
) -> None:
    transport.command("FLUSHALL")
    store, model = FeatureStore(transport), Model(dict(SCHEMA))
    keys_of = single(store)
    store.apply(Definition(features=SCHEMA))  # type: ignore[arg-type]
    for action, *details in steps:
        if action == "upsert":
            columns, rows, event_time, overwrite = details
            keys = [keys_of.members, keys_of.schema, *(keys_of.features(row[0]) for row in rows)]
            cells = [word for entity_id, texts in rows for word in (entity_id.encode(), *texts)]
            names = ["?verdicts", *["?overwrite"] * overwrite, *columns]
            written, skipped, rejected, verdicts = transport.run(
                UPSERT_FEATURES, keys, [event_time, len(names), *names, *cells]
            )
            codes = [(position, code.decode()) for position, code, _ in rejected]
            expected = model.upsert(columns, rows, event_time, overwrite=overwrite)
            assert (written, skipped, codes, verdicts.decode()) == expected
        elif action == "declare":
            store.apply(Definition(features={details[0]: "int"}))
            model.schema[details[0]] = "int"
            store.schema()
        elif action == "repack":
            for _ in repack(store):
                pass
            assert [progress.built for progress in repack(store)][-1:] in ([], [0])
        elif action == "lose_row":  # as if something else had written the hash
            if model.lose_row(details[0]):
                transport.command("HDEL", keys_of.features(details[0]), "@row")
        elif action == "delete":
            assert store.delete(details[0], event_time=details[1]) == model.delete(*details)
        elif action == "get":
            entity_id, wanted = details
            assert bits(store.get(entity_id, wanted)) == bits(model.get(entity_id, wanted or list(model.schema)))
        else:
            rows = store.get_many(details[0])
            assert [bits(row) for row in rows] == [
                bits(model.get(entity_id, list(model.schema))) for entity_id in details[0]
            ]
    assert store.count() == len(model.rows)
    by_name = FeatureStore(transport)
    for entity_id in model.rows:  # the packed row and the fields agree
        everything = bits(model.get(entity_id, list(model.schema)))
        assert bits(store.get(entity_id)) == everything
        with asking(by_layout=False):
            assert bits(by_name.get(entity_id, list(model.schema))) == everything
