"""The deployment files name only settings that exist, and the tools that read them accept them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from support.binaries import binaries
from support.cluster import Node

from featurestore.settings import describe_settings

ROOT = Path(__file__).parents[2]
SETTINGS = {variable for variable, _, _ in describe_settings()}


COMPOSE = ("docker-compose.yml", "docker-compose.cluster.yml")


@pytest.mark.parametrize("file", COMPOSE)
def test_compose_sets_only_settings_that_exist(file: str) -> None:
    compose = yaml.safe_load((ROOT / file).read_text())
    assert "version" not in compose
    ours = [service for service in compose["services"].values() if service["image"].startswith("featurestore")]
    used = {name for service in ours for name in service["environment"]}
    assert used
    assert used <= SETTINGS


CLUSTER = yaml.safe_load((ROOT / "docker-compose.cluster.yml").read_text())["services"]


def test_the_cluster_of_compose_is_made_of_the_nodes_that_there_are() -> None:
    nodes = {name: each for name, each in CLUSTER.items() if name.startswith("redis-")}
    addresses = [f"{each['networks']['cluster']['ipv4_address']}:6379" for each in nodes.values()]
    assert CLUSTER["cluster"]["environment"]["NODES"].split() == addresses
    assert CLUSTER["cluster"]["depends_on"].keys() == nodes.keys()
    seeds = CLUSTER["api"]["environment"]["REDIS_URL"].partition("://")[2].split(",")
    assert {seed.partition(":")[0] for seed in seeds} <= nodes.keys()


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_what_makes_the_cluster_of_compose_makes_one_and_then_leaves_it_alone(tmp_path: Path) -> None:
    if "redis7" not in binaries():
        pytest.skip("this machine has no redis7")
    *shell, script = CLUSTER["cluster"]["command"]
    nodes = [Node(binaries()["redis7"], tmp_path / str(number)) for number in range(6)]
    try:
        for node in nodes:
            node.start()
        environment = {**os.environ, "NODES": " ".join(f"127.0.0.1:{node.port}" for node in nodes)}
        for _ in range(2):
            command = [*shell, script.replace("$$", "$")]
            subprocess.run(command, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)
        assert sorted(node.is_primary for node in nodes) == [False] * 3 + [True] * 3
        assert "cluster_slots_ok:16384" in nodes[0].command("CLUSTER", "INFO")
    finally:
        for node in nodes:
            node.stop()


def test_contributors_are_told_the_packages_that_ci_installs() -> None:
    steps = ROOT / ".ci" / "run"
    if not steps.exists():
        pytest.skip("this is no checkout")
    lines = re.findall(r"apt-get install (.+?) >/dev/null", steps.read_text())
    installed = [word for line in lines for word in line.split() if not word.startswith("-")]
    assert len(installed) == len(set(installed)) > 20
    page = (ROOT / "CONTRIBUTING.md").read_text()
    told = re.search(r"^Linux, Python 3\.11.*?(?=`make perf`)", page, re.MULTILINE | re.DOTALL)
    assert told
    words = re.findall(r"[\w.-]+", told[0])
    said_otherwise = {"python3-dev", "python3-venv", "openjdk-17-jdk-headless"}  # "header files", "a JDK"
    assert [each for each in installed if words.count(each) != 1 and each not in said_otherwise] == []


def test_env_example_and_dockerfile_set_only_settings_that_exist() -> None:
    example = re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert set(example) <= SETTINGS
    in_image = re.findall(r"\b(?:FEATURESTORE|REDIS)_\w+(?==)", (ROOT / "Dockerfile").read_text())
    assert set(in_image) <= SETTINGS
    compose = "".join((ROOT / name).read_text() for name in COMPOSE)
    assert set(example) == set(re.findall(r"\$\{((?:FEATURESTORE|REDIS)_\w+)", compose))


def test_the_image_is_checked_where_it_listens() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    (check,) = re.findall(r"^HEALTHCHECK (?:.*\\\n)*\s*CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert json.loads(check) == ["python", "-m", "featurestore.serving.probe"]  # test_first_hour.py runs it


@pytest.mark.parametrize("file", COMPOSE)
def test_docker_compose_accepts_the_file(file: str) -> None:
    tool = shutil.which("docker-compose")
    if tool is None:
        pytest.skip("docker-compose is not installed")
    subprocess.run([tool, "-f", str(ROOT / file), "--profile", "observability", "config", "--quiet"], check=True)


def test_hadolint_accepts_the_dockerfile() -> None:
    tool = shutil.which("hadolint")
    if tool is None:
        pytest.skip("hadolint is not installed")
    subprocess.run([tool, str(ROOT / "Dockerfile")], check=True)
