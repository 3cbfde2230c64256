"""Every setting, read from the environment: `REDIS_*` for Redis's address, `FEATURESTORE_*` for the rest."""

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args, get_type_hints
from urllib.parse import quote

import msgspec
from msgspec import Meta

from featurestore.errors import ConfigurationError

WorkerClass = Literal["featurestore", "gevent", "gthread", "sync"]
CallBy = Literal["scripts", "functions"]
ReadFrom = Literal["primary", "replicas", "nearest"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "text", "json"]
_PREFIX = "FEATURESTORE_"
_CHOICES = {
    "call": get_args(CallBy),
    "read_from": get_args(ReadFrom),
    "worker_class": get_args(WorkerClass),
    "log_level": get_args(LogLevel),
    "log_format": get_args(LogFormat),
}
_ANY_CASE = frozenset({"log_level", "log_format"})
_PORT = r"(6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]?\d{1,4})"
_BIND = re.compile(rf"unix:.+|fd://\d+|(\[[0-9A-Fa-f:.]+\]|[^:\[\]/]*):{_PORT}")
_REDIS_FIELDS = frozenset({"redis_url", "redis_host", "redis_port", "redis_password", "redis_db"})
_SECRETS = frozenset({"read_keys", "redis_password", "write_keys"})
_HIDDEN = "***"
_URL_PASSWORD = re.compile(r"(?<=://)([^:/@]*:).*(?=@)|(password=)[^&]*")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*")
_KUBERNETES_VARIABLE = re.compile(
    r"FEATURESTORE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)"
)


def _default_workers() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS binds no process to processors


