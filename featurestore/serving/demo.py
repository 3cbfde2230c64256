"""`featurestore demo`: serves simulated users and keeps them fresh, apart from real data."""

import contextlib
import errno
import fcntl
import logging
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from shlex import quote

import click
import msgspec

from featurestore.embedded import EmbeddedServer
from featurestore.errors import ConfigurationError, FeatureStoreError
from featurestore.keys import SCHEMAS, Keys
from featurestore.schema.definition import Definition, read_definition
from featurestore.serving.binding import split_address
from featurestore.serving.master import has_terminal
from featurestore.serving.probe import reachable
from featurestore.serving.supervisor import GUNICORN, running, wait_until_serving
from featurestore.settings import Settings, unknown_variables, without_password
from featurestore.store.blocking import FeatureStore
from featurestore.store.nodes import primaries
from featurestore.transport.dial import address_of

_logger = logging.getLogger("featurestore")
_TIMEOUT_S = 5.0
_LOOK_S = 0.2
_MARK = "featurestore:demo"
"""The key that a demo leaves in a Redis that was empty before."""

_LOCAL_WRITE_KEY = "demo"
_DEMO_KEY = re.compile(
    rf"(\{{\w+\}})?(user:user\d{{5,}}:features|all_(\{{\w+\}})?users|user:schema|draft:user:schema|{SCHEMAS}|{_MARK})".encode()
)
_SCAN_COUNT = 1000


def run_demo(settings: Settings, users: int, *, may_write: Callable[[str], bool]) -> int:
    """Apply the schema, ingest `users`, serve, and keep them fresh until stopped; return an exit code.

    Args:
        settings: Where to listen, and which Redis to use.
        users: How many to simulate.
        may_write: Asked before the demo writes to a Redis that holds other data; gets the reason.

    Raises:
        FeatureStoreError: A demo runs already, the address is taken, or something cannot be started.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(settings.data_dir) / "demo"  # beside the real data, and never among them
        server = None if settings.url else EmbeddedServer(folder)
        if server is not None:
            server.prepare()
            stack.enter_context(_only_demo(server.data_dir))
        settings = msgspec.structs.replace(settings, bind=free_address(settings.bind))
        if server is not None:
            stack.enter_context(server)
            _logger.info("embedded server with the demo's data in %s", server.data_dir)
        url = server.url if server else str(settings.url)
        _declare(url, None if server else partial(_ask_first, url=url, users=users, may_write=may_write))
        write_keys = settings.write_keys or _write_key(settings.bind)
        unknown = {warning.partition(" ")[0] for warning in unknown_variables()}  # so that children do not warn again
        environment = {name: value for name, value in os.environ.items() if name not in unknown}
        environment |= {"REDIS_URL": url, "FEATURESTORE_WRITE_KEYS": write_keys, "FEATURESTORE_BIND": settings.bind}
        patience = settings.graceful_timeout_s
        # -P: a checkout that the demo is started in does not hide the package that is installed.
        simulate = [sys.executable, "-P", "-m", "featurestore", "simulate", "--users", str(users)]
        with running([*simulate, "--once"], environment, patience) as load:
            if load.wait() != 0:
                return 1
        gunicorn = stack.enter_context(running(GUNICORN, environment, patience))
        wait_until_serving(gunicorn, settings.bind)
        click.echo(_instructions(settings, url, write_keys), err=True)
        updates = stack.enter_context(running([*simulate, "--no-load", "--log-every", "30"], environment, patience))
        had_terminal = has_terminal() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
        while True:
            time.sleep(_LOOK_S)
            if had_terminal and not has_terminal():  # under make, which does not pass SIGHUP on
                raise SystemExit(128 + signal.SIGHUP)
            if server is not None and server.failure is not None:
                raise server.failure
            for name, process in (("HTTP server", gunicorn), ("simulator", updates)):
                if process.poll() is not None:
                    raise FeatureStoreError(f"the {name} has ended with code {process.returncode}: the demo ends too")


@contextlib.contextmanager
def _only_demo(folder: Path) -> Iterator[None]:
    """Hold the folder's demo lock. The kernel frees it even if the demo is killed."""
    with (folder / "demo.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FeatureStoreError(
                f"a demo runs already, with its data in {folder}: stop it first, or set FEATURESTORE_DATA_DIR for "
                "this one"
            ) from error
        yield


