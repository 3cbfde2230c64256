"""What the commands share: the stores that they open, the option for another entity, and how values are printed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec

from featurestore.keys import keys_of
from featurestore.settings import CallBy
from featurestore.store.blocking import FeatureStore

_ADMIN_TIMEOUT_S = 5.0

of_entity = click.option("--entity", default="user", show_default=True, help="Whose features.")
pausing = click.option(
    "--pause-ms", type=click.IntRange(0), default=1, show_default=True, help="Pause after each step of about 100 ids."
)


def open_store(*, call: CallBy | None = None) -> FeatureStore:
    """Return a store for a command: more patient than the server, since a person waits for the result."""
    return FeatureStore.connect(timeout=_ADMIN_TIMEOUT_S, call=call)


@contextmanager
def open_entity(name: str) -> Iterator[FeatureStore]:
    """Yield the store of the entity of that name."""
    with open_store() as store:
        yield store.entity(name)


@contextmanager
def open_named(name: str, members: str | None = None) -> Iterator[FeatureStore]:
    """Yield the store of an entity, which may have no schema; `members` is its set of ids, where that is told."""
    with open_store() as store:
        keys = keys_of(name, clustered=store.transport.clustered).with_members(members)
        yield FeatureStore(store.transport, keys)


def print_json(value: Any) -> None:
    """Print a value as a line of JSON."""
    click.echo(msgspec.json.encode(value).decode())


def confirm_twice(what: str, name: str) -> None:
    """Ask whether to go on with what cannot be taken back, and to type a name.

    Args:
        what: What would be done, as a sentence.
        name: What is to be typed.

    Raises:
        click.UsageError: Nobody can be asked.
        click.Abort: The answer is no, or another name was typed.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(f"{what} Nobody can be asked here: --yes agrees")
    click.echo(what, err=True)
    click.confirm("Go on?", err=True, abort=True)
    if click.prompt(f"It cannot be taken back. Type {name} to go on", err=True) != name:
        click.echo("featurestore: that is another name; nothing was changed", err=True)
        raise click.Abort
