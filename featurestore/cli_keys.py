"""The command `featurestore keys`: API keys in a file, which a server reads again when it changes."""

import re
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import click
import msgspec

from featurestore.access import key_file
from featurestore.access.key import (
    LEAST_ROWS_A_SECOND,
    METRICS,
    MOST_ROWS_A_SECOND,
    NAME,
    READ,
    WRITE,
    Key,
    StoredKey,
    digest_of,
    id_of,
    make_secret,
    now,
)
from featurestore.access.keyring import Keyring
from featurestore.keys import ENTITY_NAME
from featurestore.settings import Settings

_SPAN = re.compile(r"(\d{1,5})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}

_in_file = click.option("--file", "path", metavar="FILE", help="The file of keys, instead of FEATURESTORE_KEYS_FILE.")


@click.group()
def keys() -> None:
    """Make, list, take away and check API keys in the file that FEATURESTORE_KEYS_FILE names.

    A running server sees a change within about a second.
    """


@keys.command()
@click.argument("name")
@click.option("--read", is_flag=True, help="It may read features and schemas.")
@click.option("--write", is_flag=True, help="It may write features.")
@click.option("--metrics", is_flag=True, help="It may read /metrics.")
@click.option("--entity", "entities", multiple=True, help="Only features of this entity; may be given again.")
@click.option(
    "--rate",
    type=click.FloatRange(LEAST_ROWS_A_SECOND, MOST_ROWS_A_SECOND),
    help="Rows a second that it may read and write.",
)
@click.option("--burst", type=click.IntRange(1), help="Rows at once, after a pause; those of a second when left out.")
@click.option("--expires", metavar="WHEN", help="Until when: 12h, 90d, 4w from now, or a date such as 2030-01-31.")
@_in_file
def new(  # noqa: PLR0913 - all by name
    *,
    name: str,
    read: bool,
    write: bool,
    metrics: bool,
    entities: tuple[str, ...],
    rate: float | None,
    burst: int | None,
    expires: str | None,
    path: str | None,
) -> None:
    """Make a key called NAME, and print it: it is shown this once, since the file holds a hash of it.

    Several keys may have the same name: to replace one, make another, have its holder use it, then remove the first by
    its id.
    """
    may = [word for word, given in ((READ, read), (WRITE, write), (METRICS, metrics)) if given]
    if not may:
        raise click.UsageError("say what the key may do: --read, --write, --metrics")
    if burst is not None and rate is None:
        raise click.UsageError("--burst goes with --rate")
    if not NAME.fullmatch(name):
        raise click.UsageError(f"a name has letters, digits and _ . -, at most 64, a letter or digit first: {name}")
    for entity in entities:
        if not ENTITY_NAME.fullmatch(entity):
            raise click.UsageError(f"{entity} cannot be the name of an entity")
    secret, file = make_secret(), _file(path)
    fields = {
        "name": name,
        "id": id_of(secret),
        "sha256": digest_of(secret).hex(),
        "may": may,
        "entities": list(dict.fromkeys(entities)) or None,
        "rate": rate,
        "burst": burst,
        "created": now(),
        "expires": None if expires is None else _time_of(expires),
    }
    try:
        stored = msgspec.convert(fields, StoredKey)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error
    key_file.add(file, stored)
    click.echo(secret)
    click.echo(f"featurestore: {file} has {_told(stored.key())}; the key is shown this once", err=True)


@keys.command("list")
@_in_file
def list_keys(path: str | None) -> None:
    """Print every key of the file: id, name, what it may do, its entities, rate, and whether it has expired."""
    file = _file(path)
    for key in key_file.parse(key_file.read(file), file):
        click.echo(_told(key))


@keys.command()
@click.argument("name")
@click.option("--all", "every", is_flag=True, help="All keys of that name.")
@_in_file
def remove(name: str, path: str | None, *, every: bool) -> None:
    """Take the key with this NAME or id out of the file."""
    file = _file(path)
    for key in key_file.remove(file, name, every=every):
        click.echo(f"featurestore: removed {_told(key)}", err=True)


@keys.command()
@_in_file
def check(path: str | None) -> None:
    """Read a key from stdin, and print whose it is and what it may do; exit 1 if it is unknown or has expired.

    The settings' keys are looked at, too, unless a file is named.
    """
    settings = Settings.from_environment()
    ring = Keyring(path=path) if path else Keyring.of(settings)
    key = ring.find(sys.stdin.read().strip())
    if key is None:
        click.echo("featurestore: this key is not known", err=True)
        sys.exit(1)
    click.echo(_told(key))
    if key.is_over(time.time()):
        click.echo("featurestore: this key has expired", err=True)
        sys.exit(1)


def _file(path: str | None) -> str:
    """Return the file that is meant.

    Raises:
        click.UsageError: None is named.
    """
    found = path or Settings.from_environment().keys_file
    if not found:
        raise click.UsageError("name the file of keys: --file, or FEATURESTORE_KEYS_FILE")
    return str(Path(found))


def _time_of(text: str) -> datetime:
    span = _SPAN.fullmatch(text)
    try:
        time = now() + timedelta(**{_UNITS[span[2]]: int(span[1])}) if span else datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"--expires {text}: want 12h, 90d, 4w, or a date such as 2030-01-31") from error
    time = time if time.tzinfo else time.astimezone()
    if time <= now():
        raise click.UsageError(f"--expires {text}: that is over")
    return time


def _told(key: Key) -> str:
    """Return what there is to say of a key, in a line."""
    entities = "every entity" if key.entities is None else ",".join(sorted(key.entities))
    words = [key.id or "-", key.name, ",".join(sorted(key.may)), entities]
    if key.rate is not None:
        words.append(f"{key.rate:g} rows/s, {key.burst} at once")
    if key.created is not None:
        words.append(f"created {key.created:%Y-%m-%d}")
    if key.expires is not None:
        over = key.is_over(time.time())
        words.append(f"{'expired' if over else 'expires'} {key.expires:%Y-%m-%d %H:%M %Z}")
    return "  ".join(words)
