"""`featurestore migrate`: a store from one Redis to another."""

import logging
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec

from featurestore.errors import BadArgumentsError, ConfigurationError, FeatureStoreError, NoSchemaError, RedisError
from featurestore.keys import PARTITIONS
from featurestore.settings import Settings

from ..files.checkpoint import digest_of  # noqa: TID252 - this package has two names
from ..files.scan import ReadRetries, Throttle  # noqa: TID252 - likewise
from ..files.telling import Telling  # noqa: TID252 - likewise
from .ends import End, identity_of
from .move import Keeps, Manner, Move
from .report import agrees, announced, as_json, summary
from .schemas import Planned, apply_missing, plan_entities
from .state import State, StateFile

_logger = logging.getLogger("featurestore.ingest")
_GOES_ON = "the same command goes on from there"
_DOING = {"copy": "Copying", "remove": "Removing", "compare": "Comparing", "find extra": "Looking for extra ids"}


class Wanted(msgspec.Struct, frozen=True):
    """All that the command line says.

    Attributes:
        source: URL of the store that is copied.
        target: URL of the store that it is copied to.
        entities: Whose ids; empty for all.
        manner: How; what share is compared is known when the ids are counted.
        sample: How many ids are compared; None for all.
        partitions: How many partitions new entities of the target have; None: FEATURESTORE_PARTITIONS.
        rate: Most ids a second.
        state: Where the state is kept; None: by default.
        restart: Whether an interrupted move is begun anew.
        dry: Whether it is only told what would be done.
        yes: Whether what looks like a mistake is wanted.
    """

    source: str
    target: str
    entities: tuple[str, ...]
    manner: Manner
    sample: int | None
    partitions: int | None
    rate: float | None
    state: Path | None
    restart: bool
    dry: bool
    yes: bool


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--entity", "entities", multiple=True, metavar="NAME", help="Whose ids; those of all when left out.")
@click.option("--partitions", type=click.Choice([str(each) for each in PARTITIONS]), metavar="P",
              help="Partitions of entities that are new in a cluster, instead of FEATURESTORE_PARTITIONS.")  # fmt: skip
@click.option("--passes", type=click.IntRange(1, 20), default=2, show_default=True,
              help="How often the source is gone through.")  # fmt: skip
@click.option("--switched", is_flag=True,
              help="Writers write to the target already: what has the same event time there stays.")  # fmt: skip
@click.option("--exact", is_flag=True,
              help="Nobody writes to the target: what differs is replaced, what SOURCE lacks removed.")  # fmt: skip
