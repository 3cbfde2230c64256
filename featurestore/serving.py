"""What a worker process serves: the app over a transport that suits the worker class."""

import logging

from featurestore.access import Access
from featurestore.app import create_app
from featurestore.embedded import embedded_url
from featurestore.hotpath import App, HotPath
from featurestore.metrics import meter
from featurestore.settings import Settings
from featurestore.store import FeatureStore
from featurestore.transport import SyncTransport


def build_app(settings: Settings | None = None) -> HotPath:
    """Return the app as the environment sets it: gunicorn calls this in every worker."""
    settings = settings or Settings.from_environment()
    _log_as_gunicorn_does()
    url = settings.url or embedded_url(settings.data_dir)
    timeout, connect_timeout = settings.timeout_ms / 1000, settings.connect_timeout_ms / 1000
    if settings.worker_class not in {"featurestore", "gevent"}:  # threads have a pool, and do without gevent
        store = FeatureStore(
            SyncTransport(url, timeout=timeout, connect_timeout=connect_timeout, max_connections=settings.threads)
        )
        return HotPath(store, _app_over(store, settings), meter())
    from featurestore.gather import Gatherer  # noqa: PLC0415
    from featurestore.multiplexed import MultiplexedTransport  # noqa: PLC0415

    transport = MultiplexedTransport(
        url, timeout=timeout, connect_timeout=connect_timeout, max_in_flight=settings.max_in_flight
    )
    store = FeatureStore(transport)
    return HotPath(store, _app_over(store, settings), meter(), Gatherer(store, transport, meter()).begin)


def _log_as_gunicorn_does() -> None:
    ours, gunicorns = logging.getLogger("featurestore"), logging.getLogger("gunicorn.error")
    ours.handlers, ours.propagate = gunicorns.handlers, not gunicorns.handlers
    ours.setLevel(gunicorns.level)


def _app_over(store: FeatureStore, settings: Settings) -> App:
    return create_app(
        store,
        max_batch=settings.max_batch,
        max_body_bytes=settings.max_body_bytes,
        access=Access(settings.write_keys),
        meter=meter(),
    )
