"""Rows of a body that is a stream of Apache Arrow. Whatever the bytes are, nothing is read beyond them."""

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import falcon
import msgspec

from featurestore.contract import arrow
from featurestore.contract.frame_columns import id_column, time_column, values_at
from featurestore.contract.words import EVENT_TIME
from featurestore.schema.values import shown

_TIMES = (EVENT_TIME, arrow.TIME_COLUMN)
_BYTES_A_VALUE = 4
"""What a value counts for at least: bits and nulls are many in few bytes, and each is a value to write."""
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_RECORD_BATCH_COMPRESSION = 3  # the field of a RecordBatch in Arrow's Message.fbs
_MESSAGE_HEADER, _DICTIONARY_DATA = 2, 1


class Rows(msgspec.Struct, frozen=True):
    """The rows of a body.

    Attributes:
        columns: The features' names, before them `@event_time` if rows have times of their own.
        rows: Each an id followed by a value for each column; vectors of float32 are bytes.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]


def read_rows(body: bytes, id_names: Sequence[str], most_bytes: int) -> Rows:
    """Return the rows of a stream.

    Args:
        body: The stream.
        id_names: What the column of the ids may be called; the first that there is counts.
        most_bytes: Most bytes of a body; a value counts for four at least.

    Raises:
        falcon.HTTPUnsupportedMediaType: The server lacks the library.
        falcon.HTTPBadRequest: The body is no stream of Arrow.
        falcon.HTTPUnprocessableEntity: A column is missing, is there twice, or has a type that is no feature's.
        falcon.HTTPContentTooLarge: There are too many values.
    """
    if not arrow.is_there():
        raise falcon.HTTPUnsupportedMediaType(description=f"for Arrow the server needs pyarrow: {arrow.EXTRA}")
    pa = arrow.library()
    try:
        _refuse_compressed(pa, body)
        reader = pa.ipc.open_stream(body, options=arrow.reading())
        source = _Source(pa, reader.schema, id_names)
        rows: list[tuple[Any, ...]] = []
        left = most_bytes // _BYTES_A_VALUE
        referenced = 0
        for batch in reader:
            batch.validate(full=True)
            referenced += batch.nbytes
            if referenced > len(body):
                raise falcon.HTTPBadRequest(title="Malformed Arrow", description="columns share their bytes")
            left -= batch.num_rows * batch.num_columns
            if left < 0:
                raise falcon.HTTPContentTooLarge(
                    description=f"a body may have at most {most_bytes // _BYTES_A_VALUE} values, a quarter of its bytes"
                )
            rows += source.rows(batch)
    except (pa.ArrowException, OSError, struct.error, UnicodeDecodeError) as error:
        raise falcon.HTTPBadRequest(title="Malformed Arrow", description=shown(str(error))[1:-1]) from error
    return Rows(source.columns, rows)


class _Source:
    """What each column of a stream is for.

    Args:
        pa: The library.
        schema: The stream's.
        id_names: What the column of the ids may be called.

    Attributes:
        columns: See `Rows`.
    """

    def __init__(self, pa: Any, schema: Any, id_names: Sequence[str]) -> None:
        self._pa = pa
        names: list[str] = schema.names
        types = schema.types  # made anew each time that it is looked at
        name, count = max(Counter(names).items(), key=itemgetter(1), default=("", 0))
        if count > 1:
            raise _unprocessable(f"there are {count} columns {shown(name)}")
        found = [name for name in id_names if name in names]
        if not found:
            raise _unprocessable(f"no column is called {' or '.join(id_names)}")
        self._id = names.index(found[0])
        times = [names.index(name) for name in _TIMES if name in names][:1]
        kind = types[self._id]
        fits = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
        _check(schema.field(self._id), fits, "the ids are text or ints")
        for place in times:
            kind = types[place]
            fits = kind in {pa.int64(), pa.utf8(), pa.null()} or pa.types.is_timestamp(kind)
            _check(schema.field(place), fits, "an event time is an int64 of ms, a timestamp or text")
        taken = {self._id, *times}
        others = [place for place in range(len(names)) if place not in taken]
        for place in others:
            _check(schema.field(place), _is_taken(pa, types[place]), _TAKEN)
        self._places = [*times, *others]
        self.columns = [*(EVENT_TIME for _ in times), *(names[place] for place in others)]

    def rows(self, batch: Any) -> Iterator[tuple[Any, ...]]:
        """Return the rows of a batch."""
        columns = [id_column(batch.column(self._id))]
        for name, place in zip(self.columns, self._places, strict=True):
            column = batch.column(place)
            is_time = name == EVENT_TIME and not self._pa.types.is_string(column.type)  # text is for the script
            columns.append(time_column(column, name, "ms") if is_time else column)
        return zip(*(values_at(column, "", None, as_text=False) for column in columns), strict=True)


def _check(field: Any, fits: bool, wanted: str) -> None:  # noqa: FBT001 - what is checked
    if not fits:
        raise _unprocessable(f"column {shown(field.name)} is {shown(str(field.type))[1:-1]}: {wanted}")


_TAKEN = "taken are bool, numbers, decimals, moments, utf8, and lists of numbers; cast it (dictionaries and views too)"


def _is_taken(pa: Any, kind: Any) -> bool:
    types = pa.types
    if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        return bool(types.is_floating(kind.value_type) or types.is_integer(kind.value_type))
    return bool(
        types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_string(kind)
        or types.is_large_string(kind) or types.is_null(kind) or types.is_decimal(kind) or types.is_timestamp(kind)
        or types.is_date(kind)
    )  # fmt: skip


def _unprocessable(description: str) -> falcon.HTTPUnprocessableEntity:
    return falcon.HTTPUnprocessableEntity(description=description)


# Compression: a few bytes may become any number, so it is refused before anything is inflated.


def _refuse_compressed(pa: Any, body: bytes) -> None:
    """Refuse streams with compressed buffers, and what is not just one whole stream.

    Arrow's readers take a stream without its end, and leave what is behind the end: rows would be lost without a word.
    """
    source = pa.BufferReader(body)
    for message in pa.ipc.MessageReader.open_stream(source):
        if message.type == "schema":
            continue
        header = _Table(bytes(message.metadata), 0).table(_MESSAGE_HEADER)
        if message.type == "dictionary":
            header = header.table(_DICTIONARY_DATA)
        if header.has(_RECORD_BATCH_COMPRESSION):
            raise _unprocessable("the buffers are compressed: send them as they are, or the whole body as gzip")
    if source.tell() != len(body) or not body.endswith(_END_OF_STREAM):
        raise falcon.HTTPBadRequest(
            title="Malformed Arrow", description="the body is not one stream with the mark of its end as the last bytes"
        )


class _Table:
    """A table of a flatbuffer: enough to see which fields it has.

    Args:
        data: The flatbuffer.
        at: Where the offset of the table stands.
    """

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at + struct.unpack_from("<I", data, at)[0]
        self._fields = self._at - struct.unpack_from("<i", data, self._at)[0]

    def has(self, field: int) -> bool:
        """Return whether a field is there."""
        return self._offset(field) != 0

    def table(self, field: int) -> "_Table":
        """Return the table that a field is."""
        return _Table(self._data, self._at + self._offset(field))

    def _offset(self, field: int) -> int:
        (size,) = struct.unpack_from("<H", self._data, self._fields)
        place = 4 + 2 * field
        return int(struct.unpack_from("<H", self._data, self._fields + place)[0]) if place + 2 <= size else 0
