"""Services: what `apply` checks of them, whose schema has them, and who may ask for them by which name."""

from collections.abc import Iterator
from typing import Any

import pytest
from support.names import beside, remove, single_redis

from featurestore import (
    BadArgumentsError,
    Definition,
    FeatureStore,
    Keys,
    SchemaError,
    Transport,
    UndeclaredFeatureError,
)
from featurestore.contract.scripts import APPLY_SCHEMA
from featurestore.errors import UnknownEntityError

FEATURES: dict[str, Any] = {"age": "float", "n": "int"}


@pytest.fixture
def items(transport: Transport) -> Iterator[FeatureStore]:
    """A store of items, whose keys are removed afterwards."""
    items = beside(transport, "item")
    yield items
    remove(items)


def applying(transport: Transport, *words: str) -> Any:
    return transport.run(APPLY_SCHEMA, [FeatureStore(transport).keys.root], words)


def test_a_service_with_a_feature_that_is_not_declared_is_refused(store: FeatureStore, transport: Transport) -> None:
    with pytest.raises(UndeclaredFeatureError, match=r"^agee of service ads is not declared in the schema$"):
        store.apply(Definition(features=FEATURES, services={"ok": ["age"], "ads": ["n", "agee"]}))
    assert transport.command("EXISTS", store.keys.root) == 0
    assert store.apply(Definition(features=FEATURES)) == 1
    before = transport.command("HGETALL", store.keys.root)
    for words in (["@service:ads", '["agee"]'], ["new", "int", "@ttl", "5", "@service:ads", '["new","agee"]']):
        with pytest.raises(UndeclaredFeatureError, match=r"^agee of service ads is not declared in the schema$"):
            applying(transport, *words)
    assert transport.command("HGETALL", store.keys.root) == before


def test_a_service_may_stand_before_its_features_and_name_those_of_before(transport: Transport) -> None:
    assert applying(transport, "@service:ads", '["age","n"]', "age", "float", "n", "int") == 1
    assert applying(transport, "@service:more", '["new","age"]', "new", "bool") == 2
    assert applying(transport, "@service:ads", "") == 3
    assert FeatureStore(transport).schema().services == {"more": ["new", "age"]}


def test_what_a_service_names_with_an_entity_is_checked_where_there_is_a_schema(
    store: FeatureStore, items: FeatureStore
) -> None:
    early = Definition(features=FEATURES, services={"carts": ["age", "item:price", "user:n"]})
    assert store.apply(early) == 1  # items are declared later
    items.apply(Definition(features={"price": "float"}, entity="item", services={"ranking": ["price", "user:age"]}))
    assert store.apply(early) == 1
    refused = {
        "item:prize": r"^item:prize of service carts is not declared in the schema of item$",
        "user:agee": r"^user:agee of service carts is not declared in the schema of user$",
    }
    for name, message in refused.items():
        with pytest.raises(UndeclaredFeatureError, match=message):
            store.apply(Definition(features={"new": "int"}, services={"carts": ["age", name]}))
    assert store.schema().version == 1
    assert store.apply(Definition(features={"new": "int"}, services={"carts": ["user:new", "user:age"]})) == 2


def test_a_name_with_the_own_entity_is_checked_before_there_is_a_schema(store: FeatureStore) -> None:
    with pytest.raises(
        UndeclaredFeatureError, match=r"^user:agee of service ads is not declared in the schema of user$"
    ):
        store.apply(Definition(features=FEATURES, services={"ads": ["user:agee"]}))
    assert store.apply(Definition(features=FEATURES, services={"ads": ["user:age"]})) == 1


class Counting:
    """A transport that notes which scripts and commands go out."""

    def __init__(self, transport: Transport) -> None:
        self._transport, self.sent = transport, list[str]()
        self.clustered = transport.clustered

    def run_many_encoded(self, script: Any, encoded: list[bytes], **options: Any) -> Any:
        self.sent.append(script.name)
        return self._transport.run_many_encoded(script, encoded, **options)

    def command(self, *words: Any, **options: Any) -> Any:
        self.sent.append(words[0])
        return self._transport.command(*words, **options)


@single_redis("a cluster has a copy of the schema in each partition")
def test_applying_is_one_round_trip_where_no_service_names_another_entity(transport: Transport) -> None:
    counting: Any = Counting(transport)
    services = {"ads": ["age"], "own": ["user:n", "age"]}
    FeatureStore(counting).apply(Definition(features=FEATURES, services=services))
    assert counting.sent == ["apply_schema"]


def test_a_read_takes_a_service_that_names_its_own_entity(store: FeatureStore) -> None:
    store.apply(Definition(features=FEATURES, services={"ads": ["user:age", "n", "age"]}))
    store.upsert([("u", {"age": 1.5, "n": 7})])
    assert store.service("ads") == ["age", "n", "age"]
    assert store.get("u", service="ads") == {"age": 1.5, "n": 7}
    assert store.query([{"user": "u"}], service="ads").to_dict() == [{"user:age": 1.5, "n": 7, "age": 1.5}]


