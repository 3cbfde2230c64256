"""Pages whose commands are run as a reader runs them: in order, in an empty folder, servers beside them."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from support.servers import wait_until

DOCS = Path(__file__).parents[2] / "docs"


def examples(page: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a page, and what the page says that it prints."""
    for block in re.findall(
        r"^```console\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = example.replace("\\\n", "").splitlines(keepends=True)
            used = next(count for count in range(1, len(lines) + 1) if "".join(lines[:count]).count("'") % 2 == 0)
            yield "".join(lines[:used]).strip(), "".join(lines[used:])


class Walk:
    """A reader of a page.

    Args:
        folder: Where commands run.
        environment: Of the commands, beside `PATH`.
        ports: The page's ports, and those that stand in for them.
        servers: How the commands start that run until they are stopped, and the page's port on which each listens.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], ports: Mapping[int, int], servers: Mapping[str, int]
    ) -> None:
        self.folder, self.ports, self.servers = folder, ports, servers
        here = Path(sys.executable).parent
        self.environment = {**environment, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for process in reversed(self._started):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)

    def run(self, command: str, printed: str) -> None:
        """Run a command of the page. It has to print what the page says; where that says nothing, it has to succeed."""
        command, printed = self._with_ports(command), self._with_ports(printed)
        name = command.removeprefix("cat ")
        if name != command and not (self.folder / name).exists():
            (self.folder / name).write_text(printed)
            return
        if exported := re.fullmatch(r"export (\w+)=(\S+)", command):
            self.environment[exported[1]] = exported[2]
            return
        if served := next((port for start, port in self.servers.items() if start in command), None):
            self._start(command, self.ports[served])
            return
        done = subprocess.run(
            ["bash", "-c", re.sub(r"\bcurl ", "curl -sS ", command)],
            env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        if printed:
            assert self._lines(said) == self._lines(printed), (command, said)
        else:
            assert done.returncode == 0, (command, said)

    def _with_ports(self, text: str) -> str:
        for port, actual in self.ports.items():
            for words in ("127.0.0.1:", '127.0.0.1", ', "-p ", "--port "):
                text = re.sub(rf"(?<={re.escape(words)}){port}\b", str(actual), text)
        return text

    def _start(self, command: str, port: int) -> None:
        log = self.folder / f"{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"], env=self.environment, cwd=self.folder,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        wait_until(
            lambda: listens(port) or process.poll() is not None, timeout=60, what=f"{command}: {log.read_text()}"
        )
        assert process.poll() is None, log.read_text()

    def _lines(self, text: str) -> Sequence[str]:
        """Return the lines of an output, without what differs from run to run, sorted: two streams have no order."""
        text = text.replace(str(self.folder), "/data")
        text = re.sub(r"^\d{4}-\S+ \S+ (?=[A-Z]+ )", "", text, flags=re.MULTILINE)
        text = re.sub(r'(?<="seconds":)[\d.]+|(?<= in )[\d.]+(?= s)', "…", text)
        text = re.sub(r'(?<="event_time":)\d+|(?<="age_ms":)\d+', "…", text)
        return sorted(line.rstrip() for line in text.splitlines() if line.strip())


def listens(port: int) -> bool:
    """Return whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
