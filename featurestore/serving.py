"""What a worker process serves: the app over a transport that suits the worker class."""

from typing import Any

from falcon import App, Request, Response

from featurestore.app import create_app
from featurestore.embedded import embedded_url
from featurestore.settings import Settings
from featurestore.store import FeatureStore
from featurestore.transport import SyncTransport, Transport

WORKER_CLASSES = {"gevent": "gevent", "gthread": "gthread", "sync": "sync"}
"""Setting → gunicorn's worker class."""


def make_transport(settings: Settings) -> Transport:
    """Return the link to Redis for one worker process."""
    return SyncTransport(
        settings.url or embedded_url(settings.data_dir),
        timeout=settings.timeout_ms / 1000,
        connect_timeout=settings.connect_timeout_ms / 1000,
    )


def build_app(settings: Settings | None = None) -> App[Request, Response]:
    """Return the app as the environment sets it: gunicorn calls this in every worker."""
    settings = settings or Settings.from_environment()
    store = FeatureStore(make_transport(settings))
    return create_app(store, max_batch=settings.max_batch, max_body_bytes=settings.max_body_bytes)


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """Return gunicorn's settings that follow from ours."""
    return {
        "wsgi_app": "featurestore.serving:build_app()",
        "bind": settings.bind,
        "workers": settings.workers,
        "worker_class": WORKER_CLASSES[settings.worker_class],
        "threads": settings.threads if settings.worker_class == "gthread" else 1,
        "graceful_timeout": settings.graceful_timeout_s,
        "keepalive": 65,
        "backlog": 2048,
        "loglevel": settings.log_level,
        "accesslog": "-" if settings.access_log else None,
        "errorlog": "-",
        "proc_name": "featurestore",
        "control_socket_disable": True,
    }
