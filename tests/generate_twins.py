"""Make the modules for asyncio from their blocking twins; with --check, tell whether they are what this makes.

A twin has the same methods, with the same arguments and documentation. Three things differ:

- A method that waits is `async`, and its calls that wait are awaited. What waits are the methods of `WAITING`, which
  the hand-written base classes have, and every method that calls one that waits.
- Names are replaced by those of `NAMES`.
- Paragraphs of docstrings are replaced, each by another one.

The check compares syntax trees and comments, so it does not depend on the version of the formatter.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

HEADER = "# Made from {} by tests/generate_twins.py: change that module, then run the program.\n"
"""The first line of what is made."""

WAITING = frozenset({"_run", "_send"})
"""The methods of the base classes that wait."""

NAMES = {
    "FeatureStore": "AsyncFeatureStore",
    "BlockingDriver": "AsyncDriver",
    "blocking_driver": "asyncio_driver",
    "Client": "AsyncClient",
    "BlockingCaller": "AsyncCaller",
    "blocking_caller": "asyncio_caller",
}


ELSEWHERE = (
    (ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, "a nested function"),
    (ast.ClassDef, "a nested class"),
    (ast.GeneratorExp, "a generator expression"),
    (ast.JoinedStr, "an f-string"),
)
"""Where what waits is refused: its own function, or one whose columns Python 3.11 does not tell."""


class Twin(NamedTuple):
    """A blocking module and its twin.

    Attributes:
        source: The path of the blocking module.
        made: The path of its twin.
        paragraphs: What stands once in the source, and what takes its place. Line ends and indentation count.
    """

    source: str
    made: str
    paragraphs: Mapping[str, str]


TWINS = [
    Twin(
        "featurestore/store/blocking.py",
        "featurestore/store/asyncio_store.py",
        {
            "The store for threads": "The store for asyncio",
            """
    One store may be shared by all threads of a process.
""": """
    One store may be shared by all tasks of an event loop. The calls that they make in one turn of the loop leave in one
    write. A task that is cancelled while it waits disturbs no other; its write may take place.
""",
            """
    Two waits have time-outs of the transport's instead: to connect, and to send. Only `SyncTransport` can bound a call;
    other transports refuse `timeout` with `BadArgumentsError`.
""": """
    The time that it takes to connect and to send counts, too.
""",
        },
    ),
    Twin(
        "featurestore/clients/client.py",
        "featurestore/clients/async_client.py",
        {
            "The blocking client for": "The client under asyncio for",
            "One client may be shared by all threads of a process.": (
                "One client may be shared by all tasks of an event loop."
            ),
            """
    The blocking client can look at the time between steps only. To connect, to send, to wait for the head of the
    response and for its body may each take what is left, and each piece of the body is a look. A server that takes the
    request or sends the head bit by bit makes a call longer, and so does one that sends a last piece of the body just
    in time.
""": """
    No call takes longer, whatever the server does.
