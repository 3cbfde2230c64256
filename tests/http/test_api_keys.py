"""Who may do what over HTTP: every route of the app, with every kind of key."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import falcon
import falcon.testing
import pytest
from support.api_keys import made
from support.servers import Server

from featurestore import Definition, FeatureStore, Keys, SyncTransport
from featurestore.access.keyring import Keyring
from featurestore.api.access import KEY_NAME, OPEN, RULES, Access
from featurestore.api.app import create_app
from featurestore.api.counters import ROUTES, Board, Meter
from featurestore.api.fast_reads import FastReads

EXPIRED, UNKNOWN, NONE = "expired", "unknown", "none"
KINDS = ("reader", "writer", "both", "scraper", "of items", EXPIRED, UNKNOWN, NONE)
MAY = {"reader": {"read"}, "writer": {"write"}, "both": {"read", "write"}, "scraper": {"metrics"},
       "of items": {"read", "write", "metrics"}}  # fmt: skip
PATHS = [route for route in ROUTES if route != "other"]
NDJSON = b'{"id":"u","features":{"n":1}}\n'
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/features/batch"): {"ids": ["u"]},
    ("POST", "/entities/{entity}/features/batch"): {"ids": ["u"]},
    ("POST", "/features/ingest"): NDJSON,
    ("POST", "/entities/{entity}/features/ingest"): NDJSON,
    ("POST", "/features/{entity_id:path}"): {"incr": {"n": 1}},
    ("POST", "/entities/{entity}/features/{entity_id:path}"): {"incr": {"n": 1}},
    ("PUT", "/features/{entity_id:path}"): {"features": {"n": 1}},
    ("PUT", "/entities/{entity}/features/{entity_id:path}"): {"features": {"n": 1}},
    ("POST", "/features/query"): {"rows": [{"user": "u"}], "features": ["n"]},
    ("POST", "/get-online-features"): {"entities": {"user_id": ["u"]}, "features": ["user:n"]},
    ("POST", "/write-to-online-store"): {"feature_view_name": "user", "df": {"user_id": ["u"], "n": [1]}},
    ("POST", "/push"): {"push_source_name": "user", "df": {"user_id": ["u"], "n": [1]}},
}


class Site(NamedTuple):
    """An app where reads need a key, and a secret of each kind."""

    client: falcon.testing.TestClient
    app: FastReads
    secrets: dict[str, str]
    app_of_routes: falcon.App[Any, Any]

    def ask(self, method: str, path: str, kind: str, body: Any = None) -> falcon.testing.Result:
        headers = {"X-API-Key": self.secrets[kind]} if kind != NONE else {}
        sent = {"body": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        return self.client.simulate_request(method, path, headers=headers, **sent)


@pytest.fixture(scope="module")
def transport(servers: dict[str, Server]) -> Iterator[SyncTransport]:
    link = SyncTransport(servers["valkey9"].socket_url, timeout=5, connect_timeout=5)
    link.command("FLUSHALL")
    services = {"near": ["n"], "wide": ["n", "item:n"]}
    FeatureStore(link).apply(Definition(features={"n": "int"}, services=services))
    FeatureStore(link, Keys.of("item")).apply(Definition(features={"n": "int"}, entity="item"))
    yield link
    link.command("FLUSHALL")
    link.close()


@pytest.fixture
def site(transport: SyncTransport, tmp_path: Path) -> Site:
    FeatureStore(transport).upsert([("u", {"n": 1})])
    FeatureStore(transport, Keys.of("item")).upsert([("u", {"n": 1})])
    path = tmp_path / "keys.toml"
    secrets = {
        kind: made(path, kind.replace(" ", "-"), *sorted(may), **({"entities": ["item"]} if "item" in kind else {}))
        for kind, may in MAY.items()
    }
    secrets[EXPIRED] = made(path, EXPIRED, "read", "write", "metrics", expires=datetime.now(UTC) - timedelta(1))
    secrets[UNKNOWN] = "fs_00000000_" + "A" * 43
    store, meter = FeatureStore(transport), Meter(Board())
    access = Access(Keyring(path=str(path)))
    app = create_app(store, access=access, meter=meter)
    fast = FastReads(store, app, meter, access=access)
    return Site(falcon.testing.TestClient(fast), fast, secrets, app)


def routes_of(app: falcon.App[Any, Any]) -> set[str]:
    """Return the app's routes, as Falcon's own tool finds them."""
    from falcon.inspect import inspect_app  # noqa: PLC0415

    return {route.path for route in inspect_app(app).routes}


def test_every_route_has_a_rule(site: Site) -> None:
    assert routes_of(site.app_of_routes) == set(PATHS)
    assert set(PATHS) <= RULES.keys()


def test_every_method_of_every_route_has_a_rule(site: Site) -> None:
    from falcon.inspect import inspect_app  # noqa: PLC0415

    for route in inspect_app(site.app_of_routes).routes:
        methods = {each.method for each in route.methods if not each.internal and each.method != "OPTIONS"}
        assert methods == set(RULES[route.path].needs), route.path


def test_a_route_without_a_rule_is_nobodys(site: Site) -> None:
    class New:
        def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None:
            raise AssertionError("this must not be reached")

    site.app_of_routes.add_route("/new", New())
    for kind in KINDS:
        assert site.ask("GET", "/new", kind).status_code == 403


def expected(kind: str, need: str, entity: str) -> int | None:
    """Return the status of a refusal; None where a request is let in."""
    if need == OPEN:
        return None
    if kind in {NONE, UNKNOWN, EXPIRED}:
        return 401
    return None if need in MAY[kind] and (kind != "of items" or entity == "item" or need == "metrics") else 403


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("route", PATHS)
def test_every_route_lets_in_those_who_may(site: Site, route: str, kind: str) -> None:
    for method, need in RULES[route].needs.items():
        for entity in ("user", "item") if "{entity}" in route else ("user",):
            path = route.replace("{entity}", entity).replace("{entity_id:path}", "u")
            answer = site.ask(method, path, kind, BODIES.get((method, route)))
            refusal = expected(kind, need, "item" if route == "/entities" else entity)  # which shows a key its own
            if refusal is None:
                assert answer.status_code not in {401, 403, 405, 429, 500, 503}, (method, path, answer.text)
                continue
            assert answer.status_code == refusal, (method, path, answer.text)
            assert ("www-authenticate" in answer.headers) == (refusal == 401)
            if not RULES[route].by_itself and method != "HEAD":
                code = {NONE: "NOKEY", UNKNOWN: "BADKEY", EXPIRED: "BADKEY"}.get(kind, "FORBIDDEN")
                assert answer.json["code"] == code
            assert '"n"' not in answer.text


def test_a_refused_write_writes_nothing(site: Site) -> None:
    for kind in ("reader", "of items", EXPIRED, UNKNOWN, NONE):
        for (method, route), body in BODIES.items():
            if RULES[route].needs[method] == "write" and "{entity}" not in route:
                site.ask(method, route.replace("{entity_id:path}", "u"), kind, body)
        site.ask("DELETE", "/features/u", kind)
    assert site.ask("GET", "/features/u", "reader").json["features"] == {"n": 1}


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"rows": [{"item": "u"}], "features": ["item:n"]}, False),
        ({"rows": [{"user": "u", "item": "u"}], "features": ["n", "item:n"]}, True),
        ({"rows": [{"user": "u"}], "features": ["user:n"]}, True),
        ({"rows": [{"user": "u"}], "service": "near"}, True),
        ({"rows": [{"user": "u", "item": "u"}], "service": "wide"}, True),
        ({"rows": [{"user": "u"}], "service": "user:near"}, True),
        ({"rows": [{"other": "u"}], "features": ["other:n"]}, True),
    ],
)
def test_a_query_is_let_in_by_all_the_entities_that_it_reads(site: Site, body: Any, *, refused: bool) -> None:
    answer = site.ask("POST", "/features/query", "of items", body)
    assert answer.status_code == (403 if refused else 200), answer.text
    assert site.ask("POST", "/features/query", "reader", body).status_code in {200, 404}


@pytest.mark.parametrize(
    ("features", "refused"), [(["item:n"], False), (["user:n"], True), (["item:n", "user:n"], True)]
)
def test_feasts_reads_are_let_in_by_all_their_views(site: Site, features: list[str], *, refused: bool) -> None:
    body = {"entities": {"user_id": ["u"], "item_id": ["u"]}, "features": features, "full_feature_names": True}
    answer = site.ask("POST", "/get-online-features", "of items", body)
    assert answer.status_code == (403 if refused else 200), answer.text
    if refused:
        assert json.loads(answer.json) == {
            "module": "feast.errors",
            "class": "FeastPermissionError",
            "message": "the API key of-items may not read the entity user",
        }


def test_feasts_services_are_let_in_by_their_views(site: Site) -> None:
    for service in ("wide", "near", "user:near"):
        body = {"entities": {"user_id": ["u"], "item_id": ["u"]}, "feature_service": service}
        assert site.ask("POST", "/get-online-features", "of items", body).status_code == 403


def test_ids_that_are_called_like_a_route_need_what_ids_need(site: Site) -> None:
    for path in ("batch", "ingest", "query", "health", "a/b", "../livez"):
        assert site.ask("GET", f"/features/{path}", NONE).status_code == 401
        assert site.ask("GET", f"/features/{path}", "reader").status_code == 404


def test_other_ways_to_write_a_path_are_let_in_alike(site: Site) -> None:
    for path in ("/features/u?", "/features/u?features=n", "/features/u?service=wide", "/features/%75", "/features//u"):
        assert site.ask("GET", path, NONE).status_code == 401
        assert site.ask("GET", path, "of items").status_code == 403


def test_a_key_is_a_header_field_or_a_bearer_token(site: Site) -> None:
    secret = site.secrets["reader"]
    for headers, status in (
        ({"X-API-Key": secret}, 200),
        ({"Authorization": f"Bearer {secret}"}, 200),
        ({"Authorization": f"bearer  {secret} "}, 200),
        ({"Authorization": f"Basic {secret}"}, 401),
        ({"Authorization": secret}, 401),
        ({"X-API-Key": f"{secret},{secret}"}, 401),
        ({"X-API-Key": f"{secret}x", "Authorization": f"Bearer {secret}"}, 401),
        ({"X-API-Key": "\xff"}, 401),
        ({"X-API-Key": ""}, 401),
    ):
        for path in ("/features/u", "/features/u?features=n"):
            assert site.client.simulate_get(path, headers=headers).status_code == status, headers


def test_the_name_of_the_key_is_in_the_environment_for_logs(site: Site) -> None:
    for path in ("/features/u", "/schema"):
        environ = falcon.testing.create_environ(path, headers={"X-API-Key": site.secrets["reader"]})
        list(site.app(environ, lambda *_: None))
        assert environ[KEY_NAME] == "reader"


def test_what_is_wrong_is_said_and_no_secret_repeated(site: Site) -> None:
    said = {
        NONE: "reading needs an API key: X-API-Key: KEY, or Authorization: Bearer KEY",
        UNKNOWN: "this API key is not known",
        EXPIRED: "the API key expired has expired",
        "writer": "the API key writer may not read",
        "of items": "the API key of-items may not read the entity user",
    }
    for kind, text in said.items():
        answer = site.ask("GET", "/features/u", kind)
        assert answer.json["detail"] == text
        assert kind == NONE or site.secrets[kind] not in answer.text
    assert site.ask("GET", "/features/u", NONE).headers["www-authenticate"] == "Bearer"
    assert site.ask("GET", "/features/u", UNKNOWN).headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_refusals_are_counted(site: Site) -> None:
    site.ask("GET", "/features/u", NONE)
    site.ask("GET", "/schema", NONE)
    metrics = site.ask("GET", "/metrics", "scraper").text
    for route in ("/features/{id}", "/schema"):
        lines = [line for line in metrics.splitlines() if line.startswith("featurestore_requests_total{")]
        assert [line for line in lines if f'route="{route}"' in line and 'status="401"' in line], lines


def test_reads_are_open_without_keys_that_may_read(transport: SyncTransport) -> None:
    store, meter = FeatureStore(transport), Meter(Board())
    store.upsert([("u", {"n": 1})])
    access = Access(Keyring(write_keys="w"))
    app = FastReads(store, create_app(store, access=access, meter=meter), meter, access=access)
    client = falcon.testing.TestClient(app)
    for headers in ({}, {"X-API-Key": "wrong"}):
        assert client.simulate_get("/features/u", headers=headers).status_code == 200
        assert client.simulate_get("/metrics", headers=headers).status_code == 200


def test_strangers_are_told_the_status_alone(servers: dict[str, Server], site: Site) -> None:
    assert site.ask("GET", "/health", NONE).json == {"status": "healthy"}
    away = SyncTransport("redis://127.0.0.1:1", timeout=0.1, connect_timeout=0.1)
    store = FeatureStore(away)
    client = falcon.testing.TestClient(create_app(store, access=Access(Keyring("r"))))
    for path in ("/health", "/readyz"):
        stranger = client.simulate_get(path)
        assert (stranger.status_code, stranger.json) == (503, {"status": "unhealthy"})
        known = client.simulate_get(path, headers={"X-API-Key": "r"})
        assert re.search(r"127\.0\.0\.1", known.json["reason"])


@pytest.mark.parametrize("path", ["/health", "/readyz"])
def test_where_reads_are_open_health_says_why_redis_fails_and_tells_where_it_is_to_keys_alone(path: str) -> None:
    store = FeatureStore(SyncTransport("redis://127.0.0.1:1", timeout=0.1, connect_timeout=0.1))
    client = falcon.testing.TestClient(create_app(store, access=Access(Keyring(write_keys="w"))))
    stranger = client.simulate_get(path).json["reason"]
    assert "Connection refused" in stranger
    assert "127.0.0.1" not in stranger
    assert "127.0.0.1:1" in client.simulate_get(path, headers={"X-API-Key": "w"}).json["reason"]
