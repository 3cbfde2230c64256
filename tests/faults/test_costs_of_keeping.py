"""What is kept of what GETs are served: what it costs where nothing is kept, and who answers where something is."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.cluster import Watched, ask
from support.gunicorn import Gunicorn, read_response, request
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore
from featurestore.contract.served import kept_entry
from featurestore.schema.services import LogDefinition, ServiceDefinition
from featurestore.transport.blocking_cluster import SyncClusterTransport
from featurestore.transport.replicas import Reading

FEATURES: dict[str, Any] = {"n": "int", "name": "string"}
USERS = 40


class Asked(NamedTuple):
    """How often the app was asked; what Redis was: its calls, its bytes, and entries; and how many rows were kept."""

    begin: int
    wsgi: int
    evalsha: int
    bytes: int
    xadd: int
    kept: int

    def __sub__(self, other: "Asked") -> "Asked":
        return Asked(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


class Site:
    """A server with the real app in it, and the store that it serves."""

    def __init__(self, server: Gunicorn, store: FeatureStore) -> None:
        self.server, self.store = server, store

    def declare(self, **logs: LogDefinition) -> None:
        services = {name: ServiceDefinition(["n"], logs[name]) if name in logs else ["n"] for name in ("one", "other")}
        self.store.apply(Definition(features=FEATURES, services=services))

    def get(self, client: socket.socket, path: str, *lines: str) -> tuple[bytes, bytes]:
        client.sendall(request(path, *lines))
        head, body = read_response(client)
        return head.split()[1], body

    def asked(self) -> Asked:
        with self.server.connect() as client:
            app = json.loads(self.get(client, "/asked")[1])
            metrics = self.get(client, "/metrics")[1].decode()
        told = self.store.transport.command("INFO", "everything").decode()
        calls = {name: int(count) for name, count in re.findall(r"cmdstat_(\w+):calls=(\d+)", told)}
        found = re.search(r"total_net_input_bytes:(\d+)", told)
        kept = re.search(r'^featurestore_served_rows_total\{outcome="kept"\} (\S+)', metrics, re.MULTILINE)
        assert found
        assert kept
        return Asked(app.get("begin", 0), app.get("wsgi", 0), calls.get("evalsha", 0), int(found[1]),
                     calls.get("xadd", 0), int(float(kept[1])))  # fmt: skip

    def cost(self, service: str, *lines: str) -> Asked:
        """Return what GETs by a service ask, on a connection that has been used before."""
        with self.server.connect() as client:
            for _ in range(3):
                assert self.get(client, f"/features/u0?service={service}", *lines)[0] == b"200"
            before = self.asked()
            for number in range(USERS):
                status, body = self.get(client, f"/features/u{number}?service={service}", *lines)
                assert (status, json.loads(body)) == (b"200", {"user_id": f"u{number}", "features": {"n": number}})
            return self.asked() - before

    def kept(self) -> list[str]:
        """Return the ids of whose what was served is kept, in order."""
        entries = self.store.transport.command("XRANGE", "user:one:served", "-", "+")
        return [kept_entry(each).row.entities["user"][0] for each in entries]


@pytest.fixture
def site(valkey: Server, tmp_path: Path) -> Iterator[Site]:
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        store.apply(Definition(features=FEATURES))
        store.upsert([(f"u{number}", {"n": number, "name": f"name {number}"}) for number in range(USERS)])
        server = Gunicorn(tmp_path, app="counting_app:app", REDIS_URL=valkey.url,
                          FEATURESTORE_WORKER_CLASS="featurestore", FEATURESTORE_TIMEOUT_MS="5000",
                          FEATURESTORE_CONNECT_TIMEOUT_MS="5000")  # fmt: skip
        yield Site(server, store)
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def test_a_service_that_keeps_nothing_costs_the_same_beside_one_that_does(site: Site) -> None:
    site.declare()
    without = site.cost("one")
    site.declare(other=LogDefinition(max_entries=1000))
    with site.server.connect() as client:
        assert b'"logs":{"other"' in site.get(client, "/schema")[1]  # and so the server goes by it
    beside = site.cost("one")
    for cost in (without, beside):
        assert (cost.begin, cost.xadd, cost.kept) == (USERS, 0, 0)
        assert (cost.wsgi, cost.evalsha) == (0, USERS)
    assert without.bytes == beside.bytes


def test_what_is_not_chosen_stays_in_the_lane(site: Site) -> None:
    site.declare(one=LogDefinition(1e-12, max_entries=1000))
    cost = site.cost("one")
    assert cost._replace(bytes=0) == (USERS, 0, USERS, 0, 0, 0)


def test_what_is_chosen_is_kept_and_waits_for_nothing(site: Site) -> None:
    site.declare(one=LogDefinition(max_entries=1000))
    with site.server.connect() as client:
        for number in range(USERS):
            assert site.get(client, f"/features/u{number}?service=one")[0] == b"200"
        assert site.get(client, "/features/nobody?service=one")[0] == b"404"
    wait_until(lambda: site.asked().kept == USERS + 1, what="all that was served")
    assert site.kept() == [*(f"u{number}" for number in range(USERS)), "nobody"]
    assert site.store.transport.command("XLEN", "user:one:served") == USERS + 1


def test_what_the_lane_leaves_is_what_is_kept(site: Site) -> None:
    site.declare(one=LogDefinition(0.5, max_entries=100_000))
    before = site.asked().kept
    costs = [site.cost("one") for _ in range(5)]
    chosen = sum(cost.wsgi for cost in costs)
    assert sum(cost.begin for cost in costs) == 5 * USERS
    assert 0.3 * 5 * USERS < chosen < 0.7 * 5 * USERS
    warming = 5 * 3  # of which each may be kept, too
    wait_until(lambda: site.asked().kept >= before + chosen, what="all that was chosen")
    assert site.asked().kept <= before + chosen + warming


def test_a_server_that_is_stopped_sends_what_it_has_to_keep(site: Site) -> None:
    site.declare(one=LogDefinition(max_entries=1000))
    clients = [site.server.connect() for _ in range(20)]
    for number, client in enumerate(clients):
        client.sendall(request(f"/features/u{number}?service=one"))
    answered = [read_response(client)[0].split()[1] for client in clients]
    assert site.server.stop() == 0
    for client in clients:
        client.close()
    assert answered == [b"200"] * 20
    assert sorted(site.kept()) == sorted(f"u{number}" for number in range(20))


def test_a_request_with_an_id_is_chosen_by_it(site: Site) -> None:
    site.declare(one=LogDefinition(0.5, max_entries=1000))
    with site.server.connect() as client:
        for turn in range(20):
            for number in range(3):
                path = f"/features/u{number}?service=one"
                assert site.get(client, path, f"X-Request-Id: order-{turn}")[0] == b"200"
    wait_until(lambda: site.asked().kept == site.asked().xadd > 0, what="what was served")
    entries = [kept_entry(each) for each in site.store.transport.command("XRANGE", "user:one:served", "-", "+")]
    by_request: dict[str, list[str]] = {}
    for each in entries:
        by_request.setdefault(each.request, []).append(each.row.entities["user"][0])
    assert 0 < len(by_request) < 20
    assert {tuple(ids) for ids in by_request.values()} == {("u0", "u1", "u2")}


def test_replicas_answer_and_the_primary_keeps(watched: Watched) -> None:
    transport = SyncClusterTransport(watched.url, timeout=2, connect_timeout=2, reading=Reading("replicas"))
    with FeatureStore(transport) as store:
        services = {"one": ServiceDefinition(["n"], LogDefinition(max_entries=1000))}
        store.apply(Definition(features=FEATURES, services=services))
        store.upsert([("u1", {"n": 1})])
        wait_until(lambda: all(ask(server, "EXISTS", "user:u1:features") for server in watched.servers))
        for server in watched.servers:
            if ask(server, "ROLE")[0] == "slave":
                ask(server, "REPLICAOF", "127.0.0.1", "1")
        store.upsert([("u1", {"n": 2})])
        assert store.serve("one", ["u1"]) == [{"n": 1}]
        assert store.serve("one", ["u1"], read_from="primary") == [{"n": 2}]
        wait_until(lambda: store.served_counts == (2, 0), what="both entries")
        entries = map(kept_entry, transport.command("XRANGE", "user:one:served", "-", "+", writes=True))
        assert [each.row.values for each in entries] == [[1], [2]]


def test_a_request_without_an_id_is_kept_under_the_one_of_its_response(site: Site) -> None:
    site.declare(one=LogDefinition(max_entries=1000))
    with site.server.connect() as client:
        told = []
        for extra in ("", "X-Request-Id: not well-formed, since it has spaces"):
            client.sendall(request("/features/ann?service=one", *filter(None, [extra])))
            head = read_response(client)[0].decode("latin-1")
            told.append(head.lower().partition("x-request-id: ")[2].partition("\r\n")[0])
    wait_until(lambda: site.asked().kept == 2, what="what was served")
    entries = [kept_entry(each) for each in site.store.transport.command("XRANGE", "user:one:served", "-", "+")]
    assert [each.request for each in entries] == told
    assert all(told)
