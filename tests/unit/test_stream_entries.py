"""What the entries of a stream write, in which groups, and what is told of those that cannot."""

import struct
from typing import Any

import pytest
from featurestore.ingest.streams.decoding import Decoder, MalformedEntryError, Write
from featurestore.ingest.streams.interface import DeadLetter, Entry
from featurestore.ingest.streams.redis_streams import letter_fields
from featurestore.ingest.streams.writing import grouped
from hypothesis import given
from hypothesis import strategies as st

FEATURES = {
    "age": "float", "logins": "int", "vip": "bool", "name": "string", "place": "float32[2]",
    "often": "count(10m)", "spent": "sum(amount, 1h)",
}  # fmt: skip
DECODER = Decoder(("user_id",), FEATURES, ignores_undeclared=False)
LENIENT = Decoder(("user_id",), FEATURES, ignores_undeclared=True)
WITHOUT_WINDOWS = Decoder(("user_id",), {"age": "float"}, ignores_undeclared=False)


def entry(*words: str | bytes, key: bytes | None = None, entry_id: str = "1700-3", source: str = "clicks") -> Entry:
    fields = [word.encode() if isinstance(word, str) else word for word in words]
    return Entry(source, entry_id, 1700, fields, 1, key)


def payload(text: str, **more: Any) -> Entry:
    return entry("payload", text, **more)


def complaint(found: Entry, decoder: Decoder = DECODER) -> tuple[str | None, str]:
    with pytest.raises(MalformedEntryError) as caught:
        decoder.decode(found)
    return caught.value.code, str(caught.value)


def test_a_flat_entry_has_a_field_for_each_feature_in_the_types_of_the_schema() -> None:
    words = "user_id", "ann", "age", "31", "logins", "-7", "vip", "true", "name", "007", "place", "[1,2.5]"
    assert DECODER.decode(entry(*words)) == Write(
        "rows", ("age", "logins", "vip", "name", "place"), ["ann", 1700, 31, -7, True, "007", [1.0, 2.5]],
        ("clicks", "1700-3"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("age", "1e3", 1000.0),
        ("age", "5.", 5.0),
        ("age", "-0.5", -0.5),
        ("logins", "9223372036854775807", 2**63 - 1),
        ("logins", "5.0", 5),
        ("vip", "0", False),
        ("name", "", ""),
        ("name", "é", "é"),
        ("place", struct.pack("<2f", 1.5, 2.5), struct.pack("<2f", 1.5, 2.5)),
        ("place", "[1.2345]", [1.2345]),
    ],
)
def test_text_is_read_by_the_type_of_the_feature(name: str, text: str, value: Any) -> None:
    assert DECODER.decode(entry("id", "ann", name, text)).row[2:] == [value]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("age", text)
            for text in ("", "nan", "inf", "+5", "007", "0x10", "1_0", "5,0", "old", "1e999", '"5"', "null")
        ),
        *(("logins", text) for text in ("", "--1", "true", "1 000")),
        *(("vip", text) for text in ("True", "yes", "2", "")),
        *(("place", text) for text in ("[1,", "1,2", '[1,"x"]')),
    ],
)
def test_text_of_another_type_is_told_with_the_feature_and_the_value(name: str, text: str) -> None:
    code, reason = complaint(entry("user_id", "ann", "name", "x", name, text))
    assert (code, reason) == ("BADTYPE", f"{name} is {FEATURES[name]}, not {text!r}")


def test_text_that_is_no_text_is_told() -> None:
    assert complaint(entry("user_id", "ann", "name", b"\xff")) == ("BADTYPE", "name is string, not '\\\\xff'")
    assert complaint(entry("user_id", b"\xff", "age", "1"))[0] == "BADID"
    assert complaint(entry("user_id", "ann", "age", "1", "event_time", b"\xff"))[0] == "BADTIME"


def test_the_event_time_is_the_entrys_own_or_when_it_was_added() -> None:
    assert DECODER.decode(entry("user_id", "ann", "event_time", "1700000000000", "age", "1")).row[1] == 1700000000000
    assert DECODER.decode(entry("user_id", "ann", "event_time", "2026-08-21", "age", "1")).row[1] == "2026-08-21"
    assert DECODER.decode(entry("user_id", "ann", "age", "1")).row[1] == 1700
    assert DECODER.decode(payload('{"id":"ann","event_time":5,"features":{}}')).row == ["ann", 5]
    assert DECODER.decode(payload('{"id":"ann","features":{}}')).row == ["ann", 1700]