@click.option("--verify-only", is_flag=True, help="Compare, and copy nothing.")
@click.option("--no-verify", is_flag=True, help="Copy, and do not compare in the end.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Compare about so many ids instead of all.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="Most ids a second.")
@click.option("--state", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where it is kept how far this is; in FEATURESTORE_DATA_DIR when left out.")  # fmt: skip
@click.option("--restart", is_flag=True, help="Begin anew, and not where the same command was interrupted.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Go on with --exact where the target has many more ids than the source.")
@click.option("--json", "is_json", is_flag=True, help="Print the result as one JSON object.")
def migrate(  # noqa: PLR0913 - a command has as many parameters as options
    *, source: str, target: str, entities: tuple[str, ...], partitions: str | None, passes: int, switched: bool,
    exact: bool, verify_only: bool, no_verify: bool, sample: int | None, rate: float | None, state: Path | None,
    restart: bool, dry_run: bool, yes: bool, is_json: bool,
) -> None:  # fmt: skip
    """Copy the store at SOURCE to TARGET while both are in use, and compare them; exit 1 where something is amiss.

    SOURCE and TARGET are URLs as REDIS_URL has them: single servers, clusters, or those behind Sentinels. Schemas,
    features, event times, windows, tombstones and expiries are copied. What is newer at the target stays. The same
    command goes on where it was interrupted.
    """
    if switched and exact:
        raise click.UsageError("--switched says that others write to the target, --exact that nobody does: give one")
    if verify_only and (exact or switched or no_verify):
        raise click.UsageError("--verify-only copies nothing: leave --exact, --switched and --no-verify out")
    keeps: Keeps = "same" if switched else "none" if exact else "newer"
    manner = Manner(0 if verify_only else passes, keeps, exact, 0.0 if no_verify else 1.0)
    wanted = Wanted(source, target, entities, manner, sample, int(partitions) if partitions else None, rate, state,
                    restart, dry_run, yes)  # fmt: skip
    try:
        found = _migrated(wanted)
    except (BadArgumentsError, ConfigurationError, NoSchemaError) as error:
        raise click.UsageError(str(error)) from error
    if found is None:
        return
    ended, manner = found
    if is_json:
        click.echo(msgspec.json.encode(as_json(ended, manner)))
    else:
        for line in summary(ended, manner):
            click.echo(line)
    sys.exit(0 if agrees(ended, manner) else 1)


def _migrated(wanted: Wanted) -> tuple[State, Manner] | None:
    """Make the move; return how it ended, None where it was only told."""
    if wanted.partitions is not None:
        os.environ["FEATURESTORE_PARTITIONS"] = str(wanted.partitions)
    with ExitStack() as kept:
        source = End(wanted.source, Throttle(wanted.rate), ReadRetries())
        kept.callback(source.close)
        target = End(wanted.target, Throttle(), ReadRetries())
        kept.callback(target.close)
        _refuse_same(source, target)
        plans = plan_entities(source, target, wanted.entities)
        _refuse_other_partitions(wanted, target, plans)
        for line in announced(source, target, plans, Settings.from_environment().partitions):
            click.echo(line, err=True)
        lacking = [plan.entity for plan in plans if plan.there is None]
        if not wanted.manner.passes and lacking:
            raise NoSchemaError(f"the target has no schema of {', '.join(lacking)}: there is nothing to compare with")
        if wanted.manner.removes and not wanted.yes:
            _refuse_wrong_way(plans)
        if wanted.dry:
            return None
        command, options = _digests(wanted, source, target)
        keeper = StateFile(wanted.state or _default_folder() / f"{command}.json")
        kept.callback(keeper.close)
        before = None if wanted.restart else _interrupted(keeper, command, options)
        share = before.share if before else _share(wanted, plans)
        manner = msgspec.structs.replace(wanted.manner, share=share)
        if before is not None:
            click.echo(f"going on in step {before.stage + 1} of {len(manner.stages)} ({keeper.path})", err=True)
        if manner.passes:
            apply_missing(source, target, plans)
        state = before or State(command, options, share=share)
        return _moved((source, target), plans, manner, state, keeper), manner


def _digests(wanted: Wanted, source: End, target: End) -> tuple[str, str]:
    """Return a name for what is moved to where and what for, and one for how often and how much of it."""
    manner = wanted.manner
    purpose = [bool(manner.passes), manner.keeps, manner.removes]
    places = [source.address, target.address, source.database, target.database]
    return (
        digest_of([*places, *sorted(source.entities), *purpose]),
        digest_of([manner.passes, bool(manner.share), wanted.sample]),
    )


def _interrupted(keeper: StateFile, command: str, options: str) -> State | None:
    """Return the state of this move, where it was interrupted and had the same options."""
    found = keeper.read(command)
    if found is None or found.options == options:
        return found
    text = "this move was interrupted with another --passes, --sample or --no-verify: it begins anew"
    click.echo(f"{text} ({keeper.path})", err=True)
    return None


def _moved(ends: tuple[End, End], plans: list[Planned], manner: Manner, state: State, keeper: StateFile) -> State:
    """Run a move and tell on stderr how far it is; return how it ended."""
    total = sum(plan.ids for plan in plans)
    telling: dict[int, Telling] = {}
    with ExitStack() as shown:

        def tell(stage: int, seen: int) -> None:
            if stage not in telling:
                shown.close()
                doing = f"{_DOING[manner.stages[stage]]} (step {stage + 1} of {len(manner.stages)})"
                telling[stage] = shown.enter_context(Telling(doing, total))
            telling[stage].set(seen)

        began = time.monotonic()
        try:
            ended = Move(ends, plans, manner, state, save=keeper.write, told=tell).run()
        except BadArgumentsError as error:  # no fault of the caller's: the schema of the target has changed, say
            shown.close()
            text = f"the target refused a copy: {error}\ninterrupted: {_GOES_ON} ({keeper.path})"
            raise RedisError(text) from error
        except FeatureStoreError as error:
            shown.close()
            raise type(error)(f"{error}\ninterrupted: {_GOES_ON} ({keeper.path})") from error
        except BaseException:
            shown.close()
            click.echo(f"interrupted: {_GOES_ON} ({keeper.path})", err=True)
            raise
    _logger.info("Done in %.1f s", time.monotonic() - began)
    keeper.remove()
    return ended


def _default_folder() -> Path:
    return Path(Settings.from_environment().data_dir).expanduser() / "moves"


def _share(wanted: Wanted, plans: list[Planned]) -> float:
    """Return the share of ids that is to be compared."""
    total = sum(plan.ids for plan in plans)
    if wanted.sample is None or not wanted.manner.share or not total:
        return wanted.manner.share
    return min(1.0, wanted.sample / total)


def _refuse_same(source: End, target: End) -> None:
    ours, theirs = identity_of(source), identity_of(target)
    if ours.database == theirs.database and (ours.servers & theirs.servers or source.address == target.address):
        raise BadArgumentsError(
            f"SOURCE and TARGET are the same store: {source.address} and {target.address} share a server"
        )


def _refuse_other_partitions(wanted: Wanted, target: End, plans: list[Planned]) -> None:
    for plan in plans:
        if wanted.partitions is None or plan.there is None:
            continue
        if plan.there.partitions != wanted.partitions:
            raise BadArgumentsError(
                f"{plan.entity} has {plan.there.partitions or 'no'} partitions at the target, which stay: not"
                f" {wanted.partitions}. Copy to another cluster to have another number"
            )
    if wanted.partitions is not None and not target.store.transport.clustered:
        raise BadArgumentsError(f"--partitions is for a cluster, and {target.address} is a single server")


def _refuse_wrong_way(plans: list[Planned]) -> None:
    for plan in plans:
        if plan.ids_there > 2 * plan.ids:
            raise BadArgumentsError(
                f"--exact would remove most of {plan.entity}: the source has {plan.ids} ids, the target"
                f" {plan.ids_there}. Are they the right way round? --yes goes on"
            )
