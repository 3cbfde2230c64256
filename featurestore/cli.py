"""The command line: data on stdout, messages on stderr, exit code 2 for wrong usage and 1 for failures."""

import os
import sys
import time
from importlib.metadata import entry_points, version
from pathlib import Path

import click

from featurestore import cli_keys, cli_schema, native
from featurestore.cli_store import of_entity, open_entity, open_store, pausing, print_json
from featurestore.contract.library import LIBRARY, build
from featurestore.contract.manifest import built_files
from featurestore.contract.scripts import SCRIPTS
from featurestore.errors import ConfigurationError, FeatureStoreError
from featurestore.serving import probe, supervisor
from featurestore.serving.demo import run_demo
from featurestore.serving.logs import log_of_command
from featurestore.settings import Settings, settings_in_force, unknown_variables
from featurestore.store.doctor import diagnose
from featurestore.store.functions import find_libraries, load_library
from featurestore.store.maintenance import RepackProgress, SweepProgress
from featurestore.store.maintenance import repack as repack_rows
from featurestore.store.maintenance import sweep as sweep_members
from featurestore.store.nodes import primaries


def _extensions_told() -> str:
    missing = native.missing_extensions()
    return f"without the C extensions {', '.join(missing)}" if missing else "with all C extensions"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("redis-featurestore"), message=f"%(prog)s %(version)s ({_extensions_told()})")
@click.pass_context
def commands(context: click.Context) -> None:
    """An online feature store whose logic runs inside Redis.

    The server's address is REDIS_URL, or REDIS_HOST and REDIS_PORT; with neither, an embedded server keeps the data in
    FEATURESTORE_DATA_DIR.
    """
    supervisor.exit_on_signals()
    if context.invoked_subcommand != "serve":  # there gunicorn's master warns
        for warning in unknown_variables():
            click.echo(f"featurestore: warning: {warning}", err=True)


for _command in (cli_schema.apply, cli_schema.schema, cli_schema.entities, cli_schema.retire, cli_schema.drop_entity):
    commands.add_command(_command)
commands.add_command(cli_keys.keys)

_bind = click.option("--bind", metavar="ADDRESS", help="Address to listen on, instead of FEATURESTORE_BIND.")


def _settings_with(**overrides: str | int | None) -> Settings:
    """Return the settings with options in place of environment variables; child processes see them too."""
    chosen = {f"FEATURESTORE_{name.upper()}": str(value) for name, value in overrides.items() if value is not None}
    os.environ.update(chosen)
    return Settings.from_environment()


@commands.command()
@_bind
@click.option("--workers", type=click.IntRange(1), help="Worker processes, instead of FEATURESTORE_WORKERS.")
def serve(bind: str | None, workers: int | None) -> None:
    """Serve features over HTTP until stopped."""
    supervisor.serve(_settings_with(bind=bind, workers=workers))


@commands.command("health")
def health_command() -> None:
    """Exit 0 when the HTTP server on FEATURESTORE_BIND answers, 1 when not."""
    sys.exit(probe.check())


@commands.command()
@_bind
@click.option("--users", type=click.IntRange(1), default=100_000, show_default=True, help="Users to simulate.")
@click.option("--yes", is_flag=True, help="Write to the Redis of REDIS_URL whatever it holds.")
def demo(bind: str | None, users: int, *, yes: bool) -> None:
    """Apply the schema, bring in simulated users, then serve and keep them fresh until stopped.

    Without REDIS_URL its data are in the folder `demo` of FEATURESTORE_DATA_DIR.
    """

    def may_write(reason: str) -> bool:
        return yes or (sys.stdin.isatty() and click.confirm(f"{reason}. Go on?", err=True))

    sys.exit(run_demo(_settings_with(bind=bind), users, may_write=may_write))


@commands.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--features", metavar="A,B", help="Features wanted; all when left out.")
@of_entity
def get(ids: tuple[str, ...], features: str | None, entity: str) -> None:
    """Print the features of each ID, a JSON object a line; exit 1 when one is unknown."""
    with open_entity(entity) as store:
        rows = store.get_many(ids, features.split(",") if features else None)
        id_name = store.id_name()
    for entity_id, row in zip(ids, rows, strict=True):
        print_json({id_name: entity_id, "features": row})
    sys.exit(1 if None in rows else 0)


@commands.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@of_entity
def delete(ids: tuple[str, ...], entity: str) -> None:
    """Remove each ID with all its features; exit 1 when one was unknown."""
    with open_entity(entity) as store:
        id_name = store.id_name()
        removed = [store.delete(entity_id) for entity_id in ids]
    for entity_id, was_there in zip(ids, removed, strict=True):
        print_json({id_name: entity_id, "deleted": was_there})
    sys.exit(0 if all(removed) else 1)


