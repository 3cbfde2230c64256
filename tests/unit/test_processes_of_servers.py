"""Whether a Redis is still what a load wrote to, and what it still has of that."""

import pytest
from featurestore.ingest.files.server import Process, Server

QUIET_S = 100.0


def one(run_id: str, up_s: int = 1000, *, logs: bool = False) -> Server:
    return Server({"": Process(run_id, up_s, logs)})


def cluster(**processes: tuple[str, int, bool]) -> Server:
    return Server({name: Process(*process) for name, process in processes.items()})


BEFORE = cluster(a=("1", 1000, False), b=("2", 1000, False))


@pytest.mark.parametrize(
    ("before", "now", "other", "keeps"),
    [
        (one("r"), one("r"), False, True),
        (one("r"), one("s", 5), True, False),  # restarted
        (one("r"), one("s", 5, logs=True), True, True),
        (one("r"), one("s", 500), True, True),  # a replica that took over
        (one(""), one("s", 5), False, False),  # it was not known
        (one("r"), one("", 0), True, False),  # it may not be asked any more
        (BEFORE, BEFORE, False, True),
        (BEFORE, cluster(a=("1", 1000, False)), False, True),  # a primary less
        (BEFORE, cluster(a=("1", 1000, False), b=("3", 5, False)), True, False),  # restarted
        (BEFORE, cluster(a=("1", 1000, False), b=("3", 5, True)), True, True),
        (BEFORE, cluster(a=("1", 1000, False), c=("4", 5, False)), True, True),  # another one took over
        (BEFORE, cluster(a=("1", 1000, False), b=("2", 1000, False), c=("4", 5, False)), True, True),  # a new one
        (BEFORE, cluster(a=("9", 5, False), c=("4", 5, True)), True, False),
    ],
)
def test_what_a_server_is_and_has_is_told_by_its_processes(
    before: Server,
    now: Server,
    other: bool,  # noqa: FBT001 - what is expected
    keeps: bool,  # noqa: FBT001 - likewise
) -> None:
    identity = before.identity
    assert now.is_other_than(identity) == other
    if other:
        assert now.keeps(identity, QUIET_S) == keeps