def test_an_object_has_the_form_of_a_line_of_ingest_or_the_features_themselves() -> None:
    expected = Write("rows", ("age", "name"), ["ann", 1700, 31, None], ("clicks", "1700-3"))
    assert DECODER.decode(payload('{"user_id":"ann","features":{"age":31,"name":null}}')) == expected
    assert DECODER.decode(entry("json", '{"id":"ann","age":31,"name":null}')) == expected
    assert DECODER.decode(payload('{"user_id":7,"age":31}')).row[0] == "7"


def test_increments_and_events_come_as_objects_and_in_flat_entries() -> None:
    origin = ("clicks", "1700-3")
    incremented = Write("increments", ("logins", "age"), ["ann", 1700, 2, 0.5], origin)
    assert DECODER.decode(payload('{"id":"ann","incr":{"logins":2,"age":0.5}}')) == incremented
    assert DECODER.decode(entry("user_id", "ann", "incr", '{"logins":2,"age":0.5}')) == incremented
    recorded = Write("events", ("@event_id", "amount"), ["ann", 9, "e1", 2.5], origin)
    assert DECODER.decode(payload('{"id":"ann","event":{"amount":2.5},"event_id":"e1","event_time":9}')) == recorded
    flat = entry("user_id", "ann", "event", '{"amount":2.5}', "event_id", "e1", "event_time", "9")
    assert DECODER.decode(flat) == recorded._replace(row=["ann", "9", "e1", 2.5])
    assert DECODER.decode(payload('{"id":"ann","event":{}}')) == Write("events", (), ["ann", 1700], origin)


def test_a_feature_may_have_a_name_that_entries_use() -> None:
    decoder = Decoder(
        ("user_id",), {"incr": "float", "payload": "string", "event_time": "int"}, ignores_undeclared=False
    )
    words = "user_id", "ann", "incr", "1", "payload", "{", "event_time", "3"
    assert decoder.decode(entry(*words)).row == ["ann", 1700, 1, "{", 3]


@pytest.mark.parametrize(
    ("found", "code", "reason"),
    [
        (entry("age", "1"), "BADROW", "want the id once, as user_id, among 'age'"),
        (entry("user_id", "a", "id", "b"), "BADROW", "want the id once, as user_id, among 'user_id, id'"),
        (entry("user_id", "a", "age", "1", "age", "2"), "BADROW", "the field 'age' stands twice"),
        (entry("user_id", "a", "aeg", "1"), "UNDECLARED", "aeg is not declared in the schema"),
        (payload('{"id":"a","features":{"aeg":1}}'), "UNDECLARED", "aeg is not declared in the schema"),
        (payload('{"age":1}'), "BADROW", "want the id once, as user_id, among 'age'"),
        (payload('{"id":true,"age":1}'), "BADID", "an id is text, not True"),
        (payload('{"id":"a","features":[1]}'), "BADROW", "features is an object of names and values, not [1]"),
        (payload('{"id":"a","features":{},"event_id":1}'), "BADROW", "features is not to stand beside 'event_id'"),
        (payload('{"id":"a","incr":{"age":1},"event":{}}'), "BADROW", "incr is not to stand beside 'event'"),
        (payload('{"id":"a","incr":{}}'), "BADROW", "incr names nothing to add to"),
        (payload('{"id":"a","incr":{"age":"1"}}'), "BADTYPE", "age cannot be '1': want a number"),
        (payload('{"id":"a","event":{"amount":true}}'), "BADTYPE", "amount cannot be True: want a number"),
        (payload('{"id":"a","event":{"amuont":1}}'), "UNDECLARED", "amuont of an event is summed by no window"),
        (payload('{"id":"a","event":{},"event_id":[1]}'), "BADROW", "event_id is text, not [1]"),
        (entry("user_id", "a", "incr", "5"), "BADROW", "incr is a JSON object, not '5': "),
        (payload("[1]"), "BADROW", "an entry's payload is a JSON object, not '[1]': "),
        (payload("{"), "BADROW", "an entry's payload is a JSON object, not '{': "),
    ],
)  # fmt: skip
def test_what_is_no_entry_is_told_with_what_would_be_right(found: Entry, code: str, reason: str) -> None:
    told = complaint(found)
    assert told[0] == code
    assert told[1].startswith(reason)


