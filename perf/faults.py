"""Break clusters and servers behind Sentinels under load, and tell what clients saw: docs/reliability.md.

A cluster of three primaries and three replicas, and a primary with two replicas and three Sentinels, real processes on
loopback, with `featurestore serve` over them by two workers. Eleven clients read one id or 30, write rows and count,
over HTTP and by stores of their own. They know what was acknowledged, and judge every answer. Each fault takes some
seconds, all of them some ten minutes.
"""

import argparse
import datetime as dt
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from figures import commit, machine

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests"))

try:
    from support import faults
    from support.binaries import BUILDS, binaries
    from support.checking import Seen
    from support.cluster import Cluster, Watched
    from support.trials import Act, Outcome, Rig, try_fault
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is missing: pip install -e '.[test,perf]' in a checkout")

from featurestore.settings import describe_settings  # noqa: E402

SERVERS = ("redis7", "valkey9")
_ELECTION_S = 0.5
_PAGE, _UNDER_WAY = "reliability.md", "reliability.md.part"

Make = Callable[[str, Path], Rig]
Rule = Callable[[Outcome, float], bool]


def _plain(binary: str, folder: Path) -> Rig:
    return Cluster(binary, folder)


def _covering(binary: str, folder: Path) -> Rig:
    return Cluster(binary, folder, "--cluster-require-full-coverage", "yes")


def _gated(binary: str, folder: Path) -> Rig:
    return Cluster(binary, folder, gated=True)


def _forgetful(binary: str, folder: Path) -> Rig:
    return Cluster(binary, folder, "--appendonly", "no")


def _watched(binary: str, folder: Path) -> Rig:
    return Watched(binary, folder)


def _nothing_failed(outcome: Outcome, _timeout_s: float) -> bool:
    return not outcome.reads.failed and not outcome.writes.failed and not outcome.lost


def _reads_went_on(outcome: Outcome, timeout_s: float) -> bool:
    in_time = outcome.reads.last_asked <= timeout_s and outcome.writes.last <= outcome.done + _ELECTION_S
    return in_time and not outcome.lost


class Wish(NamedTuple):
    """What a fault is to look like, in words, and whether it does."""

    words: str
    rule: Rule


ANSWERS = Wish("no wrong answer, and no failed request 30 s later", lambda _outcome, _timeout_s: True)
"""Both are asked of every fault; here they are all that is asked."""
NOTHING = Wish("no failed request, nothing lost", _nothing_failed)
READS_GO_ON = Wish(
    "no failed read but those asked within one time-out, writes until the election plus 0.5 s, nothing lost",
    _reads_went_on,
)


class Fault(NamedTuple):
    """One row of the table.

    Attributes:
        name: Of the row, and for `--only`.
        make: What makes the servers.
        act: What happens to them.
        wish: What is expected of it.
        servers: On which it can happen.
        applies: Whether the schema has to be applied again.
        settings: Of the HTTP server.
    """

    name: str
    make: Make
    act: Act
    wish: Wish = ANSWERS
    servers: tuple[str, ...] = SERVERS
    applies: bool = False
    settings: Mapping[str, str] | None = None


FAULTS = (
    Fault("nothing, for 3 s", _plain, faults.nothing, NOTHING),
    Fault("kill -9 a primary", _plain, faults.killed_primary, READS_GO_ON),
    Fault("a primary stopped for 1 s", _plain, faults.stopped_primary(1)),
    Fault("a primary stopped for 5 s", _plain, faults.stopped_primary(5)),
    Fault("CLUSTER FAILOVER", _plain, faults.handed_over, NOTHING),
    Fault("kill -9 a replica", _plain, faults.killed_replica, NOTHING),
    Fault("rolling restart, each primary after CLUSTER FAILOVER", _plain, faults.rolling_restart, NOTHING),
    Fault("1,024 slots moved key by key", _plain, faults.moved_slots, NOTHING),
    Fault("1,024 slots moved by CLUSTER MIGRATESLOTS", _plain, faults.moved_slots_at_once, NOTHING, ("valkey9",)),
    Fault("all nodes killed and restarted, append-only files", _plain, faults.all_restarted),
    Fault("kill -9 a primary, cluster-require-full-coverage yes", _covering, faults.killed_primary),
    Fault("a primary cut off for 6 s", _gated, faults.cut_off_primary(6)),
    Fault("a primary cut off for 6 s, FEATURESTORE_WAIT_REPLICAS=1", _gated, faults.cut_off_primary(6),
          settings={"wait_replicas": "1"}),
    Fault("a primary without persistence killed and restarted at once", _forgetful, faults.restarted_at_once,
          applies=True),
    Fault("Sentinel: kill -9 the primary, which returns", _watched, faults.killed_under_sentinel),
    Fault("Sentinel: the primary stopped for 5 s, then back", _watched, faults.stopped_under_sentinel(5)),
    Fault("Sentinel: kill -9 a replica", _watched, faults.killed_replica_under_sentinel, NOTHING),
    Fault("Sentinel: SENTINEL FAILOVER", _watched, faults.handed_over_by_sentinel(), NOTHING),
    Fault("Sentinel: SENTINEL FAILOVER COORDINATED", _watched, faults.handed_over_by_sentinel("COORDINATED"),
          servers=("valkey9",)),
)  # fmt: skip

_TEMPLATE = Path(__file__).with_name("reliability.md")
"""The page around the table."""


