"""GETs with an API key on connections that stay open: the worker's plain lane, and what ends it."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.api_keys import made
from support.gunicorn import Gunicorn, read_response, request
from support.servers import Server, wait_until
from support.tls import make_certificate

from featurestore import Definition, FeatureStore, SyncTransport
from featurestore.access import key_file
from featurestore.access.key import id_of

USERS = 20


class Site:
    """A server where reads need a key."""

    def __init__(self, server: Gunicorn, store: FeatureStore, path: Path, secret: str) -> None:
        self.server, self.store, self.path, self.secret = server, store, path, secret

    def get(self, client: socket.socket, path: str, secret: str | None = None) -> tuple[bytes, bytes]:
        client.sendall(request(path, *([f"X-API-Key: {secret}"] if secret else [])))
        head, body = read_response(client)
        return head.split()[1], body

    def asked(self) -> tuple[int, int]:
        """Return how often the app was called by WSGI for features, and Redis for a script."""
        with self.server.connect() as client:
            app = json.loads(self.get(client, "/asked")[1])
        commands = self.store.transport.command("INFO", "commandstats").decode()
        return app.get("wsgi", 0), sum(map(int, re.findall(r"cmdstat_evalsha:calls=(\d+)", commands)))


@pytest.fixture(params=["plain", "tls"])
def site(request: pytest.FixtureRequest, valkey: Server, tmp_path: Path) -> Iterator[Site]:
    certificate = make_certificate(tmp_path) if request.param == "tls" else None
    path = tmp_path / "keys.toml"
    secret = made(path, "ranker", "read")
    with FeatureStore(SyncTransport(valkey.url, timeout=5, connect_timeout=5)) as store:
        store.apply(Definition(features={"n": "int"}))
        store.upsert([(f"u{number}", {"n": number}) for number in range(USERS)])
        server = Gunicorn(tmp_path, app="counting_app:app", certificate=certificate, REDIS_URL=valkey.url,
                          FEATURESTORE_WORKER_CLASS="featurestore", FEATURESTORE_TIMEOUT_MS="5000",
                          FEATURESTORE_CONNECT_TIMEOUT_MS="5000", FEATURESTORE_KEYS_FILE=str(path))  # fmt: skip
        yield Site(server, store, path, secret)
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def test_each_get_with_a_key_but_a_connections_first_is_gathered(site: Site) -> None:
    with site.server.connect() as client:
        assert site.get(client, "/features/u0", site.secret)[0] == b"200"
        wsgi, calls = site.asked()
        for number in range(USERS):
            status, body = site.get(client, f"/features/u{number}", site.secret)
            assert (status, json.loads(body)["features"]) == (b"200", {"n": number})
        assert site.get(client, "/features/nobody", site.secret)[0] == b"404"
        assert site.get(client, "/features/u1?features=n", site.secret)[0] == b"200"
        after_wsgi, after_calls = site.asked()
        assert (after_wsgi - wsgi, after_calls - calls) == (1, USERS + 2)  # names that nobody had asked for


def test_a_lane_begins_with_any_get_that_has_a_good_key(site: Site) -> None:
    with site.server.connect() as client:
        assert site.get(client, "/livez", site.secret)[0] == b"200"
        assert site.get(client, "/features/u0", site.secret)[0] == b"200"
        wsgi, _ = site.asked()
        for number in range(USERS):
            assert site.get(client, f"/features/u{number}", site.secret)[0] == b"200"
        assert site.asked()[0] == wsgi


def test_a_connection_that_has_been_refused_may_begin_anew(site: Site) -> None:
    with site.server.connect() as client:
        for _ in range(3):
            assert site.get(client, "/features/u0")[0] == b"401"
            assert site.get(client, "/features/u0", f"{site.secret}x")[0] == b"401"
        assert site.get(client, "/features/u0", site.secret)[0] == b"200"
        wsgi, _ = site.asked()
        assert site.get(client, "/features/u1", site.secret)[0] == b"200"
        assert site.asked()[0] == wsgi
        assert site.get(client, "/features/u0")[0] == b"401"
        assert site.get(client, "/features/u0", f"{site.secret[:-1]}!")[0] == b"401"
        assert site.get(client, "/features/u1", site.secret)[0] == b"200"
        assert site.asked()[0] == wsgi + 2


def test_each_connection_has_the_lane_of_its_own_key(site: Site) -> None:
    item = made(site.path, "items", "read", entities=["item"])
    with site.server.connect() as probe:
        wait_until(lambda: site.get(probe, "/features/u0", item)[0] == b"403")
    with site.server.connect() as one, site.server.connect() as other, site.server.connect() as none:
        for _ in range(3):
            assert site.get(one, "/features/u0", site.secret)[0] == b"200"
            assert site.get(other, "/features/u0", item)[0] == b"403"
            assert site.get(none, "/features/u0")[0] == b"401"


def test_requests_that_come_in_one_piece_are_each_looked_at(site: Site) -> None:
    with site.server.connect() as client:
        good, bad = request("/features/u0", f"X-API-Key: {site.secret}"), request("/features/u0")
        client.sendall(good + bad + good + good + bad)
        assert [read_response(client)[0].split()[1] for _ in range(5)] == [b"200", b"401", b"200", b"200", b"401"]


def test_a_key_that_is_removed_is_refused_on_connections_that_are_open(site: Site) -> None:
    other = made(site.path, "other", "read")
    with ExitStack() as stack:
        first, second = (stack.enter_context(site.server.connect()) for _ in range(2))
        assert site.get(first, "/features/u0", site.secret)[0] == b"200"
        wait_until(lambda: site.get(second, "/features/u0", other)[0] == b"200")
        key_file.remove(str(site.path), id_of(site.secret))
        wait_until(lambda: site.get(first, "/features/u0", site.secret)[0] == b"401")
        assert site.get(second, "/features/u0", other)[0] == b"200"
        text = site.path.read_text()
        site.path.write_text("[[key]")  # and a broken file changes nothing
        wait_until(lambda: "the keys stay as they were" in site.server.text())
        assert site.get(second, "/features/u0", other)[0] == b"200"
        assert site.get(first, "/features/u0", site.secret)[0] == b"401"
        site.path.write_text(text)
    assert site.secret not in site.server.text()


def test_a_key_that_comes_back_has_its_lane_again(site: Site) -> None:
    text = site.path.read_text()
    with site.server.connect() as client:
        assert site.get(client, "/features/u0", site.secret)[0] == b"200"
        site.path.write_text("")
        wait_until(lambda: site.get(client, "/features/u0", site.secret)[0] == b"401")
        site.path.write_text(text)
        wait_until(lambda: site.get(client, "/features/u0", site.secret)[0] == b"200")
        wsgi, _ = site.asked()
        assert site.get(client, "/features/u0", site.secret)[0] == b"200"
        assert site.asked()[0] == wsgi


def problems(site: Site, client: socket.socket, code: str) -> int:
    """Return how often a problem was counted; the client's key may read metrics."""
    text = site.get(client, "/metrics", site.secret)[1].decode()
    found = re.search(rf'featurestore_problems_total{{code="{code}"}} (\d+)', text)
    return int(found[1]) if found else 0


