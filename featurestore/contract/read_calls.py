"""Calls of the read scripts as RESP. All that does not depend on the ids is encoded once."""

from collections.abc import Callable, Sequence

from featurestore.contract.resp import Word, encode_call
from featurestore.contract.scripts import GET_FEATURES, GET_FEATURES_BATCH
from featurestore.contract.words import encode_id
from featurestore.keys import Keys

MARK = b"\xff"
"""Stands for an id; no name has it, since it is not UTF-8."""

MOST_OPTIONS = 16
"""So many sets of options are kept for each set of features."""

encode_ids_quickly: Callable[[list[str], bytes, bytes], tuple[bytes, bytes]] | None
"""The extension's `encode_ids`; None if the extension was not built."""

try:
    from featurestore.native.transcode import encode_ids as encode_ids_quickly
except ImportError:
    encode_ids_quickly = None


def encode_ids(ids: list[str], before: bytes, after: bytes) -> tuple[bytes, bytes]:
    """Return two runs of RESP words: a key for each id, which is `before` + id + `after`, and the ids.

    Raises:
        BadIdError: One of them is no id.
    """
    if encode_ids_quickly is not None:
        try:
            return encode_ids_quickly(ids, before, after)
        except (TypeError, ValueError):  # Python below says which id, and why
            pass
    around = len(before) + len(after)
    raw_ids = [encode_id(entity_id) for entity_id in ids]
    keys = [b"$%d\r\n%b%b%b\r\n" % (len(raw_id) + around, before, raw_id, after) for raw_id in raw_ids]
    return b"".join(keys), b"".join([b"$%d\r\n%b\r\n" % (len(raw_id), raw_id) for raw_id in raw_ids])


class ReadCalls:
    """Makes calls of the read scripts for one set of features.

    Args:
        keys: The entity's keys.
        words: The features as the scripts take them.
        before: Options in front of them.
        before_many: Further options, between those two, of get_features_batch alone.
    """

    __slots__ = ("_around_id", "_batch_frames", "_batch_words", "_frames", "_keys", "_parts", "_with", "_words")

    def __init__(
        self, keys: Keys, words: Sequence[Word], *, before: Sequence[Word] = (), before_many: Sequence[Word] = ()
    ) -> None:
        self._keys, self._parts = keys, (words, before_many)
        self._words, self._batch_words = (*before, *words), (*before, *before_many, *words)
        head, tail = keys.features_of_raw(MARK).split(MARK)
        self._around_id = head, tail
        self._frames: dict[int, tuple[bytes, bytes, bytes]] = {}
        self._batch_frames: dict[int, tuple[bytes, bytes]] = {}
        self._with: dict[tuple[Word, ...], ReadCalls] = {}

    def with_options(self, options: tuple[Word, ...]) -> "ReadCalls":
        """Return what makes the same calls with these options in front of the words; the last few are kept."""
        if not options:
            return self
        calls = self._with.get(options)
        if calls is None:
            words, before_many = self._parts
            calls = ReadCalls(self._keys, words, before=options, before_many=before_many)
            if len(self._with) >= MOST_OPTIONS:
                self._with.clear()
            self._with[options] = calls
        return calls

    def one(self, raw_id: bytes) -> bytes:
        """Return the call of get_features for an id of 1 to 256 bytes."""
        size = len(raw_id)
        before, between, after = self._frames.get(size) or self._make_frame(size)
        return b"".join((before, raw_id, between, raw_id, after))

    def many(self, ids: list[str]) -> bytes:
        """Return the call of get_features_batch for the ids; errors as in `encode_ids`."""
        keys, words = encode_ids(ids, *self._around_id)
        count = len(ids)
        before, between = self._batch_frames.get(count) or self._make_batch_frame(count)
        return b"".join((before, keys, between, words))

    def _make_frame(self, size: int) -> tuple[bytes, bytes, bytes]:
        """Return, and keep, the three pieces around the two places of an id of `size` bytes."""
        keys, mark = self._keys, MARK * size
        hash_key = keys.features_of_raw(mark)
        call = encode_call(GET_FEATURES, (keys.members, keys.schema, hash_key), (mark, *self._words))
        before, between, after = call.split(mark)
        self._frames[size] = before, between, after
        return before, between, after

    def _make_batch_frame(self, count: int) -> tuple[bytes, bytes]:
        """Return, and cache, the two fixed pieces of a call for `count` ids: before the keys, and before the ids."""
        words = (len(self._batch_words), *self._batch_words)
        marks = (MARK,) * count
        call = encode_call(GET_FEATURES_BATCH, (self._keys.members, self._keys.schema, *marks), (*words, *marks))
        run = b"$1\r\n\xff\r\n" * count
        before, between, _ = call.split(run)
        self._batch_frames[count] = before, between
        return before, between
