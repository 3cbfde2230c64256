"""What a worker process serves: the app over a transport that suits the worker class."""

from collections.abc import Callable

from gunicorn.errors import AppImportError

from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.api.counters import meter
from featurestore.api.fast_reads import App, FastReads, GatheredReads
from featurestore.embedded import embedded_url
from featurestore.errors import FeatureStoreError
from featurestore.keys import Keys
from featurestore.serving.master import log_as_gunicorn_does
from featurestore.settings import Settings
from featurestore.store.blocking import FeatureStore
from featurestore.store.functions import check_server
from featurestore.store.writes import Plans
from featurestore.transport.blocking import SyncTransport


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
        check_server(url)
    timeout, write_timeout = settings.timeout_ms / 1000, settings.write_timeout_ms / 1000
    connect_timeout = settings.connect_timeout_ms / 1000
    if settings.worker_class not in {"featurestore", "gevent"}:  # threads have a pool, and do without gevent
        store = FeatureStore(
            SyncTransport(
                url,
                timeout=timeout,
                write_timeout=write_timeout,
                connect_timeout=connect_timeout,
                max_connections=settings.threads,
                call=settings.call,
            ),
            plans=_plans(settings),
        )
        return FastReads(store, _app_over(store, settings), meter())
    import gevent  # noqa: PLC0415

    from featurestore.transport.gevent_transport import GeventTransport  # noqa: PLC0415

    transport = GeventTransport(
        url,
        timeout=timeout,
        write_timeout=write_timeout,
        connect_timeout=connect_timeout,
        max_in_flight=settings.max_in_flight,
        call=settings.call,
    )
    store = FeatureStore(transport, plans=_plans(settings))

    def run_soon(call: Callable[[], None]) -> None:
        gevent.get_hub().loop.run_callback(call)  # the hub of the process that serves, which may be a fork of this one

    return GatheredReads(store, _app_over(store, settings), meter(), transport, run_soon)


def _plans(settings: Settings) -> Plans:
    return Plans(Keys(), settings.max_cells)


def _app_over(store: FeatureStore, settings: Settings) -> App:
    return create_app(
        store,
        max_batch=settings.max_batch,
        max_body_bytes=settings.max_body_bytes,
        access=Access(settings.write_keys),
        meter=meter(),
    )
