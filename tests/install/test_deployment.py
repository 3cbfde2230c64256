"""The deployment files name only settings that exist, and the tools that read them accept them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from featurestore.settings import describe_settings

ROOT = Path(__file__).parents[2]
SETTINGS = {variable for variable, _, _ in describe_settings()}


def test_compose_sets_only_settings_that_exist() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert "version" not in compose
    used = {name for service in compose["services"].values() for name in service.get("environment", {})}
    assert used
    assert used <= SETTINGS


def test_env_example_and_dockerfile_set_only_settings_that_exist() -> None:
    example = re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert set(example) <= SETTINGS
    in_image = re.findall(r"\b(?:FEATURESTORE|REDIS)_\w+(?==)", (ROOT / "Dockerfile").read_text())
    assert set(in_image) <= SETTINGS
    compose = (ROOT / "docker-compose.yml").read_text()
    assert set(example) == set(re.findall(r"\$\{(\w+)", compose))


def test_the_image_is_checked_where_it_listens() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    (check,) = re.findall(r"^HEALTHCHECK (?:.*\\\n)*\s*CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert json.loads(check) == ["python", "-m", "featurestore.serving.probe"]  # test_first_hour.py runs it


def test_docker_compose_accepts_the_file() -> None:
    tool = shutil.which("docker-compose")
    if tool is None:
        pytest.skip("docker-compose is not installed")
    subprocess.run([tool, "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"], check=True)


def test_hadolint_accepts_the_dockerfile() -> None:
    tool = shutil.which("hadolint")
    if tool is None:
        pytest.skip("hadolint is not installed")
    subprocess.run([tool, str(ROOT / "Dockerfile")], check=True)