@commands.command()
@click.argument("name", required=False, type=click.Choice([script.name for script in SCRIPTS]))
@click.option(
    "--build",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the scripts, manifest.json and the library of functions into this folder.",
)
def scripts(name: str | None, folder: Path | None) -> None:
    """List the Lua scripts with their SHA-1 and contract; with a NAME, print its source for SCRIPT LOAD."""
    if folder is not None:
        if name is not None:
            raise click.UsageError("a build has all scripts: give NAME or --build")
        for path, text in built_files().items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            click.echo(file)
        return
    for script in SCRIPTS:
        if name == script.name:
            click.echo(script.source, nl=False)
        elif name is None:
            click.echo(f"{script.sha}  {script.name}\n{script.header}\n")


@commands.group()
def functions() -> None:
    """Bring the library of functions, which FCALL calls, onto the server, or show what is there (Redis 7.0, Valkey)."""


@functions.command()
def load() -> None:
    """Load this build's library, in place of any other of its name; in a cluster onto every primary."""
    with open_store(call="scripts") as store:
        for node in primaries(store.transport):
            command = node.transport.command
            before = [found for found in find_libraries(command) if found.name == LIBRARY]
            load_library(command)
            where = f" on {node.address}" if store.transport.clustered else ""
            replaced = f", in place of {before[0].build or 'another'}" if before and not before[0].is_ours else ""
            click.echo(f"{LIBRARY} {build()} is loaded{where}{replaced}", err=True)


@functions.command()
def show() -> None:
    """Print the libraries that are on the server, or on each node; exit 1 where none of them serves this build."""
    with open_store(call="scripts") as store:
        clustered = store.transport.clustered
        found = [(node.address, find_libraries(node.transport.command)) for node in primaries(store.transport)]
    for address, libraries in found:
        for library in libraries:
            state = (
                "this build" if library.is_ours else "newer, serves this build" if library.serves else "another build"
            )
            click.echo(f"{library}  ({state}{f', on {address}' if clustered else ''})")
    lacking = [address for address, libraries in found if not any(library.serves for library in libraries)]
    if lacking:
        where = f" on {', '.join(lacking)}" if clustered else ""
        click.echo(f"{LIBRARY} {build()} is not there{where}: featurestore functions load", err=True)
        sys.exit(1)


@commands.command()
@pausing
@of_entity
def repack(pause_ms: int, entity: str) -> None:
    """Build packed rows that are missing or of an older layout, in small steps beside live traffic."""
    progress = RepackProgress(0, 0, 0)
    with open_entity(entity) as store:
        store.schema()  # fails if there is none, instead of doing nothing without a word
        shown = 0.0
        for progress in repack_rows(store, pause=pause_ms / 1000):
            if time.monotonic() - shown > 1:
                shown = time.monotonic()
                click.echo(f"{progress.seen} of {progress.total} ids seen, {progress.built} rows built", err=True)
    click.echo(f"done: {progress.seen} ids seen, {progress.built} rows built", err=True)


@commands.command()
@of_entity
@pausing
def sweep(entity: str, pause_ms: int) -> None:
    """Take ids without features out of the set of known ids, in small steps: those that expired or were evicted."""
    progress = SweepProgress(0, 0)
    with open_entity(entity) as store:
        for step in sweep_members(store, pause=pause_ms / 1000):
            progress = step
    click.echo(f"done: {progress.seen} ids seen, {progress.removed} removed", err=True)


@commands.command()
@click.option("--entity", help="Whose schema and data; those of all that have a schema when left out.")
def doctor(entity: str | None) -> None:
    """Check the server, its settings, the schemas and a sample of the ids; exit 1 when something is amiss."""
    findings, settings = [], Settings.from_environment()
    with open_store(call="scripts") as store:
        for finding in diagnose(store, entity, call=settings.call, confirmed_by=settings.wait_replicas):
            findings.append(finding)
            click.echo(f"{'ok  ' if finding.good else 'WARN'}  {finding.text}")
    sys.exit(0 if all(finding.good for finding in findings) else 1)


@commands.command()
def openapi() -> None:
    """Print the contract of the HTTP server as OpenAPI 3.1, as its /openapi.json does: no server is needed."""
    from featurestore.api.app import ROUTES  # noqa: PLC0415 - other commands do without the HTTP framework
    from featurestore.api.openapi.document import encoded  # noqa: PLC0415

    click.echo(encoded(ROUTES), nl=False)


@commands.command()
def settings() -> None:
    """Print every setting: variable, value in force, where the value comes from, meaning."""
    for each in settings_in_force():
        source = f"environment; default: {each.default or 'none'}" if each.is_set else "default"
        click.echo(f"{each.variable:33} {each.value or '-':30} ({source}) {each.meaning}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Other packages add commands by the entry point group `featurestore.commands`."""
    log_of_command()
    for entry_point in entry_points(group="featurestore.commands"):
        commands.add_command(entry_point.load(), entry_point.name)
    try:
        code = commands.main(arguments, prog_name="featurestore", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "featurestore"
        click.echo(f"featurestore: {error.format_message()} (see {command} --help)", err=True)
        sys.exit(2)
    except ConfigurationError as error:
        click.echo(f"featurestore: {error}", err=True)
        sys.exit(2)
    except FeatureStoreError as error:
        click.echo(f"featurestore: {error}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # a disk that is full, a terminal that is gone
        click.echo(f"featurestore: {error}", err=True)
        sys.exit(1)
    sys.exit(code or 0)
