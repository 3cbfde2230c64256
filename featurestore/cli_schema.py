"""The commands for schemas: apply, schema, entities, retire, drop-entity."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from featurestore.cli_store import confirm_twice, of_entity, open_entity, open_named, open_store, pausing, print_json
from featurestore.errors import (
    BadArgumentsError,
    FeatureStoreError,
    NoSchemaError,
    SchemaError,
    TypeChangeError,
    UndeclaredFeatureError,
)
from featurestore.schema.changes import Change, changes_of, undeclared_in_services
from featurestore.schema.definition import Definition, line_told, read_definition
from featurestore.schema.stored import Schema
from featurestore.settings import Settings, variable_of
from featurestore.store.blocking import FeatureStore
from featurestore.store.inventory import Held, entities_held
from featurestore.store.retirement import clear, drop, is_dropping, remove_services, services_naming
from featurestore.store.retirement import retire as retire_features

_agreed = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command()
@click.argument("path", required=False, metavar="[FILE]", type=click.Path(path_type=Path))
@click.option(
    "--dry-run", is_flag=True, help="Change nothing; exit 1 when something would change, 0 when nothing would."
)
def apply(path: Path | None, *, dry_run: bool) -> None:
    """Declare the features of the schema FILE (TOML), or of the schema that ships with the package.

    Prints what changes, and what each change does to stored data and to reads. The package's own schema is never
    applied over another one.
    """
    definition = read_definition(path)
    with open_named(definition.entity, definition.members) as store:
        before = _stored(store)
        if path is None and before is not None:
            _refuse_over_another(before, definition)
        if before is not None:
            _tell_other_partitions(before)
        with _told_where(path, before, definition):
            version = store.apply(definition, dry_run=dry_run)
        changes = changes_of(before, definition)
        schema = before if dry_run else store.schema()
    known = before.version if before else 0
    if version != known and not changes:
        changes = [Change("~", "the schema", "something changes that has no line of its own here")]
    for change in changes:
        click.echo(change)
    if before is not None and any(change.new_layout for change in changes):
        click.echo(
            f"rows of before are read field by field until they are written again: featurestore repack --entity"
            f" {definition.entity} builds them beside live traffic"
        )
    if dry_run:
        told = f"version {known} would become {version}" if version != known else f"version {known}, no changes"
        click.echo(f"dry run, nothing is changed: schema of {definition.entity}: {told}", err=True)
        sys.exit(1 if version != known else 0)
    if schema is not None:
        told = f"version {schema.version}, {len(schema.features)} features"
        parts = f", in {schema.partitions} partitions" if schema.partitions else ""
        click.echo(f"schema of {definition.entity}: {told}{parts}", err=True)


def _tell_other_partitions(before: Schema) -> None:
    """Tell on stderr if the setting asks for another number of partitions than the entity has, which stays."""
    variable, wanted = variable_of("partitions"), Settings.from_environment().partitions
    if before.partitions and os.environ.get(variable) and before.partitions != wanted:
        click.echo(
            f"featurestore: warning: {variable} is {wanted}, and this entity has {before.partitions} partitions, which"
            " stay: to have another number, copy it to another cluster by featurestore migrate",
            err=True,
        )


def _stored(store: FeatureStore) -> Schema | None:
    if is_dropping(store):
        return store.schema()  # which says so
    try:
        return store.schema()
    except NoSchemaError:
        return None


def _refuse_over_another(before: Schema, definition: Definition) -> None:
    """Raise if the entity's schema has what the package's own does not: that is somebody's own."""
    others = [name for name in before.features if name not in definition.features]
    services = [f"service {name}" for name in before.services if name not in definition.services]
    options = ["defaults"] * bool(before.defaults) + ["max_age"] * bool(before.max_ages_ms)
    found = [*others, *services, *options, *(["ttl"] * bool(before.ttl_ms))]
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""  # noqa: PLR2004 - as many fit a line
        raise SchemaError(
            f"the schema that ships with the package is for trying things, and {definition.entity} has one of its own"
            f" ({', '.join(found[:5])}{more}): name its FILE, featurestore apply FILE"
        )


@contextlib.contextmanager
def _told_where(path: Path | None, before: Schema | None, definition: Definition) -> Iterator[None]:
    """Put the file, the entity, and where it is known the line in front of what is refused."""
    try:
        yield
    except NoSchemaError as error:
        text = f"{path}: [features] declares no feature, and {definition.entity} has none yet ({error})"
        raise NoSchemaError(text) from error
    except (BadArgumentsError, TypeChangeError, UndeclaredFeatureError) as error:
        where, line = error.where, ""
        if isinstance(error, UndeclaredFeatureError):
            where = where or undeclared_in_services(before, definition)
        if path is not None and where:
            line = f": {line_told(path.read_text(encoding='utf-8'), where).rstrip(': ')}"
        named = f"{path or 'the schema of the package'}{line}, entity {definition.entity}"
        way_out = ", or retire it first (featurestore retire)" if isinstance(error, TypeChangeError) else ""
        raise type(error)(f"{named}: {error}{way_out}") from error


@click.command()
@of_entity
def schema(entity: str) -> None:
    """Print the schema that Redis holds, as JSON."""
    with open_entity(entity) as store:
        print_json(store.schema().shown(store.keys.entity))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, with all that is known.")
