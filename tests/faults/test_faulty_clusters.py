"""Clusters, and servers behind Sentinels, that break under load: no wrong answer, clean refusals, and all comes back.

Two faults run every day. `make test-cluster` runs all of them, on Redis 7.0 and Valkey 9; perf/faults.py measures.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from support import faults
from support.backends import CLUSTERS
from support.binaries import binaries
from support.cluster import Cluster, Watched
from support.trials import Act, Outcome, Rig, try_fault

USERS = 2000
TIMEOUT_MS, PATIENT_MS = 250, 2000
"""Of requests that may fail, and of those that may not: these are not to be late just because the machine is busy."""

pytestmark = pytest.mark.timeout(240)

Make = Callable[[str, Path], Rig]


class Fault(NamedTuple):
    """A fault, and what clients may see of it.

    Attributes:
        act: What happens.
        fails: Whether requests may fail meanwhile.
        loses: Whether acknowledged writes may be gone, as the servers promise no more.
        options: Of the servers.
        settings: Of the HTTP server.
    """

    act: Act
    fails: bool = True
    loses: bool = False
    options: tuple[str, ...] = ()
    settings: Mapping[str, str] = {}

    @property
    def timeout_ms(self) -> int:
        """FEATURESTORE_TIMEOUT_MS."""
        return TIMEOUT_MS if self.fails else PATIENT_MS


OF_CLUSTERS = {
    "kill a primary": Fault(faults.killed_primary, loses=True),
    "kill a primary, full coverage": Fault(
        faults.killed_primary, loses=True, options=("--cluster-require-full-coverage", "yes")
    ),
    "stop a primary for 1 s": Fault(faults.stopped_primary(1)),
    "stop a primary for 5 s": Fault(faults.stopped_primary(5), loses=True),
    "hand over": Fault(faults.handed_over, fails=False),
    "kill a replica": Fault(faults.killed_replica, fails=False),
    "rolling restart": Fault(faults.rolling_restart, fails=False),
    "restart all": Fault(faults.all_restarted, options=("--appendfsync", "always")),
    "move slots": Fault(faults.moved_slots, fails=False),
    "move slots at once": Fault(faults.moved_slots_at_once, fails=False),
}
OF_SENTINELS = {
    "kill the primary": Fault(faults.killed_under_sentinel, loses=True),
    "stop the primary for 5 s": Fault(faults.stopped_under_sentinel(5), loses=True),
    "kill a replica": Fault(faults.killed_replica_under_sentinel, fails=False),
    "hand over": Fault(faults.handed_over_by_sentinel(), fails=False),
    "hand over, coordinated": Fault(faults.handed_over_by_sentinel("COORDINATED")),
}
EVERY_DAY = {"kill a primary", "move slots", "kill the primary"}


def of(kinds: Mapping[str, Fault]) -> list[tuple[str, str]]:
    """Return the servers and faults that run: some of them on one server, or all on all."""
    all_of_them = len(CLUSTERS) > 1
    return [(server, name) for server in CLUSTERS for name in kinds if all_of_them or name in EVERY_DAY]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[type[Rig], str, Fault], Rig]]:
    """A function that starts servers of a kind; they end with the test."""
    running: list[Rig] = []

    def start(kind: type[Rig], server: str, fault: Fault) -> Rig:
        if server not in binaries():
            pytest.skip(f"this machine has no {server}")
        running.append(kind(binaries()[server], tmp_path / "servers", *fault.options))
        running[0].start()
        return running[0]

    yield start
    for each in running:
        each.stop()


def check(outcome: Outcome, fault: Fault) -> None:
    """Check what came of a fault, but for times."""
    told = f"{outcome._replace(wrong=outcome.wrong[:5])}"
    assert outcome.wrong == [], told
    assert outcome.recovered, told
    assert min(outcome.reads.asked, outcome.writes.asked) > 100, told
    assert set(outcome.reads.failed) | set(outcome.writes.failed) <= {"503", "504"}, told
    if not fault.loses:
        assert (outcome.lost, outcome.stale) == (0, []), told
    if not fault.fails:
        assert not outcome.reads.failed, told
        assert not outcome.writes.failed, told


@pytest.mark.parametrize(("server", "name"), of(OF_CLUSTERS))
def test_a_cluster_breaks(
    server: str, name: str, started: Callable[[type[Rig], str, Fault], Rig], tmp_path: Path
) -> None:
    fault = OF_CLUSTERS[name]
    if name == "move slots at once" and not server.startswith("valkey9"):
        pytest.skip("Valkey 9 alone moves slots by itself")
    rig = started(Cluster, server, fault)
    check(try_fault(rig, fault.act, tmp_path, users=USERS, timeout_ms=fault.timeout_ms, settings=fault.settings), fault)


@pytest.mark.parametrize(("server", "name"), of(OF_SENTINELS))
def test_a_server_that_sentinels_watch_breaks(
    server: str, name: str, started: Callable[[type[Rig], str, Fault], Rig], tmp_path: Path
) -> None:
    fault = OF_SENTINELS[name]
    if name == "hand over, coordinated" and not server.startswith("valkey9"):
        pytest.skip("Valkey 9 alone coordinates a failover")
    rig = started(Watched, server, fault)
    check(try_fault(rig, fault.act, tmp_path, users=USERS, timeout_ms=fault.timeout_ms, settings=fault.settings), fault)
