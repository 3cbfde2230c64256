"""Load the server with 256 connections for a minute and look for what must not happen.

Prints failed requests, memory of the workers over the run, connections to Redis, Redis commands for the requests
served, and how many requests shared one write to Redis.
"""

import argparse
import threading
from pathlib import Path

import redis
from compare import fill
from servers import feature_store, load, redis_server

SAMPLES = 10  # of the workers' memory in a run
IN_SCRIPTS = {"evalsha", "sismember", "smismember", "hget"}  # what clients send, and what the scripts call


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def children_of(pid: int) -> list[int]:
    """Return the processes that `pid` started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sample(workers: list[int], memory: list[list[int]], interval: float, stop: threading.Event) -> None:
    """Append the workers' memory to their lists every `interval` seconds until told to stop."""
    while not stop.wait(interval):
        for pid, samples in zip(workers, memory, strict=True):
            samples.append(memory_of(pid))


def main() -> None:
    """Run the load and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with redis_server() as redis_port:
        url = f"redis://127.0.0.1:{redis_port}/0"
        fill(url, arguments.users)
        client = redis.Redis.from_url(url)
        with feature_store(url, "featurestore", arguments.workers) as (port, master):
            workers = children_of(master)
            load("warm-up", port, "uniform", arguments.connections, seconds=5, users=arguments.users)
            memory = [[memory_of(pid)] for pid in workers]
            stop = threading.Event()
            sampler = threading.Thread(target=sample, args=(workers, memory, arguments.seconds / SAMPLES, stop))
            client.config_resetstat()
            sampler.start()
            run = load("soak", port, "uniform", arguments.connections, seconds=arguments.seconds, users=arguments.users)
            stop.set()
            sampler.join()
            stats = client.info("all")
            reads = stats["total_reads_processed"]
            evalshas = stats["cmdstat_evalsha"]["calls"]
            others = {
                name.removeprefix("cmdstat_"): figures["calls"]
                for name, figures in stats.items()
                if name.startswith("cmdstat_") and name.removeprefix("cmdstat_") not in IN_SCRIPTS
            }
            print(f"{run.requests} requests in {run.seconds:.0f} s at {arguments.connections} connections, "
                  f"{run.rate:,.0f}/s, p99 {run.p99 / 1000:.2f} ms, failed {run.failed}")  # fmt: skip
            for number, samples in enumerate(memory, 1):
                print(f"memory of worker {number} in KiB, every {arguments.seconds / SAMPLES:.0f} s: {samples}")
            print(f"connections to Redis: {stats['connected_clients'] - 1} for {len(workers)} workers")
            print(f"Redis: {evalshas} EVALSHA for {run.requests} answered requests; other commands: {others}")
            print(f"{run.requests / evalshas:.1f} requests a call; Redis read {reads} times: "
                  f"{run.requests / reads:.1f} requests a write of a worker")  # fmt: skip
        client.close()


if __name__ == "__main__":
    main()
