"""One fault under load: a server over HTTP, clients that check every answer, and what came of it."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from featurestore import FeatureStore
from featurestore.errors import FeatureStoreError
from support.checking import KEY, Load, Seen, fill, lost
from support.cluster import Cluster, Watched
from support.http import serving
from support.servers import wait_until
from support.truth import DEFINITION, Truth

Rig = Cluster | Watched
Act = Callable[[Any], contextlib.AbstractContextManager[None]]

_QUIET_S = 1.5
_WARM_S = 1.0


class Outcome(NamedTuple):
    """What came of a fault; times are in s after its start.

    Attributes:
        reads: What was seen of reads.
        writes: What was seen of writes.
        done: When the fault was over, or somebody had taken over.
        recovered: Whether requests were served again.
        wrong: Answers that cannot be true.
        stale: For each id that was found older than acknowledged, or not at all, when.
        lost: How many acknowledged writes are gone at the end.
    """

    reads: Seen
    writes: Seen
    done: float
    recovered: bool
    wrong: list[str]
    stale: list[float]
    lost: int


def try_fault(  # noqa: PLR0913 - what a trial is made of
    rig: Rig,
    act: Act,
    folder: Path,
    *,
    users: int,
    timeout_ms: int = 50,
    patience_s: float = 30.0,
    applies: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a fault on a rig that is started, and return what came of it.

    Args:
        rig: Where; it is emptied first.
        act: The fault.
        folder: For the log of the HTTP server.
        users: How many there are.
        timeout_ms: FEATURESTORE_TIMEOUT_MS, and the time-out of the stores beside the server.
        patience_s: How long to wait for requests to be served again.
        applies: Whether the schema is applied again after the fault, as people would where it was lost.
        settings: Further settings of the server and of the stores, by their names without the prefix.
    """
    truth = Truth()
    chosen = {f"FEATURESTORE_{name.upper()}": value for name, value in (settings or {}).items()}
    with mock.patch.dict(os.environ, chosen), FeatureStore.connect(rig.url, timeout=5.0, write_timeout=20.0) as store:
        rig.empty()
        fill(store, truth, users)
        with serving(
            rig.url, folder, workers="2", write_keys=KEY, timeout_ms=str(timeout_ms), **settings or {}
        ) as server:
            wait_until(lambda: server.get("/readyz").status == 200, what="a server that is ready")
            with Load(rig.url, server.port, truth, users=users, timeout=timeout_ms / 1000) as load:
                _wait(_WARM_S)
                _quiet(load, patience_s)
                start = time.monotonic()
                with act(rig):
                    done = time.monotonic() - start
                    if applies:
                        _wait(_WARM_S)
                        store.apply(DEFINITION)
                    recovered = _quiet(load, patience_s)
                rig.settle()
                recovered = _quiet(load, patience_s) and recovered
        reads, writes = load.seen(start)
        stale = [at - start for at in truth.stale_at]
        return Outcome(reads, writes, done, recovered, truth.wrong, stale, _lost(store, truth))


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _quiet(load: Load, patience_s: float) -> bool:
    """Return as soon as no request has failed for a while, whether it has come to that in time."""
    deadline, since = time.monotonic() + patience_s, time.monotonic()
    while time.monotonic() < deadline:
        if time.monotonic() - max(since, load.last_failure()) >= _QUIET_S:
            return True
        _wait(0.02)
    return False


def _lost(store: FeatureStore, truth: Truth) -> int:
    """Return what `lost` does, once the store answers."""
    found: list[int] = []

    def answers() -> bool:
        with contextlib.suppress(FeatureStoreError):
            found.append(lost(store, truth))
        return bool(found)

    wait_until(answers, timeout=30, what="a store that answers")
    return found[0]
