"""The Go package as users get it: a clean copy, with the scripts of this build in it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.ports import ROOT, apply_example, blocks, build_scripts, needs, run, write_cost_cases
from support.servers import Server, real

DEBIAN = Path("/usr/share/gocode")
REDIGO = DEBIAN / "src/github.com/gomodule/redigo"

Go = Callable[..., str]


def copy_package(folder: Path) -> None:
    """Do what docs/ports/go.md says."""
    made = shutil.ignore_patterns("scripts", "manifest.json", "featurestore.lua")
    shutil.copytree(ROOT / "lua/ports/go", folder, ignore=made)
    build_scripts(folder)


@pytest.fixture(scope="module")
def gopath(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GOPATH that has the package and nothing else."""
    needs("golang-go", "go", "version")
    needs("golang-github-gomodule-redigo-dev", "test", "-d", str(REDIGO))
    folder = tmp_path_factory.mktemp("go")
    copy_package(folder / "src" / "featurestore")
    return folder


@pytest.fixture(scope="module")
def go(gopath: Path) -> Go:
    """Runs `go` with what that GOPATH and Debian have, and no network."""

    def run_go(*words: str, **variables: str) -> str:
        return run(gopath, "go", *words, GO111MODULE="off", GOPATH=f"{gopath}:{DEBIAN}", GOFLAGS="", GOPROXY="off",
                   **variables)  # fmt: skip

    return run_go


@pytest.fixture(params=real("valkey9", "redis62", "redis7"))
def server(request: pytest.FixtureRequest, servers: dict[str, Server], tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own: the package's tests delete all keys and end connections."""
    server = Server(servers[request.param].binary, tmp_path)
    server.start()
    yield server
    server.stop()


def test_the_package_passes_its_tests_and_the_golden_vectors(
    go: Go, server: Server, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    variables = {"REDIS_URL": server.url, "FEATURESTORE_VECTORS": str(ROOT / "tests" / "vectors"),
                 "FEATURESTORE_COSTS": str(write_cost_cases(tmp_path))}  # fmt: skip
    assert go("test", "-count=1", "featurestore", **variables).startswith("ok")
    said = go("test", "-count=1", "-v", "-run", "TestAUserWhoMay", "featurestore", **variables)
    lacks_read_only_users = "redis62" in request.node.name
    assert ("--- SKIP" in said) == lacks_read_only_users


def test_the_package_is_formatted_and_vetted(go: Go, gopath: Path) -> None:
    assert run(gopath, "gofmt", "-l", "src/featurestore") == ""
    go("vet", "featurestore")


def test_a_package_without_its_scripts_does_not_compile(go: Go, gopath: Path) -> None:
    bare = gopath / "src" / "bare"
    shutil.copytree(gopath / "src" / "featurestore", bare, ignore=shutil.ignore_patterns("increment_features.lua"))
    with pytest.raises(AssertionError, match=r"scripts/increment_features\.lua: no matching files found"):
        go("build", "bare")


def test_the_program_of_the_page_prints_what_it_says(gopath: Path, valkey: Server, tmp_path: Path) -> None:
    (program,) = blocks("go", "go")
    (printed,) = blocks("go", "text")
    (module,) = blocks("go", "gomod")
    copy_package(tmp_path / "featurestore")
    # In place of the module that a network would bring; by its own go.mod it needs others for its tests.
    shutil.copytree(REDIGO / "redis", tmp_path / "redigo" / "redis", ignore=shutil.ignore_patterns("*_test.go"))
    (tmp_path / "redigo" / "go.mod").write_text("module github.com/gomodule/redigo\n\ngo 1.19\n")
    (tmp_path / "go.mod").write_text(f"{module}\nreplace github.com/gomodule/redigo => ./redigo\n")
    (tmp_path / "main.go").write_text(program)
    apply_example(valkey.url, tmp_path)
    said = run(tmp_path, "go", "run", ".", GO111MODULE="on", GOFLAGS="-mod=mod", GOPROXY="off", GOWORK="off",
               REDIS_URL=valkey.url)  # fmt: skip
    assert said == printed
