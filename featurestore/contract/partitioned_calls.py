"""Calls of the read scripts in a cluster: one for each partition that has some of the ids.

A partition with one id is asked by get_features, which costs Redis less than a batch of one. By the C extension, or by
Python where it is missing.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, TypeVar

import msgspec

from featurestore.contract.read_calls import MARK, MOST_OPTIONS, encode_ids
from featurestore.contract.replies import Answers
from featurestore.contract.resp import Word, encode_command
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH, WRITE_AND_READ, Script
from featurestore.contract.words import encode_id
from featurestore.keys import Keys, PartitionedKeys, partition_of, slot_of

grouper_type: Callable[..., Any] | None
"""The extension's type; None if the extension was not built."""
arrange_quickly: Callable[..., list[Any]] | None
"""The extension's `arrange`."""
all_plain: Callable[[list[bytes], Sequence[Any]], bool] | None
"""Whether each reply is plainly one to its call."""

try:
    from featurestore.native import partitions
except ImportError:
    grouper_type = arrange_quickly = all_plain = None
else:
    grouper_type, arrange_quickly, all_plain = partitions.Grouper, partitions.arrange, partitions.all_plain

_NIL = b"\xc0"
_cut_array = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

T = TypeVar("T")

Parts = tuple[list[T], list[int], list[int], list[int]]
"""Parts, the slot or partition of each, how many ids each has, and the position of each id in their order."""


class Reads(Script, frozen=True):
    """Stands for a script where calls of both read scripts leave in one write."""

    def answers(self, encoded: Sequence[bytes]) -> Answers:
        """Return what may be the replies to encoded calls."""
        return ReadAnswers(self.name, self.fits, encoded)


class ReadAnswers(Answers):
    """The replies to calls of both read scripts. The extension passes those that are plainly right."""

    __slots__ = ()

    def misfit(self, replies: Sequence[Any]) -> str | None:
        """Return what is wrong with the replies, None where nothing is."""
        if all_plain is not None and isinstance(self._encoded, list) and all_plain(self._encoded, replies):
            return None
        return super().misfit(replies)


READS = Reads("a read", "", "", writes=False, fits=WRITE_AND_READ.fits)
"""The script of calls of partitions."""


class RoutedCalls(list[bytes]):
    """Encoded calls.

    Attributes:
        slots: The hash slot of each.
    """

    __slots__ = ("slots",)

    slots: list[int]


class Groups(msgspec.Struct, frozen=True, gc=False):
    """Ids by their partitions.

    Attributes:
        calls: The call for each part.
        sizes: How many ids each has.
        order: The position of each id, in the order of the parts.
    """

    calls: RoutedCalls
    sizes: list[int]
    order: list[int]


class Cut(msgspec.Struct, frozen=True, gc=False):
    """Ids by their partitions, without calls.

    Attributes:
        ids: Those of each part.
        partitions: The partition of each part.
        order: The position of each id, in the order of the parts.
    """

    ids: list[list[str]]
    partitions: list[int]
    order: list[int]


class PartitionedCalls:
    """Makes calls of the read scripts for one set of features of an entity in a cluster.

    Args:
        keys: The entity's keys; how many partitions it has is known.
        words: The features as the scripts take them.
        before: Options in front of them.
        before_many: Further options, between those two, of get_features_batch alone.
    """

    __slots__ = ("_frames", "_grouper", "_keys", "_parts", "_with", "_words")

    def __init__(
        self,
        keys: PartitionedKeys,
        words: Sequence[Word],
        *,
        before: Sequence[Word] = (),
        before_many: Sequence[Word] = (),
    ) -> None:
        self._keys, self._words = keys, (words, before_many)
        self._parts = _parts_of(keys)
        self._frames = _frames_of((*before, *words), (*before, *before_many, *words))
        self._grouper = (grouper_type or Grouper)(self._parts, *self._frames)
        self._with: dict[tuple[Word, ...], PartitionedCalls] = {}

    def with_options(self, options: tuple[Word, ...]) -> "PartitionedCalls":
        """Return what makes the same calls with these options in front of the words; the last few are kept."""
        if not options:
            return self
        calls = self._with.get(options)
        if calls is None:
            words, before_many = self._words
            calls = PartitionedCalls(self._keys, words, before=options, before_many=before_many)
            if len(self._with) >= MOST_OPTIONS:
                self._with.clear()
            self._with[options] = calls
        return calls

    def one(self, raw_id: bytes) -> bytes:
        """Return the call of get_features for an id of 1 to 256 bytes."""
        keys, before, _ = self._parts[partition_of(raw_id, len(self._parts))]
        after, head, words, *_ = self._frames
        size = len(raw_id)
        key = len(before) + size + len(after)
        return b"%b%b$%d\r\n%b%b%b\r\n$%d\r\n%b\r\n%b" % (
            *(head, keys, key, before, raw_id, after),
            *(size, raw_id, words),
        )

    def grouped(self, ids: list[str], most: int) -> Groups:
        """Return the calls for the ids, of which each has at most so many; errors as in `read_calls.encode_ids`."""
        try:
            calls, slots, sizes, order = self._grouper.calls(ids, most)
        except (TypeError, ValueError):  # Python says which id, and why
            calls, slots, sizes, order = Grouper(self._parts, *self._frames).calls(ids, most)
        routed = RoutedCalls(calls)
        routed.slots = slots
        return Groups(routed, sizes, order)

    def cut(self, ids: list[str], most: int) -> Cut:
        """Return the parts of which `call` makes calls; errors and arguments as in `grouped`."""
        try:
            parts, partitions, _, order = self._grouper.cut(ids, most)
        except (TypeError, ValueError):
            parts, partitions, _, order = Grouper(self._parts, *self._frames).cut(ids, most)
        return Cut(parts, partitions, order)

    def call(self, partition: int, ids: list[str]) -> bytes:
        """Return the call for ids of one partition."""
        call: bytes = self._grouper.call(partition, ids)
        return call

    def slot_of(self, partition: int) -> int:
        """Return the hash slot of a partition's keys."""
        return self._parts[partition][2]


