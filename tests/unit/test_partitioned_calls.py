"""Ids grouped by partition: the calls, and the rows put back in the order of the ids."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore import BadArgumentsError
from featurestore.contract import partitioned_calls
from featurestore.contract.partitioned_calls import READS, PartitionedCalls, arranged
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH
from featurestore.errors import RedisError
from featurestore.keys import PartitionedKeys, slot_of

ids = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64), max_size=40)
words = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=3)
counts = st.sampled_from([1, 4, 64, 4096])

built = pytest.mark.skipif(partitioned_calls.grouper_type is None, reason="the extension was not built")


@pytest.fixture(params=[False, True], ids=["as built", "without the extension"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        for name in ("grouper_type", "arrange_quickly", "all_plain"):
            monkeypatch.setattr(partitioned_calls, name, None)


def expected_call(keys: PartitionedKeys, some: list[str], words: Sequence[str], many: Sequence[str]) -> bytes:
    """Return the call as the client library encodes it."""
    part = keys.holding(some[0].encode())
    hashes = [part.features(each) for each in some]
    if len(some) == 1:
        return encode_call(GET_FEATURES, (part.members, part.schema, *hashes), (*some, *words))
    arguments: list[str | int] = [len(many), *many, *some]
    return encode_call(GET_FEATURES_BATCH, (part.members, part.schema, *hashes), arguments)


@pytest.mark.usefixtures("way")
@given(st.sampled_from(["user", "é"]), st.sampled_from([None, "s"]), counts, words, ids, st.integers(1, 7))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_partition_is_asked_for_its_ids_in_their_order(  # noqa: PLR0913, PLR0917 - what hypothesis draws
    entity: str, members: str | None, count: int, words: list[str], entity_ids: list[str], most: int
) -> None:
    keys = PartitionedKeys(entity, count, members)
    calls = PartitionedCalls(keys, words, before=("?a",), before_many=("?most=9",))
    one, many = ("?a", *words), ("?a", "?most=9", *words)
    groups = calls.grouped(entity_ids, most)

    assert sorted(groups.order) == list(range(len(entity_ids)))
    parts, rest = [], [entity_ids[position] for position in groups.order]
    for size in groups.sizes:
        parts.append(rest[:size])
        rest = rest[size:]
    assert rest == []
    assert list(groups.calls) == [expected_call(keys, part, one, many) for part in parts]
    assert groups.calls.slots == [slot_of(keys.holding(part[0].encode()).schema.encode()) for part in parts]
    for part in parts:
        assert len({keys.holding(each.encode()) for each in part}) == 1
        assert len(part) <= most
    holders = [keys.parts.index(keys.holding(part[0].encode())) for part in parts]
    assert holders == sorted(holders)
    for before, after, size in zip(holders, holders[1:], groups.sizes, strict=False):
        assert before != after or size == most  # no more calls than there have to be
    for holder in set(holders):  # in their order, duplicates as well
        of_it = [each for part, other in zip(parts, holders, strict=True) if other == holder for each in part]
        assert of_it == [each for each in entity_ids if keys.holding(each.encode()) is keys.parts[holder]]

    cut = calls.cut(entity_ids, most)
    assert (cut.ids, cut.partitions, cut.order) == (parts, holders, groups.order)
    assert [calls.call(holder, part) for holder, part in zip(holders, parts, strict=True)] == groups.calls
    assert [calls.slot_of(holder) for holder in holders] == groups.calls.slots
    for each in entity_ids:
        assert calls.one(each.encode()) == expected_call(keys, [each], one, many)


def test_options_stand_in_front_of_the_words() -> None:
    keys = PartitionedKeys("user", 4)
    plain = PartitionedCalls(keys, ["@layout0"], before_many=("?most=9",))
    calls = plain.with_options(("?metadata",))
    assert plain.with_options(()) is plain
    assert plain.with_options(("?metadata",)) is calls
    assert calls.grouped(["ann"], 100).calls == [expected_call(keys, ["ann"], ("?metadata", "@layout0"), ())]
    many = ("?metadata", "?most=9", "@layout0")
    assert calls.grouped(["ann", "ann"], 100).calls == [expected_call(keys, ["ann", "ann"], (), many)]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("entity_id", "reason"), [("", "not 0"), ("é" * 129, "not 258"), ("\ud800", "unicode text"), (7, "unicode text")]
)
def test_what_is_no_id_is_told(entity_id: Any, reason: str) -> None:
    calls = PartitionedCalls(PartitionedKeys("user", 4), ["age"])
    for group in (calls.grouped, calls.cut):
        with pytest.raises(BadArgumentsError, match=reason):
            group(["a", entity_id], 100)


@built
def test_wrong_calls_of_the_extension_are_told() -> None:
    make: Any = partitioned_calls.grouper_type
    parts = ((b"$1\r\na\r\n", b"{0}user:", 0),)
    frames = (b":features", b"*8\r\n", b"", b"$7\r\nEVALSHA\r\n", b"$1\r\n0\r\n", 1)
    for wrong in ([], [()], [(b"", b"")], [(b"", b"", "0")], [b""]):
        with pytest.raises((TypeError, ValueError)):
            make(tuple(wrong), *frames)
    with pytest.raises(ValueError, match="-1 words"):
        make(parts, *frames[:-1], -1)
    with pytest.raises(TypeError):
        make(parts, "text", *frames[1:])
    grouper = make(parts, *frames)
    for arguments in ([], [["a"]], [("a",), 1], [[7], 1], [["a"], "1"]):
        for method in (grouper.calls, grouper.cut):
            with pytest.raises(TypeError):
                method(*arguments)
    for ids, most in ((["a"], 0), ([""], 1), (["x" * 257], 1)):
        with pytest.raises(ValueError, match="id"):
            grouper.calls(ids, most)
    for partition, some in ((1, ["a"]), (-1, ["a"]), (0, [])):
        with pytest.raises(ValueError, match="there is no partition"):
            grouper.call(partition, some)
    two = make(parts * 2, *frames)
    with pytest.raises(ValueError, match="another partition"):
        two.call(0, [next(each for each in map(str, range(99)) if two.cut([each], 1)[1] == [1])])
    assert grouper.calls(["x" * 256] * 300, 1000)[2:] == ([300], list(range(300)))
    assert grouper.calls([], 1) == ([], [], [], [])


ROWS = st.binary(max_size=9).map(lambda packed: msgspec.msgpack.encode([packed])) | st.none()


@pytest.mark.usefixtures("way")
@given(st.lists(st.tuples(st.lists(ROWS, min_size=1, max_size=20), st.booleans())), st.randoms(use_true_random=False))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_back_in_the_order_of_the_ids(parts: list[tuple[list[bytes | None], bool]], random: Any) -> None:
    rows = [row for part, _ in parts for row in part]
    order = list(range(len(rows)))
    random.shuffle(order)
    replies: list[Any] = []
    for part, packed in parts:
        if len(part) == 1:
            replies.append(part[0])
        else:
            raws = [msgspec.Raw(b"\xc0" if row is None else row) for row in part]
            replies.append(msgspec.msgpack.encode(raws) if packed else part)
    sizes = [len(part) for part, _ in parts]
    assert arranged(replies, sizes) == rows
    found = arranged(replies, sizes, order)
    assert [found[position] for position in order] == rows


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "reply", [[b"\x90"], [b"\x90"] * 3, b"\x91\x90", b"\x92\x90", b"\x92\x90\x90\x90", b"", b"\x92\x90\xc1", 7, None]
)
def test_replies_of_other_rows_are_refused(reply: Any) -> None:
    with pytest.raises(msgspec.DecodeError):
        arranged([reply], [2], [1, 0])


@built
def test_wrong_replies_are_told_by_the_extension() -> None:
    quick: Any = partitioned_calls.arrange_quickly
    arguments: Any
    for arguments in ([], [(), [], None], [[], (), None], [[], [], ()], [[None], ["1"], None]):
        with pytest.raises(TypeError):
            quick(*arguments)
    one = [None]
    for arguments in ([one, [], None], [one, [0], None], [one, [1], [1]], [one, [1], [-1]], [one, [1], []],
                      [[[None, None]], [2], [0, 0]], [one, [2**62], None]):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            quick(*arguments)


SINGLE = expected_call(PartitionedKeys("user", 1), ["a"], ("@layout0",), ())
TWO = expected_call(PartitionedKeys("user", 1), ["a", "b"], (), ("@layout0",))
ROW = b"@layout0\x91\x01"
AGED = [b"\x91\x01", 1, 2, b"P", [3]]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("call", "reply"),
    [
        *((SINGLE, reply) for reply in (ROW, None, b"\x91\x01", [ROW, b"\x90"], AGED, RedisError("WRONGTYPE no"))),
        *(
            (TWO, reply)
            for reply in ([ROW, None], b"\x92\xc0\x91\x01", [[ROW, b"\x90"], None], [AGED, None], [None] * 2)
        ),
    ],
)
def test_replies_that_fit_their_calls(call: bytes, reply: Any) -> None:
    assert READS.answers([call, SINGLE]).misfit([reply, ROW]) is None


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("call", "reply"),
    [
        *((SINGLE, reply) for reply in (b"", b"abc", 0, [ROW, ROW, ROW], [None, ROW], [ROW])),
        *((TWO, reply) for reply in (None, 3, [ROW], [ROW] * 3, b"\x91\x91\x01", [ROW, 0], [ROW, [ROW, b"\x90"]])),
        (b"*1\r\n$4\r\nPING\r\n*\r\n*\r\n*\r\n", ROW),
    ],
)
def test_replies_that_do_not(call: bytes, reply: Any) -> None:
    assert READS.answers([SINGLE, call]).misfit([ROW, reply]) is not None


def test_a_row_that_a_call_has_left_fits() -> None:
    most = expected_call(PartitionedKeys("user", 1), ["a", "b"], (), ("?most=9", "@layout0"))
    assert READS.answers([most]).misfit([[ROW, 0]]) is None
