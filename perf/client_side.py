"""Time a client from the request to an array, and print what it took as JSON.

`us` is the median, `own_us` the client's processor time of a request, and `least_us` that of a read of one entity: what
its HTTP library takes of any.

perf/matrices.py runs it by the Python of the checkout that it measures, so it imports nothing of this folder.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Iterable
from typing import Any


def main() -> None:
    """Ask again and again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("array", choices=("matrix", "vectors"))
    parser.add_argument("--ids", type=int, required=True, help="of a request")
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="as if pyarrow were not installed")
    options = parser.parse_args()
    if options.json:
        sys.modules["pyarrow"] = None  # type: ignore[assignment]
    from featurestore import Client  # noqa: PLC0415 - after what it may find

    sets = [[f"user{(first + row * 7) % options.users:05d}" for row in range(options.ids)] for first in range(50)]
    make = {"matrix": matrix, "vectors": vectors}[options.array]
    took, used = [], 0.0
    with Client(f"http://127.0.0.1:{options.port}", timeout=10) as client:
        for number in range(-20, options.requests):
            started, before = time.perf_counter(), time.process_time()
            array = make(client, sets[number % len(sets)])
            if number >= 0:
                took.append((time.perf_counter() - started) * 1e6)
                used += (time.process_time() - before) * 1e6
        before = time.process_time()
        for _ in range(options.requests):
            assert client.get(sets[0][0]) is not None
        least = (time.process_time() - before) * 1e6
    pyarrow = not options.json and importlib.util.find_spec("pyarrow") is not None
    found: dict[str, Any] = {"us": statistics.median(took), "own_us": used / len(took), "least_us": least / len(took)}
    found |= {"sum": float(array.sum()), "shape": array.shape, "dtype": str(array.dtype), "pyarrow": pyarrow}
    print(json.dumps(found))


def matrix(client: Any, ids: Iterable[str]) -> Any:
    """Return all features of the users as a matrix."""
    return client.get_many(ids).to_numpy()


def vectors(client: Any, ids: Iterable[str]) -> Any:
    """Return the users' embeddings as a 2-D array of float32."""
    import numpy as np  # noqa: PLC0415 - where it costs nothing: it is there after the first time

    table = client.get_many(ids, ["embedding"])
    if hasattr(table, "column"):
        return table.column("embedding")
    return np.array([row["embedding"] for row in table], np.float32)


if __name__ == "__main__":
    main()
