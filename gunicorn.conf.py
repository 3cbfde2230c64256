"""Settings of the HTTP server for `gunicorn` started in this folder; they come from the environment (README.md)."""

from featurestore.serving.gunicorn_settings import settings_or_exit

globals().update(settings_or_exit())
