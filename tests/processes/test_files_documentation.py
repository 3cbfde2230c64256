"""The examples of docs/files.md, run in order, and its list of options."""

from pathlib import Path

from featurestore.ingest.files.load_command import load
from support.loading import environment_of
from support.processes import clean_environment
from support.servers import Server
from support.walks import Walk, examples

PAGE = (Path(__file__).parents[2] / "docs" / "files.md").read_text()


def test_the_examples_print_what_the_page_says(valkey: Server, tmp_path: Path) -> None:
    environment = environment_of(valkey.socket_url, clean_environment(tmp_path))
    ran = list(examples("files.md"))
    with Walk(tmp_path, environment, {}, {}) as walk:
        for command, printed in ran:
            walk.run(command, printed)
    assert len(ran) == 9


def test_every_option_is_on_the_page() -> None:
    options = {name for parameter in load.params for name in parameter.opts if name.startswith("--")}
    assert len(options) > 15
    assert {option for option in options if f"`{option}" not in PAGE} == set()
