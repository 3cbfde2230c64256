"""What tests of other languages need: their tools, the built scripts, and the code of pages."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore import FeatureStore, read_definition
from featurestore.contract.costs import event_us, rows_per_call, upsert_us
from featurestore.contract.read_costs import ages_us, by_layout_is_cheaper, cast_row_us, made_row_us, stored_row_us

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "ports"


def needs(what: str, *probe: str) -> None:
    """Skip the test on a machine that lacks something, as a program that fails tells; CI has to have it."""
    found = shutil.which(probe[0]) and subprocess.run(probe, check=False, capture_output=True).returncode == 0
    assert found or not os.environ.get("CI"), f"CI installs {what}, yet it is not there"
    if not found:
        pytest.skip(f"this machine has no {what}")


def run(folder: Path, *words: str | Path, **variables: str) -> str:
    """Run a program in a folder, and return what it printed; fail with all that it said where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(words, cwd=folder, env={**os.environ, "PATH": path, **variables}, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == "", done.stderr
    return done.stdout


def build_scripts(folder: Path) -> None:
    """Put the expanded scripts into a folder, as users do."""
    run(ROOT, sys.executable, "-m", "featurestore", "scripts", "--build", folder)
    assert (folder / "scripts" / "get_features.lua").is_file()


def blocks(page: str, language: str) -> list[str]:
    """Return the code on a page of docs/ports in one language, in order."""
    text = (PAGES / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def example_schema(folder: Path) -> Path:
    """Write the schema of the pages into a folder, and beside it `wider.toml`, with one feature more."""
    (schema,) = blocks("go", "toml")
    (folder / "wider.toml").write_text(f'{schema}shoe_size = "int"\n')
    path = folder / "schema.toml"
    path.write_text(schema)
    return path


def apply_example(url: str, folder: Path) -> None:
    """Store the schema of the pages on a server."""
    with FeatureStore.connect(url, timeout=5) as store:
        store.apply(read_definition(example_schema(folder)))


def write_cost_cases(folder: Path) -> Path:
    """Write what calls cost by the Python store, for rows of many kinds; return the file."""
    kinds = ["float", "string", "float32[128]", "count(1h)", "sum(amount, 1h)"]
    rows = [["int"] * width for width in (1, 10, 14, 100, 500, 2000)]
    rows += [[*kinds, *["int"] * width] for width in (1, 100)] + [["float32[2048]"] * 4, ["count(10m)"] * 60]
    cases = []
    for row in rows:
        for picked in {1, 2, 3, 4, 6, 10, 13, 20, len(row) // 2, len(row)} & {*range(1, len(row) + 1)}:
            named, features = row[-picked:], {f"f{place}": kind for place, kind in enumerate(row)}
            us = {"row": stored_row_us(row), "named": cast_row_us(named), "ages": ages_us(row)}
            us |= {"made": made_row_us(row), "event": event_us(features)}
            us["upsert"] = upsert_us(list(features)[-picked:], features)
            cheaper = [by_layout_is_cheaper(row, named, aged=aged) for aged in (False, True)]
            in_call = [rows_per_call(us["row"]), rows_per_call(us["made"])]
            cases.append({"row": row, "picked": picked, "us": us, "cheaper": cheaper, "in_call": in_call})
    path = folder / "costs.json"
    path.write_text(json.dumps(cases))
    return path