def test_events_want_a_window() -> None:
    told = complaint(payload('{"id":"a","event":{}}'), WITHOUT_WINDOWS)
    assert told == ("UNDECLARED", "no sliding window is declared in the schema")


def test_fields_that_are_no_features_may_be_left_out() -> None:
    assert LENIENT.decode(entry("user_id", "ann", "x", "1", "age", "2")).columns == ("age",)
    assert LENIENT.decode(payload('{"id":"ann","features":{"x":1,"age":2}}')).row == ["ann", 1700, 2]
    assert LENIENT.decode(payload('{"id":"ann","event":{"x":1,"amount":2}}')).columns == ("amount",)


def test_kafkas_key_is_the_id_where_the_payload_has_none() -> None:
    assert DECODER.decode(payload('{"age":1}', key=b"ann")).row[0] == "ann"
    assert DECODER.decode(payload('{"id":"bob","age":1}', key=b"ann")).row[0] == "bob"
    assert complaint(payload('{"age":1}', key=b"\xff"))[0] == "BADROW"


def test_a_dead_letter_can_be_consumed_as_if_it_were_the_entry_that_died() -> None:
    first = entry("user_id", "ann", "age", "1", entry_id="1600-2")
    letter = [
        word if isinstance(word, bytes) else str(word).encode()
        for word in letter_fields(DeadLetter(first, "BADTYPE", "x"))
    ]
    again = Entry("clicks.dead", "9999-0", 9999, letter)
    assert DECODER.decode(again) == DECODER.decode(Entry("clicks", "1600-2", 1600, first.fields))
    for text in ('{"id":"ann","incr":{"logins":1}}', '{"id":"ann","age":5}'):
        inner = payload(text, entry_id="1600-2")
        letter = [
            word if isinstance(word, bytes) else str(word).encode()
            for word in letter_fields(DeadLetter(inner, "X", "x"))
        ]
        again = Entry("clicks.dead", "9999-0", 9999, letter)
        assert DECODER.decode(again) == DECODER.decode(Entry("clicks", "1600-2", 1600, inner.fields))
        twice = dict(zip(*[iter(letter_fields(DeadLetter(again, "Y", "y")))] * 2, strict=True))
        assert (twice["@code"], twice["@stream"], twice["@id"]) == ("Y", b"clicks", b"1600-2")


def test_many_forms_of_entries_take_no_more_memory_than_some() -> None:
    for number in range(3000):
        LENIENT.decode(entry("user_id", "ann", f"x{number}", "1"))
    assert len(LENIENT._shapes) <= 1000


steps = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 3)), max_size=40)
FORMS = (("rows", ("age",)), ("rows", ("age", "name")), ("increments", ("logins",)), ("events", ()))


@given(steps)
def test_groups_keep_the_order_of_each_entity(taken: list[tuple[str, int]]) -> None:
    writes = []
    for number, (entity_id, form) in enumerate(taken):
        found = Entry("clicks", f"{number}-0", number, [])
        kind, columns = FORMS[form]
        writes.append((found, Write(kind, columns, [entity_id, number], ("clicks", found.id))))
    groups = grouped(writes)
    sent = [int(found.id.partition("-")[0]) for group in groups for found in group.entries]
    assert sorted(sent) == list(range(len(taken)))
    for entity_id in "abcde":
        mine = [number for number in sent if taken[number][0] == entity_id]
        assert mine == sorted(mine)
    for group in groups:
        assert {FORMS[taken[int(found.time or 0)][1]] for found in group.entries} == {(group.kind, group.columns)}
        assert all(row[1] == found.time for row, found in zip(group.rows, group.entries, strict=True))


def test_entries_of_one_form_leave_together_whatever_stands_between_them() -> None:
    forms = [("a", 0), ("b", 2), ("c", 0), ("d", 2), ("e", 0)]
    writes = [
        (Entry("s", f"{number}-0", 1, []), Write(FORMS[form][0], FORMS[form][1], [name, 1], ("s", "1-0")))
        for number, (name, form) in enumerate(forms)
    ]
    assert [len(group.rows) for group in grouped(writes)] == [3, 2]
