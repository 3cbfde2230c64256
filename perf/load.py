"""Compare loading a Parquet file by one process: `featurestore load`, a loop of pandas and redis-py, and Feast.

Each way runs in turn on a fresh Redis: users of ten features, the same with gaps, and with a vector. The loop is what
people write (perf/peers/pandas_loop.py); it keeps no event times. Feast gets fewer rows, and only its write counts,
while the others count from the start of their process to its end. Tells rows/s (medians), their ratios, and the memory
of `load` at most, for two sizes of the file. Takes some ten minutes by its defaults, and 3 GB of memory for Redis.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import redis
from figures import Figures, add_out
from loading import Took, check, declare, load_command, run, user_file
from servers import HERE, redis_server

VECTOR = 64
GAPS = 0.05
MOST_MIB = 300
FEAST = HERE.parent / ".venv-feast" / "bin" / "python"


class Kind(msgspec.Struct, frozen=True):
    """Users of a kind: how many, what they lack and have, and how much quicker than the loop `load` is to be."""

    what: str
    rows: int
    wanted: float | None
    gaps: float = 0.0
    vector: int = 0


def by_load(kind: Kind, path: Path) -> Took:
    """Load the file by the command."""
    with redis_server() as port:
        url = f"redis://127.0.0.1:{port}/0"
        declare(url, kind.vector)
        took = run(*load_command(path, url))
        check(url, kind.rows, kind.gaps)
    return took


def by_loop(kind: Kind, path: Path) -> Took:
    """Load the file by the loop."""
    with redis_server() as port:
        url = f"redis://127.0.0.1:{port}/0"
        took = run(
            [sys.executable, str(HERE / "peers" / "pandas_loop.py"), str(path), url, *["gaps"] * bool(kind.gaps)]
        )
        with redis.Redis.from_url(url) as client:
            assert client.scard("all_users") == kind.rows
    return took


def feast_rate(python: Path, path: Path, rows: int) -> float:
    """Return rows/s of Feast's `write_to_online_store`."""
    with redis_server() as port:
        command = [str(python), str(HERE / "peers" / "feast_writer.py"), str(path), str(port), str(rows)]
        took = run(command, {"FEAST_USAGE": "False"})
        with redis.Redis(port=port) as client:
            assert client.dbsize() == rows
    return rows / float(took.output.split()[-1])


def told(values: list[float]) -> str:
    """Return the median of rows/s, and all of them."""
    return f"{statistics.median(values):,.0f} rows/s ({' '.join(f'{value:,.0f}' for value in values)})"


def compare(figures: Figures, kind: Kind, runs: int) -> tuple[float, float]:
    """Tell rows/s of `load` and the loop for users of a kind; return the median of `load`, and its memory in MiB."""
    path = user_file(kind.rows, kind.gaps, kind.vector)
    ways: dict[str, Callable[[Kind, Path], Took]] = {"load": by_load, "loop": by_loop}
    found: dict[str, list[Took]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            found[name].append(way(kind, path))
    rates = {name: [kind.rows / took.seconds for took in all_of_it] for name, all_of_it in found.items()}
    most = {name: max(took.mib for took in all_of_it) for name, all_of_it in found.items()}
    for name, label in (("load", "load"), ("loop", "a loop of pandas and redis-py")):
        figures.add(f"{kind.what}, {label}", f"{told(rates[name])}, at most {most[name]:,.0f} MiB")
    rate, other = (statistics.median(rates[name]) for name in ways)
    verdict: dict[str, Any] = {}
    if kind.wanted is not None:
        verdict = {"wanted": f"at least {kind.wanted:g} times", "reached": rate / other >= kind.wanted}
    figures.add(f"{kind.what}, load over the loop", f"{rate / other:.2f} times", **verdict)
    return rate, most["load"]


def main() -> None:
    """Run everything in turn and tell the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--vector-rows", type=int, default=200_000)
    parser.add_argument("--feast-rows", type=int, default=50_000)
    parser.add_argument("--memory-rows", type=int, default=5_000_000, help="of the bigger file; 0 to leave that out")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--feast", type=Path, default=FEAST, help="Python of an environment that has Feast")
    add_out(parser)
    options = parser.parse_args()
    feast = options.feast
    del options.feast  # where it is on this machine is nothing for the page
    with Figures("load", "Loading a Parquet file by one process", options) as figures:
        plain = Kind(f"{options.rows:,} rows of 10 features", options.rows, 3.0)
        rate, most = compare(figures, plain, options.runs)
        compare(figures, Kind(f"{options.rows:,} rows with {GAPS:.0%} gaps", options.rows, None, GAPS), options.runs)
        wide = Kind(f"{options.vector_rows:,} rows with a vector of {VECTOR}", options.vector_rows, 2.0, 0.0, VECTOR)
        compare(figures, wide, options.runs)
        if feast.exists():
            compare_feast(figures, plain, rate, feast, options)
        else:
            print(f"Feast is not measured: {feast} does not exist; `make test-feast` makes it", flush=True)
        tell_memory(figures, options.rows, most)
        if options.memory_rows:
            bigger = Kind("", options.memory_rows, None)
            tell_memory(figures, bigger.rows, by_load(bigger, user_file(bigger.rows)).mib)


def tell_memory(figures: Figures, rows: int, most: float) -> None:
    """Tell what `load` takes of memory for a file of so many rows."""
    figures.add(f"memory of load at most, {rows:,} rows", f"{most:,.0f} MiB",
                wanted=f"at most {MOST_MIB} MiB", reached=most <= MOST_MIB)  # fmt: skip


def compare_feast(figures: Figures, kind: Kind, rate: float, python: Path, options: argparse.Namespace) -> None:
    """Tell rows/s of Feast, and how many times quicker `load` is."""
    path = user_file(kind.rows)
    rows = min(options.feast_rows, kind.rows)
    rates = [feast_rate(python, path, rows) for _ in range(options.runs)]
    figures.add(f"{rows:,} of these rows, Feast's write_to_online_store", told(rates))
    times = rate / statistics.median(rates)
    figures.add("load over Feast", f"{times:.1f} times", wanted="at least 10 times", reached=times >= 10)  # noqa: PLR2004


if __name__ == "__main__":
    main()
