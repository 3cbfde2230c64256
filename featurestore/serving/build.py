"""What a worker process serves: the app over a transport that suits the worker class."""

from collections.abc import Callable

from gunicorn.errors import AppImportError

from featurestore.access.keyring import Keyring
from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.api.counters import meter
from featurestore.api.fast_reads import FastReads
from featurestore.api.gathered_reads import GatheredReads
from featurestore.api.keyed_reads import KeyedReads, KeyedTracedReads
from featurestore.api.observing import App, Observer
from featurestore.api.rates import Rates
from featurestore.api.traced_reads import TracedReads
from featurestore.embedded import embedded_url
from featurestore.errors import FeatureStoreError
from featurestore.keys import keys_of
from featurestore.serving.master import log_as_gunicorn_does
from featurestore.serving.tracing import Traces
from featurestore.settings import Settings
from featurestore.store.blocking import FeatureStore
from featurestore.store.functions import check_server
from featurestore.store.served_log import ServedLog
from featurestore.store.writes import Plans
from featurestore.transport.addresses import is_cluster
from featurestore.transport.confirming import Durability
from featurestore.transport.opening import blocking_transport, gevent_transport
from featurestore.transport.replicas import Reading


def build_app(settings: Settings | None = None) -> FastReads:
    """Return the app as the environment sets it: gunicorn calls this in every worker.

    Raises:
        AppImportError: The settings cannot be used, or no server can be started; gunicorn says why, and ends.
    """
    log_as_gunicorn_does()
    try:
        return _build_app(settings or Settings.from_environment())
    except FeatureStoreError as error:
        raise AppImportError(f"featurestore: {error}") from error


def _build_app(settings: Settings) -> FastReads:
    url = settings.url or embedded_url(settings.data_dir)
    if settings.call == "functions":
        check_server(url, settings.address_map or "")
    timeout, write_timeout = settings.timeout_ms / 1000, settings.write_timeout_ms / 1000
    connect_timeout, reached_at = settings.connect_timeout_ms / 1000, settings.address_map or ""
    plans = Plans(keys_of("user", clustered=is_cluster(url)), settings.max_cells)
    tracing = Traces(settings.call, shows_ids=settings.log_ids) if settings.otel else None
    observer = Observer(settings.slow_ms, shows_ids=settings.log_ids, tracing=tracing)
    plans.served = ServedLog(told=meter().count_served)
    if settings.worker_class not in {"featurestore", "gevent"}:  # threads have a pool, and do without gevent
        store = FeatureStore(
            blocking_transport(
                url,
                timeout=timeout,
                write_timeout=write_timeout,
                connect_timeout=connect_timeout,
                max_connections=settings.threads + 1,  # one for what is done once a second
                call=settings.call,
                reached_at=reached_at,
                reading=Reading.by_settings(settings),
                durability=Durability.by_settings(settings),
                times=meter().calls,
            ),
            plans=plans,
        )
        access = Access(Keyring.of(settings), rates=Rates(store.transport))
        _watch(access, _nothing)
        return FastReads(store, _app_over(store, settings, access), meter(), observer, access)
    import gevent  # noqa: PLC0415

    transport = gevent_transport(
        url,
        timeout=timeout,
        write_timeout=write_timeout,
        connect_timeout=connect_timeout,
        max_in_flight=settings.max_in_flight,
        call=settings.call,
        reached_at=reached_at,
        reading=Reading.by_settings(settings),
        durability=Durability.by_settings(settings),
        times=meter().calls,
    )
    plans.served = ServedLog(gevent.spawn, meter().count_served)
    store = FeatureStore(transport, plans=plans)

    def run_soon(call: Callable[[], None]) -> None:
        gevent.get_hub().loop.run_callback(call)  # the hub of the process that serves, which may be a fork of this one

    access = Access(Keyring.of(settings), rates=Rates(transport, gevent.spawn))
    app = _app_over(store, settings, access)
    if not access.closed:
        kind = GatheredReads if tracing is None else TracedReads
        return kind(store, app, meter(), transport, run_soon, observer)
    keyed_kind = KeyedReads if tracing is None else KeyedTracedReads
    keyed = keyed_kind(store, app, meter(), transport, run_soon, observer, access)
    _watch(access, keyed.follow_keys)
    return keyed


def _watch(access: Access, follow: Callable[[], object]) -> None:
    """Look for changes of the file of keys from now on; call `follow` about once a second."""

    def follow_keys() -> None:
        if access.rates is not None:
            access.rates.drop_idle()
        follow()

    access.keyring.changed = follow_keys
    access.keyring.watch()


def _nothing() -> None:
    return


def _app_over(store: FeatureStore, settings: Settings, access: Access) -> App:
    return create_app(
        store,
        max_batch=settings.max_batch,
        max_body_bytes=settings.max_body_bytes,
        access=access,
        meter=meter(),
        ready_share=settings.ready_share,
    )
