"""What a program measured, line by line: printed at once, and written as a page of docs/performance."""

import argparse
import datetime as dt
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

FOLDER = Path(__file__).parent.parent / "docs" / "performance"


def machine() -> str:
    """Return the machine's processors in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{os.cpu_count()} processors ({model}), Linux {platform.release()}"


def commit() -> str:
    """Return the checkout's commit, with a mark where files differ from it."""
    command = ["git", "-C", str(FOLDER.parent), "describe", "--always", "--dirty", "--abbrev=9"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


RESULTS = "results.json"


def keep(folder: Path | None, section: str, figures: object) -> None:
    """Store what a program measured as a section of a folder's results.json, of which tables of pages are made."""
    if folder is None:
        return
    today = f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}"
    keep_all(folder, {section: {"commit": commit(), "date": today, "figures": figures}})


def keep_all(folder: Path, sections: Mapping[str, object]) -> None:
    """Store sections in a folder's results.json, beside the others that it has."""
    path = folder / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**content, **sections}, indent=1) + "\n", encoding="utf-8")


def filled(page: str, made: Mapping[str, str]) -> str:
    """Return a page's text with what was made between its markers: `<!-- name -->` and `<!-- end -->`.

    Raises:
        ValueError: The page has no place of that name.
    """
    for name, text in made.items():
        place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        if not place.search(page):
            raise ValueError(f"the page has no place between <!-- {name} --> and <!-- end -->")
        page = place.sub(lambda _, text=text: f"{text}\n", page, count=1)  # type: ignore[misc]
    return page


class Figures:
    """The lines of one program's page. They are printed as they come, and written at the end of the block.

    Args:
        name: Of the page.
        title: Its heading: what is measured.
        options: Of the program; `out` is the folder of the page, None if none is wanted.
    """

    def __init__(self, name: str, title: str, options: argparse.Namespace) -> None:
        self._options, self._name, self._title = options, name, title
        self._lines: list[str] = []

    def add(self, what: str, figure: str, *, wanted: str = "", reached: bool | None = None) -> None:
        """Tell one figure, and whether it is what is wanted."""
        verdict = "" if reached is None else f"{wanted}: {'reached' if reached else 'not reached'}"
        print(f"{what}: {figure}{f'   [{verdict}]' if verdict else ''}", flush=True)
        self._lines.append(f"| {what} | {figure} | {verdict} |")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None and self._options.out is not None:
            options = ", ".join(f"{name} {_told(value)}" for name, value in vars(self._options).items()
                                if name != "out" and value not in (None, []))  # fmt: skip
            source = (f"By `perf/{self._name}.py` ({options}) at {commit()}, {dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, "
                      f"{machine()}.")  # fmt: skip
            head = [f"# {self._title}", "", source, "", "| what | measured | wanted |", "|---|---|---|"]
            self._options.out.mkdir(parents=True, exist_ok=True)
            (self._options.out / f"{self._name}.md").write_text("\n".join([*head, *self._lines]) + "\n")


def add_out(parser: argparse.ArgumentParser) -> None:
    """Let a program be told where its page goes."""
    parser.add_argument("--out", type=Path, help="a folder for the figures, such as docs/performance")


def _told(value: object) -> object:
    """Return an option as the page tells it: checkouts by their names, not by where they are on this machine."""
    return " ".join(each.name for each in value) if isinstance(value, list) else value
