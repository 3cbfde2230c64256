"""Alert rules and the dashboard: they can be read, they fire, and name only metrics and labels that a server has."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.samples import Sample
from support.http import serving
from support.metrics import scraped
from support.ports import needs
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore, read_definition
from featurestore.keys import Keys

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
RUNBOOKS = ROOT / "docs" / "monitoring.md"
DASHBOARD = json.loads((GRAFANA / "featurestore.json").read_text())
RULES: list[dict[str, Any]] = [
    rule
    for file in ("alerts.yml", "recording.yml")
    for group in yaml.safe_load((PROMETHEUS / file).read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule["alert"] for rule in RULES if "alert" in rule]
OF_PROMETHEUS = {"job", "instance"}
SELECTOR = re.compile(
    r"\b((?:featurestore|job|job_script|job_entity)[_:][\w:]*)(?:\{([^}\"]*(?:\"[^\"]*\"[^}\"]*)*)\})?"
)
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
LATER = {
    "featurestore_redis_call_duration_seconds_count",
    "featurestore_sampled_row_age_seconds_count",
    "featurestore_schema_version",
}
"""What a server tells up to a second after the first request, or not of each request."""

GROUPED = re.compile(r"\b(?:by|ignoring|on)\s*\(([^)]*)\)")


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def questions() -> list[str]:
    """Return all of PromQL that the dashboard asks, with values in the places of variables."""
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    asked += [each["expr"] for each in DASHBOARD["annotations"]["list"]]
    return [re.sub(r"\$\w+", ".*", each.replace("$__rate_interval", "5m")) for each in asked]


@pytest.fixture(scope="module")
def samples(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Sample]]:
    """What a server says after traffic of every kind."""
    valkey = servers["valkey9"]
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        store.transport.command("FLUSHALL")
        store.apply(read_definition())
        store.upsert([("u1", {"age": 1.0})])
        items = FeatureStore(store.transport, Keys("item"))
        items.apply(Definition(features={"price": "float"}, entity="item"))
        items.upsert([("i1", {"price": 2.5})])
        with serving(valkey.url, tmp_path_factory.mktemp("server"), write_keys="key", timeout_ms="5000") as server:
            key = {"X-API-Key": "key"}
            server.request("PUT", "/features/u1", {"features": {"age": 2}}, **key)
            server.request("POST", "/features/ingest", b'{"id":"u1","features":{"age":"x"}}', **key)
            server.request("POST", "/features/batch", {"ids": ["u1"]})
            server.get("/entities/item/features/i1")
            server.get("/features/nobody")
            server.get("/readyz")

            def told() -> bool:  # what a worker tells once a second, and what it samples
                server.get("/features/u1")
                return {each.name for each in scraped(server)} >= LATER

            wait_until(told, what="all that a worker tells later than it counts requests")
            yield scraped(server)
        store.transport.command("FLUSHALL")


@pytest.fixture(scope="module")
def labels(samples: list[Sample]) -> dict[str, set[str]]:
    """The labels of each series that a server has, and of each that is recorded."""
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(sample.name, set(OF_PROMETHEUS)).update(sample.labels)
    for rule in RULES:
        if "record" in rule:
            found[rule["record"]] = set(rule["record"].partition(":")[0].split("_"))
    return found


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *questions()])
def test_what_is_asked_for_is_there(expression: str, labels: dict[str, set[str]]) -> None:
    asked = SELECTOR.findall(expression)
    assert asked or "redis_" in expression or expression.startswith(("up{", "ALERTS{"))
    known = set(OF_PROMETHEUS)
    for name, wanted in asked:
        assert name in labels, f"no server has {name}"
        assert {*LABEL.findall(wanted)} <= labels[name], f"{name} has {labels[name]}"
        known |= labels[name]
    if asked:
        grouped = {each.strip() for words in GROUPED.findall(expression) for each in words.split(",")}
        assert grouped <= known


def test_every_metric_of_a_server_is_on_the_dashboard(samples: list[Sample]) -> None:
    shown = {name for expression in questions() for name, _ in SELECTOR.findall(expression)}
    families = {re.sub(r"_(bucket|count|sum)$", "", each) for each in shown}
    created = {each.name for each in samples if each.name.endswith("_created")}
    assert not created
    assert {re.sub(r"_(bucket|count|sum)$", "", each.name) for each in samples} <= families


def test_promtool_reads_the_rules_and_what_the_dashboard_asks(tmp_path: Path) -> None:
    needs("promtool (Debian: prometheus)", "promtool", "--version")
    rules = {"groups": [{"name": "asked", "rules": [
        {"record": f"asked:{number}", "expr": each} for number, each in enumerate(questions())]}]}  # fmt: skip
    asked = tmp_path / "asked.yml"
    asked.write_text(yaml.safe_dump(rules))
    files: list[str | Path] = [PROMETHEUS / "alerts.yml", PROMETHEUS / "recording.yml", asked]
    subprocess.run(["promtool", "check", "rules", *files], check=True, capture_output=True, timeout=60)
    check: list[str | Path] = ["promtool", "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml"]
    subprocess.run(check, check=True, capture_output=True, timeout=60)


def test_each_alert_fires_when_it_should_and_is_silent_when_all_is_well() -> None:
    needs("promtool (Debian: prometheus)", "promtool", "--version")
    told = subprocess.run(["promtool", "test", "rules", "alerts.test.yml"], cwd=PROMETHEUS, check=False,
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    cases = {each["name"] for each in yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]}
    assert cases >= {f"{alert} {what}" for alert in ALERTS for what in ("fires", "is silent")}


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: str(rule["alert"]))
def test_each_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert ROOT / page == RUNBOOKS
    headings = re.findall(r"^### (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    assert rule["alert"] in headings
    assert anchor == rule["alert"].lower()


def test_no_runbook_is_left_without_an_alert() -> None:
    assert set(re.findall(r"^### (Featurestore\w+)$", RUNBOOKS.read_text(), re.MULTILINE)) == set(ALERTS)


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["datasource"]["uid"] == "${datasource}"
        assert [target["refId"] for target in panel["targets"]] == list("ABCD"[: len(panel["targets"])])
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= variables


def test_the_compose_profile_mounts_what_is_there() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    watching = {name: each for name, each in services.items() if each.get("profiles") == ["observability"]}
    assert watching.keys() == {"prometheus", "grafana", "redis-exporter"}
    for each in watching.values():
        assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", each["image"])
        for volume in each.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists()
        assert all(port.startswith("127.0.0.1:") for port in each.get("ports", []))
    scraped_at = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in scraped_at for config in job["static_configs"] for target in config["targets"]}
    assert {target.partition(":")[0] for target in targets} - {"localhost"} <= services.keys()
