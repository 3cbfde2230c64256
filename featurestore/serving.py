"""What a worker process serves: the app over a transport that suits the worker class."""

from featurestore.access import Access
from featurestore.app import create_app
from featurestore.embedded import embedded_url
from featurestore.hotpath import HotPath
from featurestore.settings import Settings
from featurestore.store import FeatureStore
from featurestore.transport import SyncTransport, Transport


def make_transport(settings: Settings) -> Transport:
    """Return the link to Redis for one worker process: greenlets share one connection, threads have a pool."""
    url = settings.url or embedded_url(settings.data_dir)
    timeout, connect_timeout = settings.timeout_ms / 1000, settings.connect_timeout_ms / 1000
    if settings.worker_class in {"featurestore", "gevent"}:
        from featurestore.multiplexed import MultiplexedTransport  # noqa: PLC0415 - threads do without gevent

        return MultiplexedTransport(
            url, timeout=timeout, connect_timeout=connect_timeout, max_in_flight=settings.max_in_flight
        )
    return SyncTransport(url, timeout=timeout, connect_timeout=connect_timeout)


def build_app(settings: Settings | None = None) -> HotPath:
    """Return the app as the environment sets it: gunicorn calls this in every worker."""
    settings = settings or Settings.from_environment()
    store = FeatureStore(make_transport(settings))
    app = create_app(
        store, max_batch=settings.max_batch, max_body_bytes=settings.max_body_bytes, access=Access(settings.write_keys)
    )
    return HotPath(store, app)