def test_a_selection_is_of_a_list_of_names(store: FeatureStore) -> None:
    store.apply(Definition(features=FEATURES))
    store.upsert([("u", {"age": 1.5, "n": 7})])
    assert list(store.get("u", (name for name in ["n", "age"])) or ()) == ["n", "age"]
    assert store.get_json("u", (name for name in ["n", "age"])) == b'{"user_id":"u","features":{"n":7,"age":1.5}}'
    for read in (store.get, store.get_json):
        with pytest.raises(BadArgumentsError, match="not the text 'age'"):
            read("u", "age")
        with pytest.raises(BadArgumentsError, match="at least one"):
            read("u", [])


def test_queries_ask_for_a_service_of_any_entity(store: FeatureStore, items: FeatureStore) -> None:
    services = {"ads": ["n"], "carts": ["age", "item:price"]}
    store.apply(Definition(features=FEATURES, services=services))
    items.apply(Definition(features={"price": "float"}, entity="item", services={"ranking": ["price", "user:age"]}))
    store.upsert([("u", {"age": 1.5})])
    items.upsert([("i", {"price": 9.5})])
    rows = [{"user": "u", "item": "i"}]
    assert store.query(rows, service="carts").to_dict() == [{"age": 1.5, "item:price": 9.5}]
    assert store.query(rows, service="item:ranking").to_dict() == [{"item:price": 9.5, "user:age": 1.5}]
    assert items.query(rows, service="ranking").to_dict() == [{"price": 9.5, "user:age": 1.5}]
    assert items.query(rows, service="user:carts").to_dict() == [{"user:age": 1.5, "item:price": 9.5}]
    assert store.query_names("item:ranking") == ["item:price", "user:age"]


def test_a_service_that_is_not_there_says_where_it_was_looked_for(store: FeatureStore, items: FeatureStore) -> None:
    store.apply(Definition(features=FEATURES))
    items.apply(Definition(features={"price": "float"}, entity="item", services={"ranking": ["price"]}))
    rows = [{"user": "u"}]
    with pytest.raises(UndeclaredFeatureError, match=r"^no service ranking is declared in the schema of user$"):
        store.query(rows, service="ranking")
    with pytest.raises(UndeclaredFeatureError, match=r"^no service nope is declared in the schema of item$"):
        store.query(rows, service="item:nope")
    with pytest.raises(  # it has seen the items by now
        UndeclaredFeatureError, match=r"^no service ranking is declared in the schema of user; there is item:ranking$"
    ):
        store.query(rows, service="ranking")
    with pytest.raises(UnknownEntityError, match=r"^no entity shop has a schema$"):
        store.query(rows, service="shop:ranking")
    with pytest.raises(UndeclaredFeatureError, match=r"^no service item:ranking is declared in the schema of user$"):
        store.get("u", service="item:ranking")  # a read of one entity has its own services alone


@pytest.mark.parametrize("names", ["age", {"age": 1}, [7], ["a b"], [""], ["item:"], [":price"], ["a:b:c"], ["9:x"]])
def test_lists_of_services_are_checked_before_anything_is_sent(names: Any) -> None:
    with pytest.raises(SchemaError, match=r"^services\.ads = "):
        Definition(features=FEATURES, services={"ads": names}).words()


def test_an_empty_list_takes_a_service_back(store: FeatureStore) -> None:
    store.apply(Definition(features=FEATURES, services={"ads": ["age"]}))
    store.apply(Definition(features=FEATURES, services={"ads": []}))
    assert store.schema().services == {}
    with pytest.raises(BadArgumentsError, match="wants a JSON array"):
        applying(store.transport, "@service:ads", "[]")


@single_redis(
    "in a cluster the sets of ids of a partition are named in its tag, so no name of another entity is theirs"
)
def test_the_set_of_another_entity_cannot_be_an_entitys_members(store: FeatureStore, transport: Transport) -> None:
    """To sweep the one would take out the ids of the other."""
    store.apply(Definition(features={"age": "float"}))
    goods = Definition(features={"price": "float"}, entity="item", members="all_users_items")
    FeatureStore(transport, Keys("item", "all_users_items")).apply(goods)
    for members in ("all_users", "user:schema", "user:u:features", "featurestore:schemas", "all_users_items"):
        shop = Definition(features={"n": "int"}, entity="shop", members=members)
        with pytest.raises(SchemaError, match="members cannot be"):
            FeatureStore(transport, Keys("shop", members)).apply(shop)
    transport.command("DEL", "item:schema")


def test_a_name_cannot_be_the_ids_and_a_features_whichever_came_first(store: FeatureStore) -> None:
    store.apply(Definition(features={"a": "int", "pid": "int"}))
    with pytest.raises(BadArgumentsError, match="pid is the name of the id"):
        store.apply(Definition(features={"a": "int"}, join_key="pid"))
    store.apply(Definition(features={"a": "int"}, join_key="sku"))
    with pytest.raises(BadArgumentsError, match="sku is the name of the id"):
        store.apply(Definition(features={"sku": "int"}))
    with pytest.raises(SchemaError, match="join_key cannot be event_timestamp"):
        store.apply(Definition(features={"a": "int"}, join_key="event_timestamp"))
    assert list(store.schema().features) == ["a", "pid"]