""",
        },
    ),
]


class TwinError(Exception):
    """A blocking module has something that cannot be turned into its twin."""


def main() -> int:
    """Write the twins, or check them; return 1 where the check fails."""
    check = sys.argv[1:] == ["--check"]
    stale = [twin for twin in TWINS if not is_current(twin)]
    for twin in stale:
        if check:
            sys.stderr.write(f"{twin.made} is not what tests/generate_twins.py makes of {twin.source}: run it\n")
        else:
            (ROOT / twin.made).write_text(formatted(made_from(twin), twin.made), encoding="utf-8")
    return 1 if check and stale else 0


def is_current(twin: Twin) -> bool:
    """Return whether the module is what is made of its source, whatever its format."""
    path = ROOT / twin.made
    return path.exists() and meaning(path.read_text(encoding="utf-8")) == meaning(made_from(twin))


def made_from(twin: Twin) -> str:
    """Return the text that is made of a blocking module, not formatted yet.

    Raises:
        TwinError: Something in the module has no twin.
    """
    text = (ROOT / twin.source).read_text(encoding="utf-8")
    for paragraph, other in twin.paragraphs.items():
        if text.count(paragraph) != 1:
            raise TwinError(f"{twin.source} has this {text.count(paragraph)} times: {paragraph.strip()}")
        text = text.replace(paragraph, other)
    made = HEADER.format(twin.source) + awaited(re.sub(r"\w+", lambda found: NAMES.get(found[0], found[0]), text))
    compile(made, twin.source, "exec")  # refuses an await in a function that is not async
    return made


def awaited(text: str) -> str:
    """Return a module's text with the words `async` and `await` put in.

    Raises:
        TwinError: Something that waits cannot be awaited where it stands.
    """
    lines = [line.encode() for line in text.splitlines(keepends=True)]  # the columns of syntax trees count bytes
    for line, column, word in sorted(_insertions(ast.parse(text)), reverse=True):
        lines[line - 1] = lines[line - 1][:column] + word + lines[line - 1][column:]
    return b"".join(lines).decode()


def formatted(text: str, path: str) -> str:
    """Return a module's text as the formatter has it."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", path, "-"]
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def _insertions(module: ast.Module) -> set[tuple[int, int, bytes]]:
    """Return each word to be put in, with its line and column before it."""
    found: set[tuple[int, int, bytes]] = set()
    for kind in ast.walk(module):
        if not isinstance(kind, ast.ClassDef):
            continue
        methods = [node for node in kind.body if isinstance(node, ast.FunctionDef)]
        waiting = set(WAITING)
        while more := {method.name for method in methods if any(_places(method, waiting))} - waiting:
            waiting |= more
        for method in methods:
            calls = [_call(method, *place) for place in _places(method, waiting)]
            if calls:
                _check_method(method)
                found.add((method.lineno, method.col_offset, b"async "))
            found.update((call.lineno, call.col_offset, b"await ") for call in calls)
        for node in kind.body:
            _check_rest(node, waiting)
    return found


def _places(
    node: ast.AST, waiting: set[str], around: tuple[ast.AST, ...] = ()
) -> Iterator[tuple[ast.Attribute, tuple[ast.AST, ...]]]:
    """Yield each `self.name` and `super().name` with one of these names, and the nodes around it, innermost first."""
    around = (node, *around)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Attribute) and child.attr in waiting and _is_self(child.value):
            yield child, around
        yield from _places(child, waiting, around)


def _is_self(node: ast.AST) -> bool:
    """Return whether this is `self` or `super()`."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id == "self"


def _call(method: ast.FunctionDef, name: ast.Attribute, around: tuple[ast.AST, ...]) -> ast.Call:
    """Return the call of what waits, where `await` can stand before it.

    Raises:
        TwinError: It cannot, or this is no call.
    """
    where, call = f"{method.name}: `{ast.unparse(name)}`", around[0]
    if isinstance(name.value, ast.Call):
        raise TwinError(f"{where} waits: call it by `self`")
    if not isinstance(call, ast.Call) or call.func is not name:
        raise TwinError(f"{where} waits and is not called here: whoever calls it would not await it")
    for node in around[1:-1]:  # the last is the method
        if what := next((text for kinds, text in ELSEWHERE if isinstance(node, kinds)), None):
            raise TwinError(f"{where} waits in {what}, which cannot await")
    outer = around[1]
    taken = outer.value if isinstance(outer, ast.Attribute | ast.Subscript) else getattr(outer, "func", None)
    if taken is call:  # these bind closer than `await`
        raise TwinError(f"{method.name}: `await` would be for all of `{ast.unparse(outer)}`: name the result first")
    return call


def _check_method(method: ast.FunctionDef) -> None:
    """Refuse a method that waits and is not called by its name, or more than that."""
    if method.decorator_list:
        raise TwinError(f"{method.name} waits and has a decorator: a property cannot be awaited")
    if method.name.startswith("__"):
        raise TwinError(f"{method.name} waits: Python calls it and does not await it")
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(method)):
        raise TwinError(f"{method.name} waits and yields: an asynchronous generator cannot be awaited")


def _check_rest(node: ast.stmt, waiting: set[str]) -> None:
    """Refuse another name, in the body of a class, for what waits."""
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load) and each.id in waiting:
                raise TwinError(f"`{ast.unparse(node)}`: `{each.id}` waits and is not called here")


def meaning(text: str) -> tuple[str, list[str]]:
    """Return what a module says: its syntax tree and its comments."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return ast.dump(ast.parse(text)), [token.string for token in tokens if token.type == tokenize.COMMENT]


if __name__ == "__main__":
    sys.exit(main())
