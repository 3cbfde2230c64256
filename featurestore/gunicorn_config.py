"""gunicorn's configuration, as `featurestore serve` and the checkout's gunicorn.conf.py use it."""

from typing import Any

from featurestore.settings import Settings

WORKER_CLASSES = {
    "featurestore": "featurestore.worker.Worker",
    "gevent": "gevent",
    "gthread": "gthread",
    "sync": "sync",
}
"""Setting → gunicorn's worker class."""


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


globals().update(gunicorn_settings(Settings.from_environment()))
