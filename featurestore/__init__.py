"""An online feature store whose logic runs inside Redis: Lua scripts, and Python and HTTP as two of their callers."""

from featurestore.embedded import EmbeddedServer
from featurestore.errors import (
    AccessDeniedError,
    BadArgumentsError,
    ConfigurationError,
    DeadlineExceededError,
    FeatureStoreError,
    NoSchemaError,
    OverloadedError,
    RedisError,
    SchemaChangedError,
    SchemaError,
    TypeChangeError,
    UnavailableError,
    UndeclaredFeatureError,
    WriteRefusedError,
)
from featurestore.keys import Keys
from featurestore.schema import Definition, Schema, read_definition
from featurestore.settings import Settings
from featurestore.store import FeatureStore
from featurestore.transport import SyncTransport, Transport
from featurestore.upsert import RejectedRow, UpsertResult

__all__ = [
    "AccessDeniedError",
    "BadArgumentsError",
    "ConfigurationError",
    "DeadlineExceededError",
    "Definition",
    "EmbeddedServer",
    "FeatureStore",
    "FeatureStoreError",
    "Keys",
    "NoSchemaError",
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
    "UndeclaredFeatureError",
    "UpsertResult",
    "WriteRefusedError",
    "read_definition",
]
