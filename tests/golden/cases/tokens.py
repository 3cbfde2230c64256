"""take_tokens: buckets of tokens, the rates of API keys."""

from golden.declaring import Step, call, case, clocked, fails, look, store

BUCKET = "featurestore:ratelimit:ranker"
SLOW = "0.001"
"""Tokens a second: none comes while a case runs."""


def take(*words: str, key: str = BUCKET) -> Step:
    return call("take_tokens", [key], *words)


CASES = [
    case(
        "a bucket that nobody has used is full; it gives what is wanted, then what is left, then nothing",
        take(SLOW, "10", "4"),
        take(SLOW, "10", "4"),
        take(SLOW, "10", "4"),
        clocked(take(SLOW, "10", "4"), (1,), least=900_000),
        take(SLOW, "10", "4", key="featurestore:ratelimit:other"),
        look("EXISTS", BUCKET),
    ),
    case(
        "the least is given whole or not at all",
        take(SLOW, "10", "1", "7"),
        clocked(take(SLOW, "10", "1", "5"), (1,), least=1_900_000),
        take(SLOW, "10", "9", "3"),
    ),
    case(
        "a full bucket gives more than it holds, and owes it",
        take(SLOW, "10", "1", "25"),
        clocked(take(SLOW, "10", "1"), (1,), least=15_900_000),
    ),
    case(
        "with another rate or another size the same bucket goes on",
        take(SLOW, "10", "10"),
        clocked(take("0.01", "10", "1"), (1,), least=900_000),
        take(SLOW, "100", "100", "90"),
    ),
    case(
        "arguments that are wrong",
        call("take_tokens", [], SLOW, "10", "1"),
        call("take_tokens", [BUCKET, BUCKET], SLOW, "10", "1"),
        take(SLOW, "10"),
        take("0", "10", "1"),
        take("x", "10", "1"),
        take("nan", "10", "1"),
        take(SLOW, "0", "1"),
        take(SLOW, "1.5", "1"),
        take(SLOW, "10", "1", "0"),
        take(SLOW, "10", "1", "1000000001"),
        take(SLOW, "10", "1", "1", "1"),
        take(SLOW, "10", "1", key="all_users"),
        look("EXISTS", BUCKET),
    ),
    case(
        "a key of another type",
        store("HSET", BUCKET, "a", "b"),
        fails(take(SLOW, "10", "1"), "WRONGTYPE"),
    ),
]
