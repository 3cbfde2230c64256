"""Settings of the HTTP server for `gunicorn` started in this folder; they come from the environment (README.md)."""

from featurestore.gunicorn_config import gunicorn_settings
from featurestore.settings import Settings

globals().update(gunicorn_settings(Settings.from_environment()))