def entities(*, as_json: bool) -> None:
    """List the entities that Redis holds: name, version, features, ids, services, state; in a cluster also partitions.

    A table on a terminal; elsewhere a line each, with tabs between the columns and no head.
    """
    with open_store() as store:
        held, clustered = list(entities_held(store)), store.transport.clustered
    if as_json:
        for each in held:
            print_json(each.shown())
        return
    rows = [(*_columns(each), *([str(each.partitions)] if clustered else [])) for each in held]
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    more = ("PARTITIONS",) if clustered else ()
    rows = [("ENTITY", "VERSION", "FEATURES", "IDS", "SERVICES", "STATE", *more), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _columns(held: Held) -> tuple[str, ...]:
    state = held.wrong or (f"retiring {', '.join(held.retiring)}" if held.retiring else "ok")
    ids = "-" if held.ids is None else str(held.ids)
    services = ",".join(held.services) or "-"
    return held.entity, str(held.version), str(held.features), ids, services, " ".join(state.split())


@click.command()
@click.argument("features", nargs=-1, metavar="[FEATURE]...")
@click.option(
    "--service", "services", multiple=True, metavar="NAME", help="Remove this service; no feature is touched."
)
@click.option("--from-services", is_flag=True, help="Take the features out of the services that list them, too.")
@_agreed
@pausing
@of_entity
def retire(  # noqa: PLR0913 - the options of a command
    features: tuple[str, ...], services: tuple[str, ...], entity: str, pause_ms: int, *, from_services: bool, yes: bool
) -> None:
    """Stop serving each FEATURE, and take its values out of all hashes, in small steps beside live traffic.

    Reads and writes of it are refused at once; running servers notice within a second. When all hashes are done, its
    name can be declared again, with any type. Interrupted, the same command goes on.
    """
    if not features and not services:
        raise click.UsageError("name at least one FEATURE, or a --service")
    with open_entity(entity) as store:
        known = store.schema()
        new = [feature for feature in dict.fromkeys(features) if feature not in known.retiring]
        _check_retirement(store, new, from_services=from_services)
        what = [*new, *(f"the service {name}" for name in services)]
        if what and not yes:
            count = f"; {store.count():,} ids are known" if new else ""
            confirm_twice(f"This retires {', '.join(what)} of {entity}{count}.", entity)
        if services:
            remove_services(store, services)
            click.echo(f"removed from {entity}: {', '.join(f'service {name}' for name in services)}", err=True)
        if not features:
            return
        version = retire_features(store, features, from_services=from_services)
        click.echo(f"schema of {entity}: version {version}; {', '.join(features)} not served any more", err=True)
        seen, changed = _clear(store, pause_ms)
    click.echo(f"done: {seen} hashes seen, {changed} changed; the names can be declared again", err=True)


def _check_retirement(store: FeatureStore, features: list[str], *, from_services: bool) -> None:
    """Raise where a feature is not declared or a service keeps it, before anybody is asked."""
    declared, entity = store.schema().features, store.keys.entity
    for feature in features:
        if feature not in declared:
            raise UndeclaredFeatureError(f"{feature} is not declared in the schema of {entity}")
    listed = [f"{name}:{service}" for name, found in services_naming(store, features).items() for service in found]
    if listed and not from_services:
        raise FeatureStoreError(
            f"services list what is to be retired: {', '.join(listed)}. Apply them without it, remove them"
            " (featurestore retire --service NAME), or let --from-services take it out"
        )
    for each in listed if from_services else []:
        click.echo(f"featurestore: the service {each} changes", err=True)


def _clear(store: FeatureStore, pause_ms: int) -> tuple[int, int]:
    """Clear the hashes and tell about once a second how far that is; return how many were seen and changed."""
    seen = changed = 0
    shown = time.monotonic()
    try:
        for progress in clear(store, pause=pause_ms / 1000):
            seen, changed = progress.seen, progress.changed
            if time.monotonic() - shown > 1:
                shown = time.monotonic()
                click.echo(f"{seen} hashes seen, {changed} changed", err=True)
    except (FeatureStoreError, KeyboardInterrupt, SystemExit):
        click.echo(
            f"interrupted after {seen} hashes, {changed} changed: give the same command again to go on", err=True
        )
        raise
    return seen, changed


@click.command("drop-entity")
@click.argument("entity")
@_agreed
@pausing
def drop_entity(entity: str, pause_ms: int, *, yes: bool) -> None:
    """Remove ENTITY: its schema and known ids at once, then its hashes in small steps beside live traffic.

    When all hashes are gone, an entity of that name can be declared again. Interrupted, the same command goes on.
    """
    with open_named(entity) as store:
        if not is_dropping(store):
            members = store.schema().members
            store = FeatureStore(store.transport, store.keys.with_members(members))  # noqa: PLW2901 - the same entity's
            _ask_to_drop(store, yes=yes)
            drop(store)
        click.echo(f"{entity} is not served any more; its hashes are removed", err=True)
        seen, changed = _clear(store, pause_ms)
    click.echo(f"done: {changed} of {seen} hashes removed", err=True)


def _ask_to_drop(store: FeatureStore, *, yes: bool) -> None:
    entity, features = store.keys.entity, store.schema().features
    naming = services_naming(store, features)
    listed = [f"{name}:{service}" for name, found in naming.items() if name != entity for service in found]
    told = f" Services of other entities list its features, and queries by them will fail: {', '.join(listed)}." * bool(
        listed
    )
    if yes:
        if told:
            click.echo(f"featurestore: warning:{told}", err=True)
        return
    confirm_twice(f"This removes {entity} with {len(features)} features of {store.count():,} ids.{told}", entity)
