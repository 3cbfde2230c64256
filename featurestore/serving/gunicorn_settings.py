"""gunicorn's configuration, for `featurestore serve` and the checkout's gunicorn.conf.py."""

import sys
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import count
from typing import Any

from featurestore.api import counters
from featurestore.errors import ConfigurationError
from featurestore.serving import master
from featurestore.serving.binding import split_address
from featurestore.serving.logs import name_worker
from featurestore.serving.pulse import begin_pulse
from featurestore.serving.tracing import check_telemetry
from featurestore.settings import Settings
from featurestore.worker.capacity import (
    FILES,
    clients_within,
    limit_of_files,
    limit_within_reach,
    raise_limit,
    scarcity,
)

WORKER_CLASSES = {
    "featurestore": "featurestore.worker.worker.Worker",
    "gevent": "gevent",
    "gthread": "gthread",
    "sync": "sync",
}
"""Setting → gunicorn's worker class."""


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """Return gunicorn's settings that follow from ours."""
    threads = settings.threads if settings.worker_class == "gthread" else 0
    return {
        "wsgi_app": "featurestore.serving.build:build_app()",
        "bind": settings.bind,
        "workers": settings.workers,
        "worker_class": WORKER_CLASSES[settings.worker_class],
        "threads": threads or 1,
        "graceful_timeout": settings.graceful_timeout_s,
        "keepalive": 65,
        "worker_connections": clients_within(limit_within_reach(), others=threads),
        "backlog": 2048,
        "loglevel": settings.log_level,
        "accesslog": "-" if settings.access_log else None,
        "errorlog": "-",
        "logger_class": "featurestore.serving.gunicorn_logs.Logger",
        "proc_name": "featurestore",
        "umask": 0o777 & ~int(settings.socket_mode, 8),
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        "control_socket_disable": True,
        "on_starting": prepare,
        "when_ready": master.heed_the_terminal,
        "pre_fork": choose_place,
        "post_fork": take_place,
        "post_worker_init": begin_worker,
        "worker_exit": end_worker,
        "child_exit": leave_place,
        "on_exit": master.tell_failure,
    }


def begin_worker(worker: Any) -> None:
    """Tie a worker to its master, and have it learn what servers there are before it takes requests."""
    master.tie_worker(worker)
    begin = getattr(worker.wsgi, "begin_serving", None)  # an app of somebody else's has none
    if begin is not None:
        begin()
    vitals = getattr(worker.wsgi, "vitals", None)
    if vitals is not None:
        begin_pulse(worker, vitals.beat)


def end_worker(_server: Any, worker: Any) -> None:
    """Have a worker that exits send what is left, and tell what it has counted and not told yet."""
    app = getattr(worker, "wsgi", None)  # it may have none yet, or one of somebody else's
    end, vitals = getattr(app, "end_serving", None), getattr(app, "vitals", None)
    try:
        if end is not None:
            end()
    finally:
        if vitals is not None:
            vitals.publish()


def prepare(server: Any) -> None:
    """Prepare what workers inherit: the shared memory for counts, and the limit of open files."""
    master.prepare(server)
    counters.share(2 * server.cfg.workers + 16)  # two for each worker while it is replaced, and some spare for SIGTTIN
    warning = open_reads(Settings.from_environment(), server.cfg.bind)
    if warning:
        server.log.warning(warning)
    limit = raise_limit()
    if limit < FILES:
        server.log.warning(scarcity(clients_of(server.cfg), limit))


def open_reads(settings: Settings, binds: Sequence[str]) -> str:
    """Return what to say of a server whose features other machines may read without a key; empty if there is nothing.

    Args:
        settings: The keys.
        binds: The addresses that the server listens on.
    """
    if settings.read_keys or settings.keys_file:
        return ""
    reached = [bind for bind in binds if _is_reached_by_others(bind)]
    if not reached:
        return ""
    return (
        f"whoever reaches {', '.join(reached)} can read every feature: FEATURESTORE_READ_KEYS or FEATURESTORE_KEYS_FILE"
        " makes reads need a key"
    )


def _is_reached_by_others(bind: str) -> bool:
    try:
        address = split_address(bind)
    except (ConfigurationError, ValueError):
        return False  # an inherited descriptor, or an address in a form of gunicorn's own
    if isinstance(address, str) or address[0] == "localhost":
        return False
    try:
        return not ip_address(address[0]).is_loopback
    except ValueError:
        return True  # a name


def choose_place(server: Any, worker: Any) -> None:
    """Give a starting worker a place for its counts that no running worker has."""
    taken = {other.place_of_counts for other in server.WORKERS.values()}
    worker.place_of_counts = next(place for place in count() if place not in taken)


def take_place(_server: Any, worker: Any) -> None:
    """Let a started worker count at its place, and take no more clients than files allow."""
    counters.take_place(worker.place_of_counts)
    name_worker(worker.place_of_counts)
    fit_clients(worker)


def leave_place(_server: Any, worker: Any) -> None:
    """Take note that a worker has ended: what it counted stays, and its gauges go."""
    counters.leave_place(worker.place_of_counts)


def fit_clients(worker: Any) -> None:
    """Bound the clients of gunicorn's own workers by the limit of open files; ours does so itself."""
    if worker.cfg.worker_class_str == WORKER_CLASSES["featurestore"]:
        return
    most = clients_of(worker.cfg)
    if worker.cfg.worker_class_str == "gevent":  # which applies the bound to each listener
        most = max(1, most // len(worker.sockets))
    worker.worker_connections = most


def clients_of(cfg: Any) -> int:
    """Return how many clients a worker may have: what is configured, or fewer if files do not suffice."""
    others = cfg.threads if cfg.worker_class_str == "gthread" else 0
    wanted: int = cfg.worker_connections
    return min(wanted, clients_within(limit_of_files(), others=others))


def settings_or_exit() -> dict[str, Any]:
    """Return gunicorn's settings; if ours cannot be used, say so in one line and exit with code 2."""
    try:
        settings = Settings.from_environment()
        if settings.otel:
            check_telemetry()
        return gunicorn_settings(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"featurestore: {error}\n")
        sys.exit(2)


globals().update(settings_or_exit())