class Grouper:
    """What the extension's type of that name does, and the one that says what is wrong with ids.

    Args:
        parts: For each partition the words of the keys of its set of ids and its schema, what stands in front of an id
            in the key of its hash, and the slot of all these.
        after: What stands behind an id there.
        one_head: Of a call for one id: all up to the keys.
        one_words: What stands behind the id.
        many_head: Of a call for several: what stands behind the number of words, up to the number of keys.
        many_words: What stands between the keys and the ids.
        many_count: How many words these are.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - as the extension
        self,
        parts: tuple["Part", ...],
        after: bytes,
        one_head: bytes,
        one_words: bytes,
        many_head: bytes,
        many_words: bytes,
        many_count: int,
    ) -> None:
        self._parts, self._after = parts, after
        self._one_head, self._one_words = one_head, one_words
        self._many_head, self._many_words, self._many_count = many_head, many_words, many_count

    def calls(self, ids: list[str], most: int) -> Parts[bytes]:
        """Return the calls, the slot of each, how many ids each has, and the position of each id in their order."""
        parts, partitions, sizes, order = self.cut(ids, most)
        calls = list(map(self.call, partitions, parts))
        return calls, [self._parts[partition][2] for partition in partitions], sizes, order

    def cut(self, ids: list[str], most: int) -> Parts[list[str]]:
        """Return the same with lists of ids in place of calls, and partitions in place of slots."""
        owners = [partition_of(encode_id(entity_id), len(self._parts)) for entity_id in ids]
        order = sorted(range(len(ids)), key=owners.__getitem__)
        parts: list[list[str]] = []
        partitions: list[int] = []
        for partition, positions in groupby(order, owners.__getitem__):
            some = [ids[position] for position in positions]
            for first in range(0, len(some), most):
                parts.append(some[first : first + most])
                partitions.append(partition)
        return parts, partitions, list(map(len, parts)), order

    def call(self, partition: int, ids: list[str]) -> bytes:
        """Return the call for ids of that partition."""
        keys, before, _ = self._parts[partition]
        hashes, words = encode_ids(ids, before, self._after)
        count = len(ids)
        if count == 1:
            return b"".join((self._one_head, keys, hashes, words, self._one_words))
        number = b"%d" % (count + 2)
        head = b"*%d\r\n%b$%d\r\n%b\r\n" % (5 + 2 * count + self._many_count, self._many_head, len(number), number)
        return b"".join((head, keys, hashes, self._many_words, words))


def arranged(replies: list[Any], sizes: list[int], order: list[int] | None = None) -> list[Any]:
    """Return the row of each id, from the replies to calls for so many ids each.

    A row stands alone: it is what get_features would reply. None is in the place of an unknown id, and 0 in that of a
    row that a call has left.

    Args:
        replies: Of calls of one id, the row; of others an array of rows, or one of msgpack.
        sizes: How many ids each call has.
        order: The position of each id, in the order of the calls; None where that is their order.

    Raises:
        msgspec.ValidationError: A reply has other rows than were asked for.
        msgspec.DecodeError: A reply is damaged.
    """
    if arrange_quickly is not None:
        try:
            return arrange_quickly(replies, sizes, order)
        except (TypeError, ValueError):  # Python below says what is wrong
            pass
    rows: list[Any] = []
    for reply, size in zip(replies, sizes, strict=True):
        found = [reply] if size == 1 else reply if isinstance(reply, list) else _rows_of(reply)
        if len(found) != size:
            raise msgspec.ValidationError(f"Expected {size} rows, got {len(found)}")
        rows += found
    if order is None:
        return rows
    placed: list[Any] = [None] * len(rows)
    for position, row in zip(order, rows, strict=True):
        placed[position] = row
    return placed


def _rows_of(reply: Any) -> list[bytes | None]:
    if not isinstance(reply, bytes):
        raise msgspec.ValidationError(f"Expected rows, got a {type(reply).__name__}")
    return [None if row == _NIL else row for row in map(bytes, _cut_array(reply))]


Part = tuple[bytes, bytes, int]
"""A partition: the words of two keys, what stands in front of ids, a slot."""


@lru_cache(maxsize=1024)
def _parts_of(keys: PartitionedKeys) -> tuple[Part, ...]:
    return tuple(map(_part_of, keys.parts))


def _part_of(keys: Keys) -> Part:
    before, _ = keys.features_of_raw(MARK).split(MARK)
    return _words(keys.members, keys.schema), before, slot_of(before)


def _frames_of(one: Sequence[Word], many: Sequence[Word]) -> tuple[bytes, bytes, bytes, bytes, bytes, int]:
    """Return what is the same in all calls with these words; see `Grouper`."""
    _, after = Keys().features_of_raw(MARK).split(MARK)
    head = b"*%d\r\n%b" % (7 + len(one), _words("EVALSHA", GET_FEATURES.sha, 3))
    counted = (len(many), *many)
    return after, head, _words(*one), _words("EVALSHA", GET_FEATURES_BATCH.sha), _words(*counted), len(counted)


def _words(*words: Word) -> bytes:
    """Return words as they stand in a command, without their number."""
    return encode_command(words).partition(b"\r\n")[2] if words else b""
