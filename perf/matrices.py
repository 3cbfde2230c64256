"""Measure what a Python client takes from a request to an array: 500 x 10 floats, and 100 vectors of 128 numbers.

By `featurestore.Client`, one request after the other, with pyarrow and as if it were not there. Other checkouts of this
project given as arguments are measured too, each by its own environment and its own server, in turn: an older one tells
what a change is worth. Medians of the rounds. Takes half a minute for each checkout by its defaults.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import vectors
from figures import Figures, add_out
from servers import feature_store, python_of, redis_server

from featurestore import Definition, FeatureStore

HERE = Path(__file__).resolve().parent
USERS, LENGTH = 5000, 128
FLOATS = {f"amount_{number}": "float" for number in range(10)}
IDS = {"matrix": 500, "vectors": 100}
NAMES = {"matrix": "500 x 10 floats to a matrix", "vectors": "100 vectors of 128 numbers to a 2-D array of float32"}
THIS = "this checkout"


def main() -> None:
    """Serve every checkout, ask each in turn and tell the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "checkouts", type=Path, nargs="*", help="older ones, each with an environment by `make install`"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="of a round")
    add_out(parser)
    options = parser.parse_args()
    if options.out is not None:
        options.out = options.out.resolve()
    pythons = {path.resolve().name: python_of(path.resolve()) for path in options.checkouts} | {THIS: sys.executable}
    os.chdir("/")  # or the servers would find what is here first
    with contextlib.ExitStack() as stack:
        figures = stack.enter_context(Figures("matrices", "From a request to an array", options))
        redis_port = stack.enter_context(redis_server())
        urls = {array: f"redis://127.0.0.1:{redis_port}/{number}" for number, array in enumerate(IDS)}
        fill_floats(urls["matrix"])
        vectors.fill(urls["vectors"], np.random.default_rng(7).normal(0, 0.1, (USERS, LENGTH)).astype("<f4"))
        for array, url in urls.items():
            ports = {
                name: stack.enter_context(feature_store(url, "featurestore", 1, python))[0]
                for name, python in pythons.items()
            }
            found: dict[tuple[str, str], list[dict[str, Any]]] = {}
            for _, name in itertools.product(range(options.rounds), pythons):
                for way in ("Arrow", "JSON"):
                    found.setdefault((name, way), []).append(
                        ask(pythons[name], ports[name], array, options.requests, as_json=way == "JSON")
                    )
            tell(figures, array, found)


def ask(python: str, port: int, array: str, requests: int, *, as_json: bool) -> dict[str, Any]:
    """Run one client, and return what it prints."""
    command = [python, str(HERE / "client_side.py"), str(port), array, "--ids", str(IDS[array]), "--users", str(USERS),
               "--requests", str(requests), *(["--json"] if as_json else [])]  # fmt: skip
    printed: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return printed


def tell(figures: Figures, array: str, found: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    """Tell the medians, and how many times quicker this checkout is with Arrow."""
    sums = [runs[0]["sum"] for runs in found.values()]
    assert all(math.isclose(each, sums[0], rel_tol=1e-5) for each in sums), found
    medians = {
        key: [statistics.median(run[what] for run in runs) for what in ("us", "own_us", "least_us")]
        for key, runs in found.items()
    }
    for (name, way), (us, own, least) in medians.items():
        first = found[name, way][0]
        library, shape = "with pyarrow" if first["pyarrow"] else "no pyarrow", " x ".join(map(str, first["shape"]))
        figure = f"{us:,.0f} µs, {own:,.0f} of the client's processor, of which {least:,.0f} for any request"
        figures.add(f"{NAMES[array]}, {name}, {library}", f"{figure} ({shape} {first['dtype']})")
    goal = {"matrix": 2.5, "vectors": 10.0}[array]
    others = [(THIS, "JSON")] if array == "vectors" else []
    others += [(name, "JSON") for name in dict.fromkeys(name for name, _ in found) if name != THIS]
    for name, way in others:
        theirs, ours = medians[name, way], medians[THIS, "Arrow"]
        ratio, own = theirs[0] / ours[0], theirs[1] / ours[1]
        beside = (theirs[1] - theirs[2]) / max(1.0, ours[1] - ours[2])
        figure = (f"{ratio:.2f} times the time; of the client's processor {own:.2f} times, and "
                  f"{beside:.1f} times beside what any request takes")  # fmt: skip
        figures.add(f"{NAMES[array]}: {name} by {way} to this checkout by Arrow", figure,
                    wanted=f"at least {goal:g} times the time", reached=ratio >= goal)  # fmt: skip


def fill_floats(url: str) -> None:
    """Write users of ten floats."""
    with FeatureStore.connect(url, timeout=10) as store:
        store.apply(Definition(FLOATS))  # type: ignore[arg-type]
        rows = [(f"user{number:05d}", *(number / 7 + place for place in range(len(FLOATS)))) for number in range(USERS)]
        assert store.upsert_table(tuple(FLOATS), rows).written == USERS


if __name__ == "__main__":
    main()