def _default_data_dir() -> str:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    try:
        return str(Path(base).expanduser() / "featurestore")
    except RuntimeError:  # no home directory; EmbeddedServer reports it if it is used
        return str(Path(base) / "featurestore")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force. Each field's description is its documentation."""

    redis_url: Annotated[
        str | None,
        Meta(
            description="Redis's address: redis://, rediss:// (TLS) or unix://, with credentials; a cluster's: "
            "redis+cluster://host:port,host:port; Sentinels': redis+sentinel://host:port,host:port/name; or rediss+…"
        ),
    ] = None
    redis_host: Annotated[str | None, Meta(description="Redis's host, where no REDIS_URL is set")] = None
    redis_port: Annotated[int, Meta(ge=1, le=65535, description="Redis's port, beside REDIS_HOST")] = 6379
    redis_password: Annotated[str | None, Meta(description="Redis's password, beside REDIS_HOST")] = None
    redis_db: Annotated[int, Meta(ge=0, description="Redis's database number, beside REDIS_HOST")] = 0
    call: Annotated[
        CallBy,
        Meta(description="how Redis runs the scripts: scripts (EVALSHA), or functions (FCALL; Redis 7.0 or Valkey)"),
    ] = "scripts"
    address_map: Annotated[
        str | None,
        Meta(
            description="where nodes of a cluster are reached whose own addresses are others, as behind NAT: "
            "10.0.0.5:7000=host:17000,…"
        ),
    ] = None
    partitions: Annotated[
        int,
        Meta(ge=1, le=4096, description="in a cluster, how many partitions a new entity has: a power of two"),
    ] = 64
    read_from: Annotated[
        ReadFrom,
        Meta(
            description="who answers reads: primary (a replica only while the primary does not answer), replicas, or "
            "nearest by round trip"
        ),
    ] = "primary"
    max_lag_ms: Annotated[
        int,
        Meta(ge=0, description="how far a replica that answers reads may be behind its primary, in ms; 0: no bound"),
    ] = 0
    wait_replicas: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="how many replicas have to confirm each write before it is acknowledged, by WAIT; 0: none",
        ),
    ] = 0
    wait_ms: Annotated[
        int, Meta(ge=1, le=30_000, description="how long replicas may take to confirm a write, in ms")
    ] = 100
    ready_share: Annotated[
        float,
        Meta(ge=0, le=1, description="in a cluster, the least share of ids that can be served for `/readyz` to be 200"),
    ] = 1.0
    data_dir: Annotated[
        str, Meta(description="where the embedded server keeps its data; used when no Redis is named")
    ] = msgspec.field(default_factory=_default_data_dir)
    bind: Annotated[str, Meta(description="address the HTTP server listens on: host:port or unix:path")] = (
        "127.0.0.1:8000"
    )
    workers: Annotated[int, Meta(ge=1, le=1024, description="worker processes")] = msgspec.field(
        default_factory=_default_workers
    )
    worker_class: Annotated[WorkerClass, Meta(description="kind of worker: featurestore, gevent, gthread or sync")] = (
        "featurestore"
    )
    batch_scheduling: Annotated[
        bool,
        Meta(
            description="whether workers are batch processes to Linux: more requests/s where processors are busy; "
            "false where others compute on them"
        ),
    ] = True
    threads: Annotated[int, Meta(ge=1, le=1024, description="threads a worker, for gthread")] = 8
    timeout_ms: Annotated[
        int, Meta(ge=1, le=60_000, description="how long a request waits for Redis's reply, in ms")
    ] = 50
    write_timeout_ms: Annotated[
        int, Meta(ge=1, le=60_000, description="how long a write waits for Redis's reply, in ms")
    ] = 1000
    connect_timeout_ms: Annotated[
        int, Meta(ge=1, le=60_000, description="how long a new connection to Redis may take, in ms")
    ] = 50
    max_in_flight: Annotated[
        int,
        Meta(
            ge=1,
            description="most calls of a worker that may be sent to Redis and not answered; further small ones are "
            "refused with 503",
        ),
    ] = 4096
    max_batch: Annotated[int, Meta(ge=1, le=100_000, description="most ids in one batch request")] = 1000
    max_cells: Annotated[
        int,
        Meta(
            ge=1,
            description="most values in one read, ids times features; more are refused with 422. "
            "Each number of a vector counts for 1/32 more",
        ),
    ] = 1_000_000
    max_body_bytes: Annotated[int, Meta(ge=1, description="largest request body, in bytes")] = 1_048_576
    max_buffered_bytes: Annotated[
        int,
        Meta(ge=1, description="most bytes of requests that a worker holds at once; further ones are refused with 503"),
    ] = 67_108_864
    graceful_timeout_s: Annotated[
        int, Meta(ge=1, le=3600, description="how long a stopping worker may finish its requests, in seconds")
    ] = 10
    read_keys: Annotated[
        str | None,
        Meta(description="API keys that may read over HTTP, separated by commas; with any, reads need a key"),
    ] = None
    write_keys: Annotated[
        str | None, Meta(description="API keys that may write over HTTP, separated by commas; without any, nobody may")
    ] = None
    keys_file: Annotated[
        str | None,
        Meta(
            description="a file of API keys that `featurestore keys` makes; with one, reads need a key. "
            "It is read again when it changes"
        ),
    ] = None
    socket_mode: Annotated[
        str,
        Meta(
            pattern="^0?[0-7]{3}$",
            description="who may connect to a unix socket that FEATURESTORE_BIND names, as for chmod",
        ),
    ] = "0660"
    forwarded_allow_ips: Annotated[
        str,
        Meta(
            description="addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count, "
            "separated by commas; *: everybody's"
        ),
    ] = "127.0.0.1,::1"
    log_level: Annotated[LogLevel, Meta(description="least level that is logged: debug, info, warning or error")] = (
        "info"
    )
    log_format: Annotated[
        LogFormat,
        Meta(description="how lines of the log look: text, json, or auto: text on a terminal, JSON elsewhere"),
    ] = "auto"
    access_log: Annotated[bool, Meta(description="log every request to stderr")] = False
    log_ids: Annotated[
        bool, Meta(description="whether the access log, slow requests and traces show paths, which have entities' ids")
    ] = False
    slow_ms: Annotated[
        int, Meta(ge=0, description="requests that take longer are logged with the time of each stage, in ms; 0: none")
    ] = 250
    otel: Annotated[
        bool, Meta(description="trace requests by OpenTelemetry (extra `otel`); the OTEL_* variables say where to")
    ] = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the settings. An empty variable counts as not set.

        Raises:
            ConfigurationError: A value does not fit. The message has the variable, the value, and what would be right.
        """
        environment = os.environ if environment is None else environment
        values = {}
        for name, kind in get_type_hints(cls, include_extras=True).items():
            text = _text_of(name, environment)
            if text:
                try:
                    word = text.lower() if name in _ANY_CASE else text
                    values[name] = msgspec.convert(word, kind, strict=False)
                except msgspec.ValidationError as error:
                    if name == "partitions":
                        raise _no_partitions(text) from error
                    choices = f"; want {', '.join(_CHOICES[name])}" if name in _CHOICES else ""
                    raise ConfigurationError(f"{variable_of(name)}={text!r}: {error}{choices}") from error
        settings = cls(**values)
        if not _BIND.fullmatch(settings.bind):
            raise ConfigurationError(
                f"{variable_of('bind')}={settings.bind!r}: want host:port, with a port up to 65535, or unix:path"
            )
        _check_proxies(settings.forwarded_allow_ips)
        for name in ("read_keys", "write_keys"):
            _check_keys(name, getattr(settings, name))
        if settings.partitions & (settings.partitions - 1):
            raise _no_partitions(str(settings.partitions))
        if settings.wait_replicas and settings.wait_ms >= settings.write_timeout_ms:
            raise ConfigurationError(
                f"{variable_of('wait_ms')}={settings.wait_ms}: want less than {variable_of('write_timeout_ms')}, which"
                f" is {settings.write_timeout_ms}"
            )
        return settings

    @property
    def url(self) -> str | None:
        """Redis's address; None means the embedded server."""
        if self.redis_url:
            return self.redis_url
        if not self.redis_host:
            return None
        return _url_of_host(self.redis_host, self.redis_port, self.redis_password, self.redis_db)


