"""An online feature store whose logic runs inside Redis: Lua scripts, and Python and HTTP as two of their callers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from featurestore.clients.async_client import AsyncClient
    from featurestore.clients.client import Client
    from featurestore.contract.upsert_calls import RejectedRow, UpsertResult
    from featurestore.embedded import EmbeddedServer
    from featurestore.errors import (
        AccessDeniedError,
        BadArgumentsError,
        BadIdError,
        BadReplyError,
        BadTimeError,
        BadValueError,
        ConfigurationError,
        DeadlineExceededError,
        FeatureStoreError,
        InDoubtError,
        NoSchemaError,
        OverloadedError,
        RedisError,
        SchemaChangedError,
        SchemaError,
        TypeChangeError,
        UnavailableError,
        UnconfirmedWriteError,
        UndeclaredFeatureError,
        UnknownEntityError,
        WriteRefusedError,
    )
    from featurestore.keys import Keys
    from featurestore.schema.definition import Definition, read_definition
    from featurestore.schema.stored import Schema
    from featurestore.settings import Settings
    from featurestore.store.asyncio_store import AsyncFeatureStore
    from featurestore.store.blocking import FeatureStore
    from featurestore.store.results import Description, Health, Outcome
    from featurestore.store.table import FeatureTable
    from featurestore.transport.asyncio_transport import AsyncTransport
    from featurestore.transport.blocking import SyncTransport
    from featurestore.transport.interface import Transport

__all__ = [
    "AccessDeniedError",
    "AsyncClient",
    "AsyncFeatureStore",
    "AsyncTransport",
    "BadArgumentsError",
    "BadIdError",
    "BadReplyError",
    "BadTimeError",
    "BadValueError",
    "Client",
    "ConfigurationError",
    "DeadlineExceededError",
    "Definition",
    "Description",
    "EmbeddedServer",
    "FeatureStore",
    "FeatureStoreError",
    "FeatureTable",
    "Health",
    "InDoubtError",
    "Keys",
    "NoSchemaError",
    "Outcome",
    "OverloadedError",
    "RedisError",
    "RejectedRow",
    "Schema",
    "SchemaChangedError",
    "SchemaError",
    "Settings",
    "SyncTransport",
    "Transport",
    "TypeChangeError",
    "UnavailableError",
    "UnconfirmedWriteError",
    "UndeclaredFeatureError",
    "UnknownEntityError",
    "UpsertResult",
    "WriteRefusedError",
    "read_definition",
]

# Names are imported when they are first used: gunicorn's master needs the settings alone, and must not import ssl
# (by way of redis) before its gevent workers have patched it.
_HOMES = {
    "AsyncFeatureStore": "store.asyncio_store",
    "AsyncTransport": "transport.asyncio_transport",
    "AsyncClient": "clients.async_client",
    "Client": "clients.client",
    "Definition": "schema.definition",
    "read_definition": "schema.definition",
    "EmbeddedServer": "embedded",
    "AccessDeniedError": "errors",
    "BadArgumentsError": "errors",
    "BadIdError": "errors",
    "BadReplyError": "errors",
    "BadTimeError": "errors",
    "BadValueError": "errors",
    "ConfigurationError": "errors",
    "DeadlineExceededError": "errors",
    "FeatureStoreError": "errors",
    "InDoubtError": "errors",
    "NoSchemaError": "errors",
    "OverloadedError": "errors",
    "RedisError": "errors",
    "SchemaChangedError": "errors",
    "SchemaError": "errors",
    "TypeChangeError": "errors",
    "UnavailableError": "errors",
    "UnconfirmedWriteError": "errors",
    "UndeclaredFeatureError": "errors",
    "UnknownEntityError": "errors",
    "WriteRefusedError": "errors",
    "Keys": "keys",
    "Description": "store.results",
    "Health": "store.results",
    "Outcome": "store.results",
    "Schema": "schema.stored",
    "Settings": "settings",
    "FeatureStore": "store.blocking",
    "FeatureTable": "store.table",
    "SyncTransport": "transport.blocking",
    "Transport": "transport.interface",
    "RejectedRow": "contract.upsert_calls",
    "UpsertResult": "contract.upsert_calls",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("redis-featurestore")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"featurestore.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
