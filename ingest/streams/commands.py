"""The command `consume`; `featurestore.cli` finds it by the entry point group `featurestore.commands`."""

import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from featurestore.embedded import embedded_url
from featurestore.errors import FeatureStoreError
from featurestore.schema.times import parse_duration
from featurestore.settings import Settings

from .consumer import Consumer
from .counts import Counts, serve_metrics
from .interface import Source
from .kafka import KafkaTopics
from .redis_link import RedisLink
from .redis_streams import RedisStreams
from .writing import Target

_TIMEOUT_S = 5.0
_FORGET_AFTER_S = 600.0
_START = re.compile(r"\$|[0-9]+(-[0-9]+)?")
_MOST_PORT = 65535
_MS = 1000


def _span(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    """Return a span of time in seconds."""
    try:
        seconds = parse_duration(value) / _MS
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not seconds:
        raise click.BadParameter(f"{value!r} is no span above 0")
    return seconds


def _address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Return host and port; without a host, loopback."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not port.isdigit() or int(port) > _MOST_PORT:
        raise click.BadParameter(f"{value!r}: want HOST:PORT, or :PORT for this machine alone")
    return host.strip("[]") or "127.0.0.1", int(port)


def _start(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _START.fullmatch(value):
        raise click.BadParameter(f"{value!r}: want 0 for the first entry, $ for those to come, or an entry's id")
    return value


def _pairs(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    for value in values:
        if not value.partition("=")[1]:
            raise click.BadParameter(f"{value!r}: want NAME=VALUE, such as security.protocol=ssl")
    return dict(value.split("=", 1) for value in values)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_reading = _options(
    click.option("--group", default="featurestore", show_default=True, help="The group that shares the entries."),
    click.option("--consumer", metavar="NAME", help="This consumer's name in the group.  [default: host-pid]"),
    click.option("--from", "start", default="0", show_default=True, callback=_start, metavar="ID",
                 help="Where a new group starts: 0 for the first entry, $ for those to come, or an id."),
    click.option("--batch", type=click.IntRange(1, 10_000), default=1000, show_default=True,
                 help="Most entries in one read."),
    click.option("--claim-after", callback=_span, default="60s", show_default=True, metavar="SPAN",
                 help="After this, take over what another consumer holds."),
    click.option("--tries", type=click.IntRange(1), default=5, show_default=True,
                 help="Deliveries after which an entry that cannot be written is a dead letter."),
    click.option("--dead", "dead", default=".dead", show_default=True, metavar="SUFFIX",
                 help="Put behind the stream's name, it names the stream of dead letters."),
    click.option("--stream-url", metavar="URL", help="The Redis of the streams, where it is not the store's."),
)  # fmt: skip

_kafka = _options(
    click.option("--kafka", "brokers", metavar="BROKERS", help="Consume Kafka: host:port,host:port (extra `kafka`)."),
    click.option("--topic", "topics", multiple=True, help="A topic of Kafka; may be given again."),
    click.option("--kafka-option", "kafka_options", multiple=True, callback=_pairs, metavar="NAME=VALUE",
                 help="A setting of librdkafka; may be given again."),
)  # fmt: skip

_writing = _options(
    click.option("--entity", default="user", show_default=True, help="Whose features."),
    click.option("--ignore-undeclared", is_flag=True, help="Leave out fields that are no features."),
    click.option(
        "--metrics",
        "metrics_at",
        callback=_address,
        metavar="HOST:PORT",
        help="Answer Prometheus there; :PORT is loopback's.",
    ),
    click.option(
        "--log-every",
        callback=_span,
        default="10s",
        show_default=True,
        metavar="SPAN",
        help="Time between lines of the log.",
    ),
    click.option("--fair", is_flag=True, help="Leave most of Redis's time to others while it serves some."),
    click.option("--until-drained", is_flag=True, help="Stop once nothing is left to read."),
)


@click.command()
@click.argument("streams", nargs=-1, metavar="[STREAM]...")
@_reading
@_kafka
@_writing
def consume(  # noqa: PLR0913 - as many as options
    *,
    streams: tuple[str, ...],
    brokers: str | None,
    topics: tuple[str, ...],
    entity: str,
    tries: int,
    ignore_undeclared: bool,
    metrics_at: tuple[str, int] | None,
    log_every: float,
    until_drained: bool,
    fair: bool,
    **reading: Any,
) -> None:
    """Write the entries of each STREAM of Redis, or of topics of Kafka, into the store until stopped.

    An entry is acknowledged after it was written. Several consumers of a group share the entries; what a dead one held
    is taken over. Entries that cannot be written go to STREAM.dead. docs/streams.md has the form of entries.
    """
    _check_usage(streams, brokers, topics)
    settings = Settings.from_environment()
    store_url = settings.url or embedded_url(settings.data_dir)
    source = (
        _kafka_source(brokers, topics, reading) if brokers else _redis_source(streams, settings, store_url, reading)
    )
    target = Target(store_url, entity, timeout=_TIMEOUT_S, call=settings.call, fair=fair)
    counts = Counts()
    consumer = Consumer(
        source,
        target,
        counts,
        tries=tries,
        ignores_undeclared=ignore_undeclared,
        log_every=log_every,
        forget_after=max(_FORGET_AFTER_S, 10 * reading["claim_after"]),
        check=None if settings.url else partial(embedded_url, settings.data_dir),
    )
    _stop_on_signals(consumer)
    server = _serve(counts, metrics_at) if metrics_at else None
    try:
        settled = consumer.run(until_drained=until_drained)
    finally:
        if server is not None:
            server.shutdown()
        _close(source, target)
    sys.exit(0 if settled else 1)


def _check_usage(streams: tuple[str, ...], brokers: str | None, topics: tuple[str, ...]) -> None:
    if brokers and (streams or not topics):
        raise click.UsageError("with --kafka, name the topics by --topic, and no STREAM")
    if not brokers and topics:
        raise click.UsageError("--topic wants --kafka BROKERS")
    if not brokers and not streams:
        raise click.UsageError("name a STREAM, or --kafka BROKERS and --topic TOPIC")


def _redis_source(streams: tuple[str, ...], settings: Settings, store_url: str, reading: dict[str, Any]) -> Source:
    name = reading["consumer"]
    return RedisStreams(
        RedisLink(reading["stream_url"] or store_url, _TIMEOUT_S, reached_at=settings.address_map or ""),
        list(dict.fromkeys(streams)),
        group=reading["group"],
        consumer=name or f"{socket.gethostname()}-{os.getpid()}",
        batch=reading["batch"],
        claim_after=reading["claim_after"],
        start=reading["start"],
        dead=reading["dead"],
        passing=name is None,
    )


def _kafka_source(brokers: str, topics: tuple[str, ...], reading: dict[str, Any]) -> Source:
    return KafkaTopics(
        brokers,
        list(dict.fromkeys(topics)),
        group=reading["group"],
        batch=reading["batch"],
        start=reading["start"],
        dead=reading["dead"],
        options=reading["kafka_options"],
    )


def _stop_on_signals(consumer: Consumer) -> None:
    """Have the first SIGTERM, SIGINT or SIGHUP finish what is in hand, and the second end the process."""

    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        consumer.stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def _serve(counts: Counts, address: tuple[str, int]) -> Any:
    host, port = address
    try:
        server = serve_metrics(counts, host, port)
    except OSError as error:
        raise FeatureStoreError(f"cannot answer Prometheus on {host}:{port}: {error.strerror or error}") from error
    click.echo(f"metrics: http://{host}:{server.server_port}/metrics", err=True)
    return server


def _close(source: Source, target: Target) -> None:
    """Close both; a server that is away does not matter any more."""
    for each in (source, target):
        try:
            each.close()
        except FeatureStoreError as error:
            click.echo(f"featurestore: {error}", err=True)
