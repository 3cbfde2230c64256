"""Load the server with 256 connections for a minute and look for what must not happen.

Prints failed requests, memory of the workers over the run, connections to Redis, Redis commands for the requests
served, and how many requests shared one write to Redis.
"""

import argparse

import redis
from checkouts import children
from compare import fill
from memory import Memory
from servers import feature_store, load, redis_server

SAMPLES = 10  # of the workers' memory in a run
IN_SCRIPTS = {"evalsha", "sismember", "smismember", "hget"}  # what clients send, and what the scripts call


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
            workers = children(master)
            load("warm-up", port, "uniform", arguments.connections, seconds=5, users=arguments.users)
            client.config_resetstat()
            with Memory(workers, arguments.seconds / SAMPLES) as memory:
                run = load(
                    "soak", port, "uniform", arguments.connections, seconds=arguments.seconds, users=arguments.users
                )
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
            for number, samples in enumerate(memory.samples, 1):
                print(f"memory of worker {number} in KiB, every {arguments.seconds / SAMPLES:.0f} s: {samples}")
            print(f"connections to Redis: {stats['connected_clients'] - 1} for {len(workers)} workers")
            print(f"Redis: {evalshas} EVALSHA for {run.requests} answered requests; other commands: {others}")
            print(f"{run.requests / evalshas:.1f} requests a call; Redis read {reads} times: "
                  f"{run.requests / reads:.1f} requests a write of a worker")  # fmt: skip
        client.close()


if __name__ == "__main__":
    main()
