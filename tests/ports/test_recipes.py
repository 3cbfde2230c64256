"""The recipes of docs/ports for languages that have no package: extracted from their pages, and run."""

from pathlib import Path

import pytest
from support.ports import apply_example, blocks, build_scripts, needs, run
from support.servers import Server

MSGPACK = "/usr/share/java/msgpack-core.jar"


@pytest.fixture
def folder(tmp_path: Path, valkey: Server) -> Path:
    """A folder with the scripts, as the pages say, beside a server that has their schema."""
    work = tmp_path / "recipe"
    work.mkdir()
    build_scripts(work / "build")
    apply_example(valkey.url, work)
    return work


def write(folder: Path, language: str, *names: str) -> str:
    """Write the files of a page, and return what the last of them prints by the page."""
    for name, code in zip(names, blocks(language, language), strict=True):
        (folder / name).write_text(code)
    (printed,) = blocks(language, "text")
    return printed


def test_ruby(folder: Path, valkey: Server) -> None:
    needs("ruby-redis and ruby-msgpack", "ruby", "-e", "require 'redis'; require 'msgpack'")
    printed = write(folder, "ruby", "features.rb", "example.rb")
    assert run(folder, "ruby", "-w", "example.rb", REDIS_URL=valkey.url) == printed


def test_php(folder: Path, valkey: Server) -> None:
    loaded = "exit(extension_loaded('redis') && extension_loaded('msgpack') ? 0 : 1);"
    needs("php-redis and php-msgpack", "php", "-r", loaded)
    printed = write(folder, "php", "Features.php", "example.php")
    assert run(folder, "php", "-d", "display_errors=stderr", "example.php", REDIS_URL=valkey.url) == printed


def test_java(folder: Path, valkey: Server) -> None:
    needs("JDK", "javac", "--version")
    needs("libmsgpack-java", "test", "-f", MSGPACK)
    names = "Features.java", "Connection.java", "Example.java"
    printed = write(folder, "java", *names)
    run(folder, "javac", "-Xlint:all", "-Werror", "-cp", MSGPACK, *names)
    assert run(folder, "java", "-cp", f".:{MSGPACK}", "Example", REDIS_URL=valkey.url) == printed
