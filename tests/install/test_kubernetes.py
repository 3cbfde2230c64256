"""The Helm chart, rendered by Helm's own library: what the API's schemas say of it, and what this server says of it."""

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.http import HttpServer, serving
from support.servers import Server, wait_until

from featurestore.settings import describe_settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "featurestore"
SETTINGS = {variable for variable, _, _ in describe_settings()}
VERSIONS = ("1.36.0", "1.37.0")
"""The versions of Kubernetes whose schemas kubernetes-validate has."""

OF_OPERATORS = {"ServiceMonitor", "PrometheusRule"}
"""Kinds that the API itself has no schema of."""

DIGEST = f"sha256:{'0' * 64}"
VOLUME = {"name": "data", "persistentVolumeClaim": {"claimName": "rows"}}
PLAIN: dict[str, Any] = {"redis": {"existingSecret": "redis"}}
SCHEMA = 'entity = "user"\n\n[features]\nage = "float"\n'
FULL: dict[str, Any] = {
    "redis": {"url": "redis://redis:6379/0"},
    "image": {"repository": "registry.example/featurestore", "digest": DIGEST},
    "imagePullSecrets": [{"name": "registry"}],
    "writeKeys": {"existingSecret": "writers"},
    "keysFile": {"existingSecret": "keys"},
    "settings": {"FEATURESTORE_MAX_CELLS": 3_000_000, "FEATURESTORE_READY_SHARE": 0.5, "FEATURESTORE_ACCESS_LOG": True},
    "extraEnv": [{"name": "FEATURESTORE_LOG_LEVEL", "value": "warning"}],
    "gracefulTimeoutSeconds": 30,
    "preStopSeconds": 8,
    "autoscaling": {"enabled": True, "metrics": [
        {"type": "Pods", "pods": {"metric": {"name": "r"}, "target": {"type": "AverageValue", "averageValue": "9k"}}}
    ]},
    "networkPolicy": {
        "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "redisPorts": [6379, 26379],
        "redisTo": [{"podSelector": {"matchLabels": {"app": "redis"}}}],
        "extraEgress": [{"ports": [{"port": 4317, "protocol": "TCP"}]}],
    },
    "schema": {"definition": SCHEMA},
    "ingest": {
        "enabled": True, "args": ["load", "/data/users.ndjson"], "volumes": [VOLUME],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "service": {"type": "LoadBalancer", "port": 8080, "annotations": {"a": "b"}},
    "serviceAccountName": "reader", "priorityClassName": "high", "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "spot", "operator": "Exists"}], "podAnnotations": {"c": "d"}, "podLabels": {"team": "ml"},
    "affinity": {"nodeAffinity": {}}, "fullnameOverride": "features",
}  # fmt: skip
LEAST: dict[str, Any] = {
    **PLAIN, "replicas": 1, "podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False},
    "topologySpread": [], "schema": {"existingConfigMap": "features"},
}  # fmt: skip
CASES = {"plain": PLAIN, "full": FULL, "least": LEAST}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def needed(name: str) -> Any:
    """Return a module of the extra `deploy`; skip where it is not installed, which it has to be in CI."""
    found = importlib.util.find_spec(name) is not None
    assert found or not os.environ.get("CI"), f"CI installs the extra `deploy`, yet {name} is not there"
    if not found:
        pytest.skip(f"{name} is not installed: the extra `deploy`")
    return importlib.import_module(name)


def texts(values: dict[str, Any]) -> dict[str, str]:
    """What the chart's templates become, by the name of each, of values that its schema accepts."""
    with needed("helm_python").Chart.load(CHART) as chart:
        chart.validate_schema(values)
        rendered: dict[str, str] = chart.render(values, name="prod", namespace="ml")
    return {name.rpartition("/")[2]: text for name, text in rendered.items()}


def manifests(values: dict[str, Any]) -> list[dict[str, Any]]:
    found = (yaml.safe_load_all(text) for name, text in texts(values).items() if name.endswith(".yaml"))
    return [document for documents in found for document in documents if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (document,) = (each for each in documents if each["kind"] == kind)
    return document


def pods(documents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the template of each pod, by whatever makes it."""
    for document in documents:
        spec = document.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template:
            yield template


def containers(documents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for pod in pods(documents):
        yield from pod["spec"]["containers"]


def test_helm_finds_no_fault_with_the_chart() -> None:
    report = needed("helm_python").lint(CHART, PLAIN, strict=True)
    assert report["errors"] == []
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_the_schemas_of_the_api_accept_every_manifest_strictly(case: str, version: str) -> None:
    checker = needed("kubernetes_validate")
    documents = manifests(CASES[case])
    assert len(documents) >= 3
    for document in documents:
        if document["kind"] not in OF_OPERATORS:
            checker.validate(document, version, strict=True)
    mistyped = of_kind(documents, "Deployment")
    mistyped["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(checker.ValidationError):
        checker.validate(mistyped, version, strict=True)


def test_values_decide_what_there_is() -> None:
    always = {"Deployment", "Service"}
    assert {each["kind"] for each in manifests(PLAIN)} == always | {"PodDisruptionBudget", "NetworkPolicy"}
    assert {each["kind"] for each in manifests(LEAST)} == always | {"Job"}
    assert {each["kind"] for each in manifests(FULL)} == {
        *always, "PodDisruptionBudget", "NetworkPolicy", "HorizontalPodAutoscaler", "ConfigMap", "Job", "CronJob",
        "ServiceMonitor", "PrometheusRule",
    }  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_pods_are_as_the_restricted_standard_wants_them(case: str) -> None:
    documents = manifests(CASES[case])
    for pod in pods(documents):
        spec = pod["spec"]
        assert spec["securityContext"] == {
            "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }  # fmt: skip
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
    for container in containers(documents):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert {"mountPath": "/tmp", "name": "tmp"} in container["volumeMounts"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
    assert "USER 10001\n" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("case", CASES)
def test_each_selector_finds_the_servers_pods_and_no_others(case: str) -> None:
    documents = manifests(CASES[case])
    server = of_kind(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    others = [pod["metadata"]["labels"] for pod in pods(documents) if pod["metadata"]["labels"] != server]
    deployment = of_kind(documents, "Deployment")["spec"]
    spread = deployment["template"]["spec"].get("topologySpreadConstraints", [])
    found = [deployment["selector"]["matchLabels"], of_kind(documents, "Service")["spec"]["selector"]]
    found += [each["labelSelector"]["matchLabels"] for each in spread]
    found += [
        each["spec"]["selector"]["matchLabels"]
        for each in documents
        if each["kind"] in {"PodDisruptionBudget", "ServiceMonitor"}
    ]
    for selector in found:
        assert selector.items() <= server.items()
        assert not [labels for labels in others if selector.items() <= labels.items()]
    for policy in (each["spec"] for each in documents if each["kind"] == "NetworkPolicy"):
        assert all(policy["podSelector"]["matchLabels"].items() <= labels.items() for labels in (server, *others))
    for monitor in (each["spec"] for each in documents if each["kind"] == "ServiceMonitor"):
        assert monitor["selector"]["matchLabels"].items() <= of_kind(documents, "Service")["metadata"]["labels"].items()


@pytest.mark.parametrize("case", CASES)
def test_ports_are_those_that_the_server_listens_on(case: str) -> None:
    documents = manifests(CASES[case])
    (container,) = containers([of_kind(documents, "Deployment")])
    (port,) = container["ports"]
    bind = {each["name"]: each.get("value") for each in container["env"]}["FEATURESTORE_BIND"]
    assert bind == f"0.0.0.0:{port['containerPort']}"
    assert f"EXPOSE {port['containerPort']}\n" in (ROOT / "Dockerfile").read_text()
    used = [each["targetPort"] for each in of_kind(documents, "Service")["spec"]["ports"]]
    used += [container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    policies = (each["spec"] for each in documents if each["kind"] == "NetworkPolicy")
    used += [port["port"] for policy in policies for rule in policy["ingress"] for port in rule["ports"]]
    assert set(used) == {port["name"]}
    scraped = [
        each for document in documents if document["kind"] == "ServiceMonitor" for each in document["spec"]["endpoints"]
    ]
    assert {each["port"] for each in scraped} <= {
        each["name"] for each in of_kind(documents, "Service")["spec"]["ports"]
    }


@pytest.mark.parametrize("case", CASES)
def test_images_are_of_one_version_and_variables_are_settings(case: str) -> None:
    documents = manifests(CASES[case])
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    image = f"registry.example/featurestore@{DIGEST}" if case == "full" else f"featurestore:{version}"
    for container in containers(documents):
        assert container["image"] == image
        names = [each["name"] for each in container["env"]]
        assert len(names) == len(set(names))
        assert set(names) <= SETTINGS


def test_settings_are_written_as_the_server_reads_them() -> None:
    (container,) = containers([of_kind(manifests(FULL), "Deployment")])
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert values["FEATURESTORE_MAX_CELLS"] == "3000000"
    assert values["FEATURESTORE_READY_SHARE"] == "0.5"
    assert values["FEATURESTORE_ACCESS_LOG"] == "true"


@pytest.mark.parametrize("case", CASES)
def test_a_pod_has_the_time_to_finish_its_requests(case: str) -> None:
    (pod,) = pods([of_kind(manifests(CASES[case]), "Deployment")])
    (container,) = pod["spec"]["containers"]
    graceful = int({each["name"]: each.get("value") for each in container["env"]}["FEATURESTORE_GRACEFUL_TIMEOUT_S"])
    program, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert pod["spec"]["terminationGracePeriodSeconds"] > int(seconds) + graceful


def test_a_keys_file_is_mounted_so_that_a_change_of_the_secret_arrives() -> None:
    (pod,) = pods([of_kind(manifests(FULL), "Deployment")])
    (container,) = pod["spec"]["containers"]
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "keys")
    path = {each["name"]: each.get("value") for each in container["env"]}["FEATURESTORE_KEYS_FILE"]
    assert str(Path(path).parent) == mount["mountPath"]
    assert "subPath" not in mount
    assert {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o440}} in pod["spec"]["volumes"]


def test_rules_are_those_of_prometheus_and_series_have_the_job_that_they_name() -> None:
    documents = manifests(FULL)
    rules = {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == "PrometheusRule"}
    folder = ROOT / "deploy" / "prometheus"
    assert rules == {
        f"features-{kind}": yaml.safe_load((folder / f"{kind}.yml").read_text()) for kind in ("alerts", "recording")
    }
    label = of_kind(documents, "ServiceMonitor")["spec"]["jobLabel"]
    job = of_kind(documents, "Service")["metadata"]["labels"][label]
    assert f'job="{job}"' in (folder / "alerts.yml").read_text()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "no Redis is named: set redis.existingSecret"),
        ({"redis": {"url": "redis://user:word@redis:6379"}}, "redis"),
        ({**PLAIN, "replica": 3}, "replica"),
        ({**PLAIN, "settings": {"TIMEOUT_MS": 3}}, "TIMEOUT_MS"),
        ({**PLAIN, "settings": {"FEATURESTORE_BIND": "0.0.0.0:1"}}, "FEATURESTORE_BIND"),
        ({**PLAIN, "workers": 0}, "workers"),
        ({**PLAIN, "image": {"digest": "latest"}}, "digest"),
        ({**PLAIN, "ingest": {"enabled": True}}, "ingest.args is empty"),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(needed("helm_python").HelmError, match=told):
        texts(values)


def environment_of(container: dict[str, Any], url: str) -> dict[str, str]:
    """The variables of a container without those of Secrets, but for the address of Redis."""
    own = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    return {**os.environ, **own, "REDIS_URL": url}


def answers(server: HttpServer, path: str) -> bool:
    return server.get(path).status == 200


def test_what_the_pods_run_works(tmp_path: Path, valkey: Server) -> None:
    """The job applies the schema of the ConfigMap; the server's probes, and what Prometheus asks, get their answers."""
    documents = manifests({**FULL, "keysFile": {}, "writeKeys": {}})
    (job,) = containers([of_kind(documents, "Job")])
    (mount,) = (each["mountPath"] for each in job["volumeMounts"] if each["name"] == "schema")
    ((name, definition),) = of_kind(documents, "ConfigMap")["data"].items()
    assert job["args"] == ["apply", f"{mount}/{name}"]
    (tmp_path / name).write_text(definition)
    command = [sys.executable, "-m", "featurestore", "apply", tmp_path / name]
    subprocess.run(command, check=True, env=environment_of(job, valkey.socket_url), stdout=subprocess.DEVNULL)
    (container,) = containers([of_kind(documents, "Deployment")])
    assert container["args"] == ["serve"]
    of_pod = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    settings = {
        name.removeprefix("FEATURESTORE_").lower(): value for name, value in of_pod.items() if name != "REDIS_URL"
    }
    del settings["bind"]
    with serving(valkey.socket_url, tmp_path, **settings) as server:
        paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
        paths |= {each["path"] for each in of_kind(documents, "ServiceMonitor")["spec"]["endpoints"]}
        assert paths == {"/livez", "/metrics", "/readyz"}
        for path in paths:  # a busy machine may miss the deadline of a read once
            wait_until(partial(answers, server, path), what=f"a 200 of {path}")
    assert "is not a setting" not in server.log.read_text()