def free_address(bind: str) -> str:
    """Return `bind` if a server can listen there, with a free port in place of port 0.

    Raises:
        FeatureStoreError: Something listens there already.
        ConfigurationError: Nothing can listen there.
    """
    address = split_address(bind)
    if isinstance(address, str):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(address) == 0:
                raise FeatureStoreError(_taken(bind))
        return bind
    try:
        with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as probe:  # as gunicorn does
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return f"{bind.rpartition(':')[0]}:{probe.getsockname()[1]}"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise FeatureStoreError(_taken(bind)) from error
        raise ConfigurationError(f"cannot listen on {bind}: {error.strerror or error}") from error


def _taken(bind: str) -> str:
    return (
        f"something listens on {bind} already: stop it, or give another address by --bind or FEATURESTORE_BIND, such "
        "as --bind 127.0.0.1:8001"
    )


def _declare(url: str, check: Callable[[FeatureStore, Definition], None] | None) -> None:
    """Apply the package's schema. On a Redis that is not the demo's own, `check` first asks whether it may."""
    definition = read_definition()
    with FeatureStore.connect(url, timeout=_TIMEOUT_S, keys=Keys.of(definition.entity, definition.members)) as store:
        if check is not None:
            check(store, definition)
        store.apply(definition)


def _ask_first(
    store: FeatureStore, definition: Definition, *, url: str, users: int, may_write: Callable[[str], bool]
) -> None:
    """Make sure that the Redis holds demo data only, or that the user agrees to write.

    Raises:
        FeatureStoreError: It holds other data, and the user does not agree.
    """
    keys_held = sum(node.transport.command("DBSIZE") for node in primaries(store.transport))
    if not keys_held:
        store.transport.command("SET", _MARK, "a demo has filled this Redis")
    elif (stranger := _key_of_others(store)) is not None:
        reason = (
            f"the Redis at {address_of(url)} holds {keys_held} keys, not only a demo's ({stranger}): "
            f"the demo would write {users} users and {len(definition.features)} features that cannot be taken back"
        )
        if not may_write(reason):
            raise FeatureStoreError(f"{reason}; --yes lets it")


def _key_of_others(store: FeatureStore) -> str | None:
    """Return a key that no demo has written; None if there is none. Without the mark, every key is such a key."""
    marked = store.transport.command("EXISTS", _MARK)
    for node in primaries(store.transport):
        cursor = b""
        while cursor != b"0":
            cursor, keys = node.transport.command("SCAN", cursor or "0", "COUNT", _SCAN_COUNT)
            for key in keys:
                if not marked or not _DEMO_KEY.fullmatch(key):
                    return f"{key.decode(errors='replace')!r} for one"
    return None


def _write_key(bind: str) -> str:
    """Return an API key for writes: a well-known one if only this machine can reach the server."""
    address = split_address(bind)
    if isinstance(address, str) or address[0] in {"127.0.0.1", "::1", "localhost"}:
        return _LOCAL_WRITE_KEY
    return secrets.token_urlsafe(16)


def _instructions(settings: Settings, url: str, write_keys: str) -> str:
    """Return commands to try while the demo runs, for users who have read no page."""
    address = reachable(settings.bind)
    if isinstance(address, str):
        curl, web, page = f"curl --unix-socket {quote(address)}", "http://localhost", ""
    else:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        curl, web = "curl", f"http://{host}:{address[1]}"
        page = f"  in a browser      {web}/ui\n"
    key = '"X-API-Key: <one of FEATURESTORE_WRITE_KEYS>"' if settings.write_keys else f'"X-API-Key: {write_keys}"'
    hidden = without_password(url)
    named = '"$REDIS_URL"' if settings.redis_url and hidden != url else quote(hidden)
    cli = f"redis-cli -u {named}" if settings.url else f"redis-cli -s {quote(url.removeprefix('unix://'))}"
    command = quote(str(Path(sys.executable).parent / "featurestore"))
    return f"""
The demo is ready; Ctrl-C ends it, and its data stay. In another terminal:

{page}  read over HTTP    {curl} {web}/features/user00001
  write over HTTP   {curl} -X PUT {web}/features/user00001 -H {key} -d '{{"features":{{"age":31}}}}'
  command line      REDIS_URL={named} {command} get user00001
  Redis             {cli} HGET user:user00001:features age   (where redis-cli is installed)
"""
