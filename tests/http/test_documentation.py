"""The examples of docs/features.md, run in order against a new server."""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.http import HttpServer, serving
from support.servers import Server

from featurestore import FeatureStore, Keys, read_definition

PAGE = Path(__file__).parents[2] / "docs" / "features.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def examples() -> Iterator[tuple[list[str], str]]:
    """The words of each command, and what the page says that it prints."""
    for block in blocks("console"):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = example.replace("\\\n", "").splitlines()
            used = next(count for count in range(1, len(lines) + 1) if "\n".join(lines[:count]).count("'") % 2 == 0)
            yield shlex.split("\n".join(lines[:used])), "\n".join(lines[used:])


def curl(server: HttpServer, words: list[str]) -> str:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-X")
    parser.add_argument("-H", default="")
    parser.add_argument("-d", "--data-binary", dest="data")
    parser.add_argument("-w", default="")
    options = parser.parse_args(words)
    name, _, value = options.H.partition(": ")
    method = options.X or ("GET" if options.data is None else "POST")
    target = options.url.removeprefix("http://127.0.0.1:8000")
    assert target != options.url
    answer = server.request(method, target, options.data, **({name: value} if name else {}))
    return f"{answer.body.decode()}{options.w.replace('%{http_code}', str(answer.status))}"


def without_ages(text: str) -> str:
    return re.sub(r'"age_ms":[1-9]\d*', '"age_ms":…', text).rstrip()


def test_the_examples_print_what_the_page_says(valkey: Server, tmp_path: Path) -> None:
    for number, text in enumerate(blocks("toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(text)
        definition = read_definition(path)
        with FeatureStore.connect(valkey.url, timeout=5, keys=Keys.of(definition.entity)) as store:
            store.apply(definition)
    ran = []
    with serving(valkey.url, tmp_path, timeout_ms="5000", write_keys="secret") as server:
        for (program, *words), said in examples():
            ran.append(program)
            if program == "curl":
                printed = curl(server, words)
            else:
                result = subprocess.run(
                    [sys.executable, "-m", program, *words],
                    env={**os.environ, "REDIS_URL": valkey.url}, check=True, capture_output=True, text=True,
                )  # fmt: skip
                printed = result.stdout + result.stderr
            assert without_ages(printed) == without_ages(said), (program, words)
    assert len(ran) == len(re.findall(r"^\$ ", PAGE.read_text(), re.MULTILINE)) > 30
