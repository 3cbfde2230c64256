"""docs/tutorial.md, walked through in an empty folder."""

from pathlib import Path

import pytest
from support.processes import clean_environment
from support.servers import free_port
from support.walks import Walk, examples


@pytest.mark.timeout(300)
def test_every_command_of_the_tutorial_prints_what_the_page_says(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    environment = clean_environment(tmp_path)
    port = int(environment["FEATURESTORE_BIND"].rpartition(":")[2])
    # As patient as a busy machine needs; a reader's has the defaults.
    environment |= {"FEATURESTORE_TIMEOUT_MS": "5000", "FEATURESTORE_WORKERS": "1"}
    ran = 0
    with Walk(
        folder, environment, {8000: port, 8080: free_port()}, {"featurestore serve": 8000, "python churn.py": 8080}
    ) as walk:
        for command, printed in examples("tutorial.md"):
            walk.run(command, printed)
            ran += 1
    assert ran > 20
