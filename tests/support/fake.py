"""fakeredis as a backend: its Lua has no cmsgpack, no struct and no redis.sha1hex, so they are put in here."""

import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any

import fakeredis
import hiredis
import msgspec
import redis

from featurestore.contract.replies import Take
from featurestore.contract.resp import Reply, Word
from featurestore.contract.scripts import SCRIPTS, WRITE_AND_READ, Script
from featurestore.errors import FeatureStoreError, error_from_reply
from featurestore.transport.dial import reply_text
from featurestore.transport.interface import Node, whole
from featurestore.transport.turns import taken


def _pack_one(value: Any) -> bytes:
    """Pack as cmsgpack does.

    A float without a fraction becomes an int, one that 32 bits hold has 32; every string is text, whatever it holds.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    if isinstance(value, bytes):
        size = len(value)
        if size < 32:
            head = bytes([0xA0 | size])
        elif size < 256:
            head = b"\xd9" + size.to_bytes(1)
        else:
            head = b"\xda" + size.to_bytes(2) if size < 65536 else b"\xdb" + size.to_bytes(4)
        return head + value
    if type(value) is object:  # cjson.null
        return b"\xc0"
    if hasattr(value, "keys"):  # a Lua table
        entries = dict(value.items())
        if entries.keys() == set(range(1, len(entries) + 1)):  # an empty one is an array too
            head = msgspec.msgpack.encode([None] * len(entries))[: 1 if len(entries) < 16 else 3]
            return head + b"".join(_pack_one(entries[position]) for position in range(1, len(entries) + 1))
        head = msgspec.msgpack.encode(dict.fromkeys(range(len(entries))))[: 1 if len(entries) < 16 else 3]
        return head + b"".join(_pack_one(key) + _pack_one(each) for key, each in entries.items())
    if isinstance(value, float) and _fits_32_bits(value):
        return b"\xca" + struct.pack(">f", value)
    return msgspec.msgpack.encode(value)


def _fits_32_bits(value: float) -> bool:
    try:
        return bool(struct.unpack(">f", struct.pack(">f", value))[0] == value)
    except OverflowError:
        return False


def _struct_pack(form: bytes, *values: Any) -> bytes:
    """Pack as the struct library of Redis's Lua does, for the forms that the scripts have."""
    if form == b">Bd":
        return struct.pack(">Bd", int(values[0]), values[1])
    assert form == b">BI4I4"
    return struct.pack(">BII", *map(int, values))


def _unpack(encoded: bytes) -> list[Any]:
    """Unpack an array as cmsgpack does: text is bytes, whatever they are, and nil leaves a hole."""
    if encoded[:1] == b"\xdd":  # of strings that may be no text, and false
        position = 5
        strings: list[Any] = []
        for _ in range(int.from_bytes(encoded[1:5])):
            lead = encoded[position]
            if lead == 0xC2:
                strings.append(False)
                position += 1
                continue
            width = {0xD9: 1, 0xDA: 2, 0xDB: 4}.get(lead, 0)
            start = position + 1 + width
            position = start + (int.from_bytes(encoded[position + 1 : start]) if width else lead - 0xA0)
            strings.append(encoded[start:position])
        return strings
    values = msgspec.msgpack.decode(encoded)
    return [value.encode() if isinstance(value, str) else value for value in values]


def _unpack_limit(encoded: bytes, limit: int, offset: int) -> list[Any]:
    """Unpack values behind an offset as cmsgpack does. The first item is where they end, -1 for the end of all."""
    values = []
    for _ in range(limit):
        end = offset + _size_of_scalar(encoded[offset : offset + 5])
        value = msgspec.msgpack.decode(encoded[offset:end])
        values.append(value.encode() if isinstance(value, str) else value)
        offset = end
    return [-1 if offset == len(encoded) else offset, *values]


def _size_of_scalar(start: bytes) -> int:
    lead = start[0]
    if lead in range(0xA0, 0xC0):
        return 1 + (lead & 0x1F)
    if lead in {0xD9, 0xDA, 0xDB}:
        width = 1 << (lead - 0xD9)
        return 1 + width + int.from_bytes(start[1 : 1 + width])
    return {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}.get(lead, 1)


def _json_of(escaped: bytes) -> bytes:
    """Return JSON as cjson writes it: text is as it is, but a slash has a backslash before it."""
    plain = json.dumps(json.loads(escaped), ensure_ascii=False, separators=(",", ":"))
    return plain.replace("/", "\\/").encode()


