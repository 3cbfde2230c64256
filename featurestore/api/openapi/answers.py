"""The shapes of answers. Handlers encode most of them from rows; tests hold every answer against them."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from featurestore.contract.words import VERDICTS
from featurestore.schema.services import ServiceLog
from featurestore.schema.types import FeatureType, Status, Value
from featurestore.store.health import Missing, NodeHealth
from featurestore.store.inspection import StoredState

Values = dict[str, Value | None]
Verdict = Annotated[str, Meta(extra_json_schema={"enum": list(VERDICTS.values())})]


class Identified(msgspec.Struct):
    """An answer about one entity. Beside its fields it has the id, under a name that the schema says."""


class Metadata(msgspec.Struct):
    """What is told of an entity beside its values.

    Attributes:
        event_time: The newest event time, in ms since 1970; null if nothing was written.
        age_ms: The time since then, in ms, by Redis's clock.
        statuses: The status of each value.
    """

    event_time: int | None
    age_ms: int | None
    statuses: dict[str, Status]


class Entity(Identified):
    """An entity and its features.

    Attributes:
        features: Name → value, in the order asked for; null as a whole for an id that is not known, in a batch.
        metadata: With `metadata`: times and statuses.
    """

    features: Values | None
    metadata: Metadata | UnsetType = UNSET


class EntityTimes(msgspec.Struct):
    """Event time and age of an entity in a row of a query, in ms."""

    event_time: int | None
    age_ms: int | None


class RowMetadata(msgspec.Struct):
    """What is told of a row of a query.

    Attributes:
        entities: Event time and age of each entity; null where the id is not known.
        statuses: The status of each value, in the order of the names.
    """

    entities: dict[str, EntityTimes | None]
    statuses: list[Status]


class QueryAnswer(msgspec.Struct):
    """Features of several entities side by side.

    Attributes:
        names: The names of the values of each row.
        rows: For each row of ids the values, in the order of the names.
        metadata: With `metadata`: what is told of each row.
    """

    names: list[str]
    rows: list[list[Value | None]]
    metadata: list[RowMetadata] | UnsetType = UNSET


class Written(Identified):
    """What a PUT did.

    Attributes:
        verdict: What became of the row.
        features: The named features as they are stored now; of a partly stale row those that were written.
    """

    verdict: Verdict
    features: Values


class Incremented(Identified):
    """What increments did.

    Attributes:
        features: The values that the counters have now.
    """

    features: Values


class Recorded(Identified):
    """What became of an event.

    Attributes:
        verdict: Whether it was counted, or is a duplicate.
    """

    verdict: Verdict


class Outcome(msgspec.Struct):
    """What became of one line, or row, of a bulk write.

    Attributes:
        line: Its number, from 1.
        verdict: What became of it.
        code: Where it was rejected: why, for programs.
        reason: Where it was rejected: why, for people.
    """

    line: int
    verdict: Verdict
    code: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class FeatureOptions(msgspec.Struct):
    """What a schema says of a feature beside its type; only what is set."""

    default: Value | UnsetType = UNSET
    max_age_ms: int | UnsetType = UNSET
    always: bool | UnsetType = UNSET
    description: str | UnsetType = UNSET
    owner: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET


class Schema(msgspec.Struct):
    """The schema of an entity; of the optional fields only those that are set.

    Attributes:
        entity: Its name.
        version: Counts the changes.
        features: Name → type.
        description: What the entity is.
        owner: Who answers for it.
        tags: Words to find it by.
        options: Feature → its options.
        max_age_ms: Older values are null.
        ttl_ms: So long after its newest event time an entity is unknown again.
        tombstone_ms: For so long after a deletion, late events are ignored, if not for a day.
        max_ahead_ms: So far ahead of Redis's clock an event time may be, if not a day.
        services: Service → its features.
        logs: Service → what is kept of what it is served, for training.
        join_key: The name of the id.
        members: The set of the known ids in Redis.
        retiring: Features that are being taken out.
        partitions: In a cluster: how many partitions the entity has.
    """

    entity: str
    version: int
    features: dict[str, FeatureType]
    description: str | UnsetType = UNSET
    owner: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    options: dict[str, FeatureOptions] | UnsetType = UNSET
    max_age_ms: int | UnsetType = UNSET
    ttl_ms: int | UnsetType = UNSET
    tombstone_ms: int | UnsetType = UNSET
    max_ahead_ms: int | UnsetType = UNSET
    services: dict[str, list[str]] | UnsetType = UNSET
    logs: dict[str, ServiceLog] | UnsetType = UNSET
    join_key: str | UnsetType = UNSET
    members: str | UnsetType = UNSET
    retiring: list[str] | UnsetType = UNSET
    partitions: int | UnsetType = UNSET


class Health(msgspec.Struct):
    """Whether features can be served.

    Attributes:
        status: `degraded`: some ids of a cluster cannot be served, yet enough can.
        reason: Why it is unhealthy.
        share: The share of all ids that can be served, where some cannot.
        missing: Where the others are.
        nodes: Every server, where there are several.
    """

    status: Literal["healthy", "degraded", "unhealthy"]
    reason: str | UnsetType = UNSET
    share: float | UnsetType = UNSET
    missing: list[Missing] | UnsetType = UNSET
    nodes: list[NodeHealth] | UnsetType = UNSET


class Alive(msgspec.Struct):
    """The process takes requests."""

    status: Literal["alive"]


class OnlineResult(msgspec.Struct):
    """A join key or a feature, as Feast has it.

    Attributes:
        values: For each row.
        statuses: For each row.
        event_timestamps: For each row, in RFC 3339; 1970 where there is none.
    """

    values: list[Any]
    statuses: list[Literal["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]]
    event_timestamps: list[str]


class OnlineMetadata(msgspec.Struct):
    """The names of the results of an answer."""

    feature_names: list[str]


class OnlineAnswer(msgspec.Struct):
    """Join keys and features, as Feast's server answers."""

    results: list[OnlineResult]
    metadata: OnlineMetadata