def test_refusals_are_counted_as_problems_by_code(site: Site) -> None:
    site.secret = made(site.path, "watcher", "metrics", "read")
    item = made(site.path, "items", "read", entities=["item"])
    slow = made(site.path, "slow", "read", rate=0.01, burst=1)
    with site.server.connect() as watcher, site.server.connect() as client, site.server.connect() as limited:
        wait_until(lambda: site.get(watcher, "/metrics", site.secret)[0] == b"200")
        wait_until(lambda: site.get(limited, "/features/u0", slow)[0] == b"200")
        before = {code: problems(site, watcher, code) for code in ("NOKEY", "BADKEY", "FORBIDDEN", "RATELIMIT")}
        for secret, status in ((None, b"401"), ("nobody", b"401"), (item, b"403")):
            assert site.get(client, "/features/u0", secret)[0] == status
        for _ in range(5):  # by the app, and then by the lane
            assert site.get(limited, "/features/u0", slow)[0] == b"429"
        after = {code: problems(site, watcher, code) - count for code, count in before.items()}
    assert after == {"NOKEY": 1, "BADKEY": 1, "FORBIDDEN": 1, "RATELIMIT": 5}


def test_a_batch_that_is_too_much_stops_no_single_get(site: Site) -> None:
    mixed = made(site.path, "mixed", "read", rate=20, burst=2500)
    body = json.dumps({"ids": [f"u{number}" for number in range(1000)]}).encode()
    batch = request("/features/batch", f"X-API-Key: {mixed}", f"Content-Length: {len(body)}", method="POST", body=body)
    with site.server.connect() as single, site.server.connect() as client:
        wait_until(lambda: site.get(single, "/features/u0", mixed)[0] == b"200")

        def refused() -> bool:
            client.sendall(batch)
            return read_response(client)[0].split()[1] == b"429"

        wait_until(refused)
        for _ in range(10):  # a token comes each 50 ms; the batch has to wait for 25 s
            wait_until(lambda: site.get(single, "/features/u0", mixed)[0] == b"200", timeout=5)
