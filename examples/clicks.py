"""A web shop's events, put into a Redis Stream as they happen; `featurestore consume` writes them into the store.

featurestore apply examples/clicks.toml
python examples/clicks.py redis://127.0.0.1:6379/0 1000
featurestore consume clicks
"""

import json
import random
import sys
from collections.abc import Iterator

import redis

PAGES = ("home", "search", "shoes", "basket")


def events(count: int) -> Iterator[dict[str, str]]:
    """Yield so many entries: a page was opened, which is a visit too, or something was bought."""
    for number in range(count):
        user = f"user{random.randrange(100):05d}"
        if number % 3 == 0:
            yield {"user_id": user, "last_page": random.choice(PAGES)}
        elif number % 3 == 1:
            yield {"user_id": user, "incr": json.dumps({"visits": 1})}
        else:
            order = {"amount": round(random.uniform(5, 90), 2)}
            yield {"user_id": user, "event": json.dumps(order), "event_id": f"order-{number}"}


def main(url: str, count: str) -> None:
    """Put the events into the stream `clicks`, a hundred in a write, and keep the last million of them."""
    client = redis.Redis.from_url(url)
    pipeline = client.pipeline(transaction=False)
    for number, event in enumerate(events(int(count)), 1):
        pipeline.xadd("clicks", dict(event), maxlen=1_000_000, approximate=True)
        if number % 100 == 0:
            pipeline.execute()
    pipeline.execute()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 3 else __doc__)