def main() -> int:
    """Run the faults in turn, print what came of each, and write the page; return 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="faults whose names have this; may be repeated")
    parser.add_argument("--server", action="append", choices=SERVERS, help="on these alone; may be repeated")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--timeout-ms", type=int, default=50, help="FEATURESTORE_TIMEOUT_MS")
    parser.add_argument("--list", action="store_true", help="name the faults and end")
    parser.add_argument("--out", type=Path, help="a folder for reliability.md, such as docs")
    options = parser.parse_args()
    wanted = [each for each in FAULTS if not options.only or any(part in each.name for part in options.only)]
    if options.list or not wanted:
        print(*(each.name for each in FAULTS), sep="\n")
        return 0 if options.list else 2
    rows, wrong, failed, anchored = [], 0, 0, set[str]()
    for server in options.server or SERVERS:
        for fault, outcome in _outcomes(server, wanted, options):
            name = fault.name if fault.name in anchored else f'<a id="{_anchor(fault.name)}"></a>{fault.name}'
            anchored.add(fault.name)
            rows.append(_row(fault, f"{name} | {BUILDS[server].title}", outcome, options.timeout_ms / 1000))
            wrong += 0 if isinstance(outcome, str) else len(outcome.wrong)
            failed += isinstance(outcome, str)
            print(rows[-1], flush=True)
            if isinstance(outcome, Outcome):
                _explain(outcome)
            if options.out is not None:  # after each, so that a run that is ended leaves what it found
                options.out.mkdir(parents=True, exist_ok=True)
                (options.out / _UNDER_WAY).write_text(_page(rows, wrong, options))
    if options.out is not None and rows and not failed:
        (options.out / _UNDER_WAY).replace(options.out / _PAGE)
    elif failed:
        print(f"{failed} trials failed: {_PAGE} stays as it was", file=sys.stderr)
    return 1 if wrong or failed else 0


def _outcomes(server: str, wanted: list[Fault], options: argparse.Namespace) -> Iterator[tuple[Fault, Outcome | str]]:
    """Yield each fault with its outcome, or with the reason why it has none."""
    binary = binaries().get(server)
    if binary is None:
        print(f"{server} is not on this machine", file=sys.stderr)
        return
    known = {variable for variable, _, _ in describe_settings()}
    for fault in wanted:
        if server in fault.servers and {f"FEATURESTORE_{name.upper()}" for name in fault.settings or ()} <= known:
            with tempfile.TemporaryDirectory() as folder:
                yield fault, _outcome(fault, binary, Path(folder), options)


def _outcome(fault: Fault, binary: str, folder: Path, options: argparse.Namespace) -> Outcome | str:
    rig = fault.make(binary, folder)
    try:
        rig.start()
        return try_fault(rig, fault.act, folder, users=options.users, timeout_ms=options.timeout_ms,
                         applies=fault.applies, settings=fault.settings)  # fmt: skip
    except Exception as error:  # noqa: BLE001 - the other faults are to run all the same
        print(
            f"{fault.name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True
        )  # a server's log may be in it
        return f"the trial failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        rig.stop()


def _explain(outcome: Outcome) -> None:
    """Say on stderr what was wrong, and why requests failed."""
    for each in outcome.wrong[:5]:
        print(f"  wrong: {each}", file=sys.stderr, flush=True)
    for each, count in (outcome.reads.reasons + outcome.writes.reasons).most_common(6):
        print(f"  {count} times: {each}", file=sys.stderr, flush=True)


def _row(fault: Fault, head: str, outcome: Outcome | str, timeout_s: float) -> str:
    if isinstance(outcome, str):
        return f"| {head} | {outcome} | | | | | |"
    slowest = max(outcome.reads.slowest, outcome.writes.slowest) * 1000
    reached = outcome.recovered and not outcome.wrong and fault.wish.rule(outcome, timeout_s)
    verdict = f"{fault.wish.words}: {'reached' if reached else '**not reached**'}"
    late = "" if outcome.recovered else ": requests still failed after 30 s"
    wrong = f" **{len(outcome.wrong)} wrong**" if outcome.wrong else ""
    words: tuple[Any, ...] = (head, _told(outcome.reads) + wrong, _told(outcome.writes),
                              f"{slowest:,.0f} ms", _told_stale(outcome.stale), f"{outcome.lost:,}",
                              f"{verdict}{late}")  # fmt: skip
    return f"| {' | '.join(map(str, words))} |"


def _anchor(name: str) -> str:
    """Return what a link to a fault's row ends with, made as the anchors of headings are."""
    return re.sub(r"[^a-z0-9 -]", "", name.lower()).replace(" -", " ").replace(" ", "-")


def _told_stale(times: list[float]) -> str:
    return f"{len(times):,}; {_span(min(times), max(times))}" if times else "0"


def _told(seen: Seen) -> str:
    if not seen.failed:
        return f"0 of {seen.asked:,}"
    statuses = ", ".join(f"{_times(count)} {status}" for status, count in seen.failed.most_common())
    return f"{seen.failed.total():,} of {seen.asked:,}: {statuses}; {_span(seen.first, seen.last)}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _span(first: float, last: float) -> str:
    """Return a span of seconds; what was under way when the fault began counts as from 0."""
    return f"{max(0.0, first):.2f} to {max(0.0, last):.2f} s"


def _page(rows: list[str], wrong: int, options: argparse.Namespace) -> str:
    options_given = " ".join(f'"{word}"' if " " in word else word for word in sys.argv[1:])
    source = (f"By `python perf/faults.py {options_given}` at {commit()}, {dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, "
              f"{machine()}.")  # fmt: skip
    page = _TEMPLATE.read_text(encoding="utf-8")
    return page.format(source=source, users=options.users, timeout_ms=options.timeout_ms, wrong=wrong or "none",
                       rows="\n".join(rows))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