def _check_proxies(text: str) -> None:
    for each in text.split(","):
        try:
            if each.strip() != "*":
                ipaddress.ip_network(each.strip())
        except ValueError as error:
            raise ConfigurationError(
                f"{variable_of('forwarded_allow_ips')}={text!r}: {error}; want addresses or networks such as"
                " 10.0.0.0/8, separated by commas, or *"
            ) from error


def _check_keys(name: str, text: str | None) -> None:
    """Refuse a list of nothing but commas, as templates make it: whoever names keys does not want open reads."""
    if text and not text.replace(",", " ").strip():
        raise ConfigurationError(
            f"{variable_of(name)}={text!r} names no key: want keys, separated by commas, or the variable not set"
        )


def _no_partitions(text: str) -> ConfigurationError:
    return ConfigurationError(f"{variable_of('partitions')}={text}: want a power of two from 1 to 4096, such as 64")


def _url_of_host(host: str, port: int, password: str | None, db: int) -> str:
    credentials = f":{quote(password, safe='')}@" if password else ""
    host = f"[{host}]" if ":" in host else host
    return f"redis://{credentials}{host}:{port}/{db}"


def _text_of(field: str, environment: Mapping[str, str]) -> str:
    """Return the value of the variable for `field`; empty if it is not set."""
    text = environment.get(variable_of(field), "")
    # Kubernetes sets REDIS_PORT=tcp://10.0.0.1:6379 in every pod if there is a service called redis.
    return "" if field == "redis_port" and _KUBERNETES_PORT.fullmatch(text) else text


def variable_of(field: str) -> str:
    """Return the environment variable that sets `field`."""
    return field.upper() if field in _REDIS_FIELDS else f"{_PREFIX}{field.upper()}"


def describe_settings() -> list[tuple[str, str, str]]:
    """Return variable, default and meaning of every setting, for the documentation and `featurestore settings`."""
    factories = {"data_dir": "~/.local/share/featurestore", "workers": "number of processors"}
    rows = []
    for field in msgspec.structs.fields(Settings):
        hint = get_type_hints(Settings, include_extras=True)[field.name]
        (meta,) = hint.__metadata__
        default = factories.get(field.name, field.default)
        rows.append(
            (
                variable_of(field.name),
                _as_text(default),
                meta.description,
            )
        )
    return rows


class SettingInForce(msgspec.Struct, frozen=True):
    """A setting as `featurestore settings` shows it.

    Attributes:
        variable: The environment variable that sets it.
        value: Its value, without secrets.
        default: Its default.
        is_set: Whether the environment sets it.
        meaning: What it is for.
    """

    variable: str
    value: str
    default: str
    is_set: bool
    meaning: str


def settings_in_force(environment: Mapping[str, str] | None = None) -> list[SettingInForce]:
    """Return every setting with its value in force.

    Raises:
        ConfigurationError: As for `Settings.from_environment`.
    """
    environment = os.environ if environment is None else environment
    settings = Settings.from_environment(environment)
    return [
        SettingInForce(
            variable=variable,
            value=_shown(field, getattr(settings, field)),
            default=default,
            is_set=bool(_text_of(field, environment)),
            meaning=meaning,
        )
        for field, (variable, default, meaning) in zip(Settings.__struct_fields__, describe_settings(), strict=True)
    ]


def _shown(field: str, value: object) -> str:
    if field in _SECRETS and value:
        return _HIDDEN
    if field == "redis_url" and value:
        return without_password(str(value))
    return _as_text(value)


def may_have_replicas(url: str | None) -> bool:
    """Return whether replicas of a server can be found by its address; the embedded one's URL is None."""
    return url is not None and not url.lower().startswith("unix:")


def without_password(url: str) -> str:
    """Return a Redis URL with `***` in place of its password."""
    return _URL_PASSWORD.sub(lambda found: f"{found[1] or found[2]}{_HIDDEN}", url)


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Return whether Kubernetes set this variable, for a service whose name starts with `featurestore`."""
    if name.endswith("_PORT") and not name.endswith("_SERVICE_PORT") and not re.search(r"_PORT_\d+_", name):
        return _KUBERNETES_PORT.fullmatch(value) is not None
    return _KUBERNETES_VARIABLE.fullmatch(name) is not None


def _as_text(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return a warning for each FEATURESTORE_ variable that is no setting, such as a mistyped one.

    Variables that Kubernetes sets for services are ignored.
    """
    environment = os.environ if environment is None else environment
    known = {variable_of(field).removeprefix(_PREFIX): variable_of(field) for field in Settings.__struct_fields__}
    warnings = []
    for name in sorted(environment):
        if name.startswith(_PREFIX) and name not in known.values() and not _is_of_kubernetes(name, environment[name]):
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), known, n=1, cutoff=0.7)
            hint = f"did you mean {known[near[0]]}?" if near else "featurestore settings has all of them"
            warnings.append(f"{name} is not a setting: {hint}")
    return warnings
