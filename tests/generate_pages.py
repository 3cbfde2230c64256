"""Fill the parts of pages that are made: tables of settings, commands, decisions and figures; with --check, only look.

A part is what stands between `<!-- name -->` and `<!-- end -->`. What it is made of is the package itself, and what
perf/compare.py stored in docs/performance/results.json.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click

from featurestore.cli import commands
from featurestore.settings import describe_settings

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "perf"))

import tables  # noqa: E402 - perf/ is no package
from figures import filled  # noqa: E402

PROGRAM = "featurestore"
DECISIONS = ROOT / "docs" / "decisions"


def settings() -> dict[str, str]:
    """Return the table of settings."""
    rows = [
        f"| `{variable}` | {f'`{default}`' if default else ''} | {meaning} |"
        for variable, default, meaning in describe_settings()
    ]
    return {"settings": "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])}


def every_command(group: click.Group, parent: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Yield all commands of a group and of the groups in it, by name."""
    for name in sorted(group.list_commands(parent)):
        command = group.get_command(parent, name)
        assert command is not None
        context = click.Context(command, parent=parent, info_name=name)
        if isinstance(command, click.Group):
            yield from every_command(command, context)
        else:
            yield command, context


def described() -> dict[str, str]:
    """Return what the help of each command says, with all options."""
    added = {
        each.name: each.load() for each in entry_points(group="featurestore.commands") if each.value.startswith(PROGRAM)
    }
    program = click.Group(commands={**commands.commands, **added})
    top = click.Context(program, info_name=PROGRAM)
    return {"commands": "\n\n".join(command_text(*each) for each in every_command(program, top))}


def command_text(command: click.Command, context: click.Context) -> str:
    """Return the section of a command."""
    arguments = [usage_of(each, context) for each in command.params if isinstance(each, click.Argument)]
    lines = [f"### {context.command_path.removeprefix(f'{PROGRAM} ')}", "",
             f"`{' '.join([context.command_path, *arguments])}`", "", in_markdown(command.help or "")]  # fmt: skip
    options = [each for each in command.params if isinstance(each, click.Option)]
    records = [record for each in options if (record := each.get_help_record(context))]
    if records:
        lines += ["", "| option | meaning |", "|---|---|"]
        lines += [f"| `{option.replace('|', ', ')}` | {in_cell(meaning)} |" for option, meaning in records]
    return "\n".join(lines)


def usage_of(argument: click.Argument, context: click.Context) -> str:
    """Return how an argument is told; one of many names by what it is."""
    return "[NAME]" if isinstance(argument.type, click.Choice) else argument.make_metavar(context)


def in_markdown(text: str) -> str:
    """Return a command's help as Markdown: click has `\\b` in front of lines that stay as they are."""
    paragraphs = inspect.cleandoc(text).partition("\f")[0].split("\n\n")
    return "\n\n".join(
        f"```text\n{paragraph.removeprefix(chr(8)).strip()}\n```" if paragraph.startswith("\b") else escaped(paragraph)
        for paragraph in paragraphs
    )


def in_cell(text: str) -> str:
    """Return an option's help as a cell of a table."""
    return escaped(" ".join(text.split())).replace("|", "\\|")


def escaped(text: str) -> str:
    """Return text of a terminal without what Markdown would take for its own."""
    return text.replace("<", "&lt;").replace("*", "\\*")


def decisions() -> dict[str, str]:
    """Return the list of decisions, by number."""
    pages = sorted(DECISIONS.glob("[0-9]*.md"))
    titles = [page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for page in pages]
    return {"decisions": "\n".join(f"- [{title}]({page.name})" for title, page in zip(titles, pages, strict=True))}


PAGES: dict[str, Callable[[], dict[str, str]]] = {
    "README.md": tables.of_readme,
    "docs/commands.md": described,
    "docs/decisions/README.md": decisions,
    "docs/performance.md": tables.of_performance,
    "docs/settings.md": settings,
}


def made(page: str) -> str:
    """Return a page's text with its parts made anew."""
    return filled((ROOT / page).read_text(encoding="utf-8"), PAGES[page]())


def is_current(page: str) -> bool:
    """Return whether a page is what this program makes of it."""
    return (ROOT / page).read_text(encoding="utf-8") == made(page)


def main() -> None:
    """Write what differs, or tell it."""
    old = [page for page in PAGES if not is_current(page)]
    if "--check" in sys.argv[1:]:
        sys.exit(f"not current: {', '.join(old)}; run make pages" if old else 0)
    for page in old:
        (ROOT / page).write_text(made(page), encoding="utf-8")
        click.echo(f"{page}: written")


if __name__ == "__main__":
    main()
