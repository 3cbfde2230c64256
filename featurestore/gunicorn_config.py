"""gunicorn's configuration, as `featurestore serve` and the checkout's gunicorn.conf.py use it."""

from featurestore.serving import gunicorn_settings
from featurestore.settings import Settings

globals().update(gunicorn_settings(Settings.from_environment()))
