"""What the commands share that bring stored features out."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from featurestore.embedded import embedded_url
from featurestore.errors import BadArgumentsError, ConfigurationError, SourceError
from featurestore.settings import Settings
from featurestore.store.blocking import FeatureStore

from .scan import ReadRetries

_TIMEOUT_S = 5.0


@contextmanager
def opened_store(entity: str) -> Iterator[FeatureStore]:
    """Yield the entity's store, more patient than a server's: a person waits for the result."""
    with FeatureStore.connect(timeout=_TIMEOUT_S) as store:
        yield store.entity(entity)


def patience() -> ReadRetries:
    """Return what waits for Redis, and starts the embedded server again where that is the one."""
    settings = Settings.from_environment()
    return ReadRetries() if settings.url else ReadRetries(lambda: embedded_url(settings.data_dir))


@contextmanager
def usage_errors() -> Iterator[None]:
    """Make what a caller got wrong an error of usage."""
    try:
        yield
    except (BadArgumentsError, ConfigurationError, SourceError) as error:
        raise click.UsageError(str(error)) from error
