"""docs/streams.md: its examples, run in order, and that it has every option, metric and permission."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from featurestore.ingest.streams.commands import consume
from featurestore.ingest.streams.counts import Counts, _Families
from featurestore.ingest.streams.interface import Lag
from support.servers import Server

from featurestore import FeatureStore, read_definition

PAGE = (Path(__file__).parents[2] / "docs" / "streams.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def masked(text: str) -> str:
    """Return what does not depend on the clock."""
    text = re.sub(r"\d{13}-\d+", "ID", text)
    text = re.sub(r"^\d{4}-\d\d-\d\d [\d:,]+", "NOW", text, flags=re.MULTILINE)
    text = re.sub(r"as \S+ of group", "as NAME of group", text)
    return re.sub(r"\d+/s|[\d.]+ s ago", "N", text).strip()


def test_the_examples_print_what_the_page_says(valkey: Server, tmp_path: Path) -> None:
    schema = tmp_path / "user.toml"
    schema.write_text(block("toml"))
    ran = 0
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        store.apply(read_definition(schema))
        for example in re.split(r"^\$ ", block("console"), flags=re.MULTILINE)[1:]:
            line, _, said = example.partition("\n")
            program, *words = shlex.split(line)
            if program == "redis-cli":
                printed = store.transport.command(*words).decode()
            else:
                result = subprocess.run(
                    [sys.executable, "-m", program, *words],
                    env={**os.environ, "REDIS_URL": valkey.url}, check=True, capture_output=True, text=True,
                )  # fmt: skip
                printed = result.stdout + result.stderr
            assert masked(printed) == masked(said), line
            ran += 1
    assert ran == 7


def test_every_option_and_metric_is_on_the_page() -> None:
    options = {name for parameter in consume.params for name in parameter.opts if name.startswith("--")}
    named = re.search(r"^## Options\n(.*)", PAGE, re.MULTILINE | re.DOTALL)
    assert named
    assert set(re.findall(r"`(--[a-z-]+)`", named[1])) == options
    counts = Counts()
    counts.lags = [Lag("clicks", 1, 1, 1.0)]
    names = {family.name + ("_total" if family.type == "counter" else "") for family in _Families(counts).collect()}
    assert set(re.findall(r"^\| `(featurestore_\w+)", PAGE, re.MULTILINE)) == names
