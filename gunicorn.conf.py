"""Settings of the HTTP server for `gunicorn` started in this folder; they come from the environment (README.md)."""

from featurestore.gunicorn_config import settings_or_exit

globals().update(settings_or_exit())