class FeastProblem(msgspec.Struct):
    """An error that Feast's client raises again.

    Attributes:
        module: Always `feast.errors`.
        class_: A class of it.
        message: What is wrong.
    """

    module: Literal["feast.errors"]
    class_: str = msgspec.field(name="class")
    message: str = ""


class HeldEntity(msgspec.Struct):
    """An entity that Redis holds; of the optional fields only those that are set.

    Attributes:
        entity: Its name.
        version: Of its schema; null where none is stored.
        features: How many are declared.
        ids: How many are known.
        services: Their names.
        description: What the entity is.
        owner: Who answers for it.
        tags: Words to find it by.
        retiring: Features that are being taken out.
        partitions: How many it has, in a cluster.
        wrong: Why its schema cannot be read.
    """

    entity: str
    version: int | None
    features: int | None
    ids: int
    services: list[str]
    description: str | UnsetType = UNSET
    owner: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    retiring: list[str] | UnsetType = UNSET
    partitions: int | UnsetType = UNSET
    wrong: str | UnsetType = UNSET


class HeldEntities(msgspec.Struct):
    """The entities that Redis holds; `default` is the one of paths that name none."""

    default: str
    entities: list[HeldEntity]


class SampleAnswer(msgspec.Struct):
    """Some of the known ids, picked at random, and how many are known."""

    entity: str
    known: int
    ids: list[str]


class StoredEntity(StoredState, Identified):  # type: ignore[misc]  # msgspec lets what is not frozen follow
    """What Redis holds of an id."""


class StoredAnswer(msgspec.Struct):
    """What Redis holds of ids; `layout` is the one that rows are written in now."""

    entity: str
    layout: str
    stored: list[StoredEntity]


class Links(msgspec.Struct):
    """Where to go from here: what it is → its path."""

    service: str
    version: str
    links: dict[str, str]
