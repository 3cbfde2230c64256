"""Makes the golden vectors: runs the declared cases on a server and writes what it answers.

    python tests/vectors/make.py            makes tests/vectors/*.json anew
    python tests/vectors/make.py --check    fails where they differ from what is declared and answered
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from support.servers import Server, binaries  # noqa: E402 - found by the line above

from vectors import cases  # noqa: E402
from vectors.declaring import Case, Step  # noqa: E402
from vectors.forms import Json, as_reply, differences  # noqa: E402
from vectors.running import Connection, Wire, load_scripts, words_of  # noqa: E402

CONTRACT = 1


def declared() -> dict[str, tuple[str, list[Case]]]:
    """Return the cases of each file, with what the file is about."""
    modules = {found.name: import_module(f"vectors.cases.{found.name}") for found in iter_modules(cases.__path__)}
    return {name: (module.__doc__ or "", module.CASES) for name, module in modules.items()}


def record(connection: Connection, step: Step) -> Json:
    """Run a step; return it with what was answered, or with what may be answered where that is declared."""
    made = step.as_json()
    reply = connection(*words_of(made))
    if step.reply is not None:
        wrong = differences(step.reply, reply)
        if wrong:
            raise SystemExit(f"{made}: {wrong}")
        made["reply"] = step.reply
    elif step.compared:
        made["reply"] = as_reply(reply)
    elif isinstance(reply, Exception):
        raise SystemExit(f"{made}: {reply}")
    return made


def recorded(connection: Connection, about: str, declarations: list[Case]) -> Json:
    """Return a file's content."""
    load_scripts(connection)
    made: Json = {"contract": CONTRACT, "about": about, "cases": []}
    for name, steps in declarations:
        connection(b"FLUSHALL")
        made["cases"].append({"name": name, "steps": [record(connection, step) for step in steps]})
    return made


def text_of(made: Json) -> str:
    """Return a file's content as JSON, a line for each step."""
    return "".join(_lines(made))


def _lines(made: Json) -> Iterator[str]:
    yield f'{{"contract": {made["contract"]}, "about": {_json(made["about"])}, "cases": ['
    for number, case in enumerate(made["cases"]):
        steps = ",\n".join(f"  {_json(step)}" for step in case["steps"])
        yield f'{"," if number else ""}\n {{"name": {_json(case["name"])}, "steps": [\n{steps}]}}'
    yield "\n]}\n"


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def main() -> int:
    """Make the files or check them; return 0 where nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        server = Server(binaries()["valkey9"], Path(folder))
        server.start()
        try:
            wire = Wire(f"{folder}/s")
            made = {f"{name}.json": text_of(recorded(wire, *each)) for name, each in declared().items()}
            wire.close()
        finally:
            server.stop()
    stored = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    wrong = sorted(name for name in {*made, *stored} if made.get(name) != stored.get(name))
    if check:
        sys.stdout.writelines(f"tests/vectors/{name} is not what make.py makes: see its README\n" for name in wrong)
        return 1 if wrong else 0
    for name in wrong:
        path = FOLDER / name
        if name in made:
            path.write_text(made[name], encoding="utf-8")
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
