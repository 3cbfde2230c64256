"""Where Redis's time goes when new users are written: what each part of an upsert costs its one thread, in us a row.

Each script below does a little more than the one before it, on the same arguments; the last of them is the upsert
itself. The last line is replace_rows, which gets what the client has made of the rows. The first line is the commands
of the plain loop (perf/ingest.py), encoded beforehand, so that Python costs nothing. Redis cannot take more rows a
second than these times permit, however quick the client is.
"""

import argparse
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import hiredis
import redis
from featurestore.ingest.simulator import COLUMNS, Simulator
from figures import add_out, keep
from servers import redis_server

from featurestore import FeatureStore, read_definition
from featurestore.contract.resp import encode_command
from featurestore.contract.row_calls import row_calls_for
from featurestore.contract.scripts import UPSERT_FEATURES
from featurestore.keys import Keys

ROWS_PER_CALL = 250
START = """
local args, keys, call, pack = ARGV, KEYS, redis.call, cmsgpack.pack
local fields, values, base, count = %s, {}, 12, %d
for column = 1, 10 do fields[count + 2 * column - 1] = args[2 + column] end
for row = 1, #keys - 2 do
  for column = 1, 10 do
    local text = args[base + 1 + column]
    fields[count + 2 * column] = text
    %s
  end
  %s
  call('HSET', keys[2 + row], unpack(fields))
  base = base + 11
end
return 1
"""
SCRIPTS = {
    "a script that does nothing": "return 1",
    "+ HSET of the ten fields": START % ("{}", 0, "", ""),
    "+ tonumber of each text": START % ("{}", 0, "values[column] = tonumber(text) or text", ""),
    "+ the row packed, and stored with a time": START
    % (
        "{ '@row', '', '@event_time', '1700000000000' }",
        4,
        "values[column] = tonumber(text) or text",
        "fields[2] = '01234567\\154' .. pack(unpack(values))",
    ),
    "upsert_features: all checks, and the members": UPSERT_FEATURES.source,
}


def main() -> None:
    """Run everything in turn, several times, and print the least time of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    add_out(parser)
    arguments = parser.parse_args()
    rows = list(Simulator(arguments.users, seed=7).everyone())
    with redis_server() as port:
        url = f"redis://127.0.0.1:{port}/0"
        client = redis.Redis(port=port)
        least: dict[str, float] = {}
        for _ in range(arguments.rounds):
            for name, encoded, replies in workloads(client, url, rows):
                client.flushall()
                with FeatureStore.connect(url, timeout=5) as store:
                    store.apply(read_definition())
                before = spent(client)
                send(port, encoded, replies)
                took = (spent(client) - before) / len(rows) * 1e6
                least[name] = min(took, least.get(name, took))
        keep(arguments.out, "ingest_floor", least)
        for name, took in least.items():
            print(f"{name:46} {took:6.2f} us a row   {1e6 / took:9,.0f} rows/s at most")
        client.close()


def workloads(client: redis.Redis, url: str, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[bytes], int]]:
    """Yield for each workload its name, what to send, and how many replies come."""
    plain = []
    for entity_id, *values in rows:
        pairs = [word for pair in zip(COLUMNS, values, strict=True) for word in pair]
        plain.append(
            encode_command(("HSET", f"user:{entity_id}:features", *pairs))
            + encode_command(("SADD", "all_users", entity_id))
        )
    yield "HSET and SADD, no script", plain, 2 * len(rows)
    for name, source in SCRIPTS.items():
        sha = client.script_load(source)
        calls = []
        for first in range(0, len(rows), ROWS_PER_CALL):
            part = rows[first : first + ROWS_PER_CALL]
            keys = [f"user:{row[0]}:features" for row in part]
            words = [word for row in part for word in row]
            calls.append(
                encode_command(
                    ("EVALSHA", sha, 2 + len(part), "all_users", "user:schema", *keys, "", 10, *COLUMNS, *words)
                )
            )
        yield name, calls, len(calls)
    with FeatureStore.connect(url, timeout=5) as store:
        row_calls = row_calls_for(store.schema(), COLUMNS, "")
    if row_calls is not None:
        parts = [list(rows[first : first + ROWS_PER_CALL]) for first in range(0, len(rows), ROWS_PER_CALL)]
        yield (
            "replace_rows: rows made by the client",
            [row_calls.encode(Keys(), part) or b"" for part in parts],
            len(parts),
        )


def send(port: int, encoded: list[bytes], replies: int) -> None:
    """Send everything on one connection and read the replies meanwhile."""
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        sender = threading.Thread(target=connection.sendall, args=(b"".join(encoded),))
        sender.start()
        while replies:
            reader.feed(connection.recv(1 << 20))
            while (reply := reader.gets()) is not False:
                assert not isinstance(reply, Exception), reply
                replies -= 1
        sender.join()


def spent(client: redis.Redis) -> float:
    """Return the processor time that Redis has spent so far, in seconds."""
    found = client.info("cpu")
    return float(found["used_cpu_user_main_thread"]) + float(found["used_cpu_sys_main_thread"])


if __name__ == "__main__":
    main()
