"""Exports, and loading them again; what a store holds, to compare it with another."""

import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet
from click.testing import CliRunner
from featurestore.ingest.files.export import Export, Exported, columns_of
from featurestore.ingest.files.load_command import load as load_command
from featurestore.ingest.files.outputs import opened
from featurestore.ingest.files.scan import HashReader, ReadRetries, Throttle

from featurestore import FeatureStore
from support.keys import single

FORMATS = ("parquet", "ndjson")


def export_to(
    path: Path | str, store: FeatureStore, *, told: Callable[[int], object] = lambda _: None, most: int = 500
) -> Exported:
    """Export all features of a store's entity."""
    schema = store.schema()
    columns = columns_of(store.keys.entity, schema, None, None)
    reader = HashReader(store, columns.features, Throttle(), ReadRetries(pause=0.05), most)
    with opened(str(path), columns) as output:
        return Export(reader, columns, output, ttl_ms=schema.ttl_ms, told=told).run()


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of an exported file; times in ms, vectors as lists of numbers."""
    if path.suffix == ".ndjson":
        decoded: list[dict[str, Any]] = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
        return [{name: _in_float32(value) for name, value in row.items()} for row in decoded]
    table = pyarrow.parquet.read_table(path)
    for place, name in enumerate(table.column_names):
        if name.endswith("@event_time"):
            table = table.set_column(place, name, table[name].cast("int64"))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _in_float32(value: Any) -> Any:
    return array("f", value).tolist() if isinstance(value, list) else value


def load(store: FeatureStore, path: Path) -> None:
    """Load an exported file by the command into the store's Redis."""
    url = store.transport.address  # type: ignore[attr-defined]
    environment = {"REDIS_URL": url, "FEATURESTORE_DATA_DIR": str(path.parent / "data")}
    arguments = [str(path), "--restart", "--rejected", str(path.with_suffix(".rejected"))]
    result = CliRunner().invoke(load_command, arguments, env=environment)
    assert result.exit_code == 0, result.output


def stored(store: FeatureStore) -> dict[str, Any]:
    """The set of known ids, each hash field by field, and when it expires; floats by their bits, as `0` is 0.0."""
    command, keys = store.transport.command, single(store)
    floats = {name.encode() for name, kind in store.schema().features.items() if kind == "float"}
    found: dict[str, Any] = {}
    for raw_id in sorted(command("SMEMBERS", keys.members)):
        key = keys.features_of_raw(raw_id)
        reply = command("HGETALL", key)
        left = command("PTTL", key)
        pairs = zip(reply[::2], reply[1::2], strict=True)
        fields = {name: struct.pack("<d", float(text)) if name in floats else text for name, text in pairs}
        found[raw_id.decode()] = fields, left if left < 0 else round(left / 10_000_000)
    return found