def fake_server() -> fakeredis.FakeServer:
    """Return a server whose Lua has what the scripts need."""
    server = fakeredis.FakeServer(version=(7,))
    fakeredis.FakeRedis(server=server).eval("return 1", 0)
    inside: Any = server
    runtime = inside._lua_runtime
    returning_all = runtime.eval(
        "function(list, count) return function(...) return unpack(list(...), 1, count(...)) end end"
    )
    cmsgpack = runtime.table_from(
        {
            b"pack": lambda *values: b"".join(map(_pack_one, values)),
            b"unpack": lambda encoded: runtime.table_from(dict(enumerate(_unpack(encoded), 1))),
            b"unpack_limit": returning_all(
                lambda *words: runtime.table_from(dict(enumerate(_unpack_limit(*words), 1))),
                lambda _encoded, limit, _offset: limit + 1,
            ),
        }
    )
    runtime.globals()[b"cmsgpack"] = cmsgpack
    runtime.globals()[b"struct"] = runtime.table_from({b"pack": _struct_pack})
    inside._lua_expected_globals.update({b"cmsgpack", b"struct"})
    redis_table = runtime.globals()[b"redis"]
    redis_table[b"acl_check_cmd"] = lambda *_: True
    redis_table[b"sha1hex"] = lambda text: hashlib.sha1(text).hexdigest().encode()
    cjson = runtime.globals()[b"cjson"]
    escaped = cjson[b"encode"]
    cjson[b"encode"] = lambda value: _json_of(escaped(value))
    caught = redis_table[b"pcall"]

    def pcall(*words: Any) -> Any:
        result = caught(*words)
        if hasattr(result, "keys") and b"err" in set(result.keys()):  # its text is no Lua string yet
            return runtime.table_from({b"err": str(result[b"err"]).encode()})
        return result

    redis_table[b"pcall"] = pcall
    return server


class FakeTransport:
    """A transport over fakeredis."""

    clustered = False

    def __init__(self) -> None:
        self._client = fakeredis.FakeRedis(server=fake_server(), protocol=2)
        self._client.response_callbacks.clear()  # replies as they come, as other transports give them

    def nodes(self) -> list[Node]:
        return [whole("fakeredis", self)]

    def run(self, script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> Reply:
        (reply,) = self._run_many(script, [(keys, arguments)])
        if isinstance(reply, FeatureStoreError):
            raise reply
        return reply

    def run_encoded(self, script: Script, encoded: bytes) -> Reply:
        reader = hiredis.Reader()
        reader.feed(encoded)
        command, sha, count, *words = reader.gets()
        called = next(each for each in SCRIPTS if each.sha.encode() == sha)
        assert command == b"EVALSHA"
        assert script in {called, WRITE_AND_READ}
        return self.run(called, words[: int(count)], words[int(count) :])

    def run_many_encoded(  # noqa: PLR0913 - all but the first two by name
        self,
        script: Script,
        encoded: Sequence[bytes],
        *,
        each_us: float = 0.0,  # noqa: ARG002 - nothing is sent
        takes: Sequence[Take] | None = None,
        follows: bool = False,  # noqa: ARG002 - likewise
        writes: bool = False,  # noqa: ARG002 - likewise
    ) -> list[Reply | FeatureStoreError]:
        replies: list[Reply | FeatureStoreError] = []
        for call in encoded:
            try:
                replies.append(self.run_encoded(script, call))
            except FeatureStoreError as error:
                replies.append(error)
        return replies if takes is None else list(map(taken, takes, replies))

    def _run_many(
        self, script: Script, calls: Sequence[tuple[Sequence[Word], Sequence[Word]]]
    ) -> list[Reply | FeatureStoreError]:
        for known in SCRIPTS:
            self._client.script_load(known.source)
        replies: list[Reply | FeatureStoreError] = []
        for keys, arguments in calls:
            try:
                replies.append(self._client.evalsha(script.sha, len(keys), *keys, *arguments))
            except redis.ResponseError as error:
                replies.append(error_from_reply(reply_text(error)))
        return replies

    def command(self, *words: Word, writes: bool = False) -> Reply:  # noqa: ARG002 - likewise
        try:
            return self._client.execute_command(*words)
        except redis.ResponseError as error:
            raise error_from_reply(reply_text(error)) from error

    def close(self) -> None:
        self._client.close()
