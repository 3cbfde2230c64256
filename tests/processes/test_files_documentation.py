"""The examples of docs/files.md, run in order, and its list of options."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from featurestore.ingest.files.load_command import load
from support.loading import environment_of
from support.processes import clean_environment
from support.servers import Server

PAGE = (Path(__file__).parents[2] / "docs" / "files.md").read_text()


def examples() -> Iterator[tuple[list[str], str]]:
    """The words of each command, and what the page says that it prints."""
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = example.partition("\n")
            yield shlex.split(command), printed


def lines_of(text: str, folder: Path) -> set[str]:
    """The lines of an output, without what differs from run to run."""
    text = text.replace(str(folder), "/data")
    text = re.sub(r"^\d{4}-\S+ \S+ (?=[A-Z]+ )", "", text, flags=re.MULTILINE)
    return set(re.sub(r'(?<="seconds":)[\d.]+|(?<= in )[\d.]+(?= s)', "…", text).splitlines())


def test_the_examples_print_what_the_page_says(valkey: Server, tmp_path: Path) -> None:
    environment = environment_of(valkey.socket_url, clean_environment(tmp_path))
    ran = 0
    for words, printed in examples():
        if words[0] == "cat" and not (tmp_path / words[1]).exists():
            (tmp_path / words[1]).write_text(printed)
            continue
        command = [sys.executable, "-m", *words] if words[0] == "featurestore" else words
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert lines_of(done.stdout + done.stderr, tmp_path) == lines_of(printed, tmp_path), words
        ran += 1
    assert ran == 7


def test_every_option_is_on_the_page() -> None:
    options = {name for parameter in load.params for name in parameter.opts if name.startswith("--")}
    assert len(options) > 15
    assert {option for option in options if f"`{option}" not in PAGE} == set()
