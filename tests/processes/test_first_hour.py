"""What a newcomer's or an operator's mistakes are answered with: a line, and the exit code; never a traceback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import GUNICORN, SERVE, clean_environment, started
from support.servers import free_port, wait_until

ROOT = Path(__file__).parents[2]
FEATURESTORE = (sys.executable, "-m", "featurestore")
COMMANDS = {
    "serve": SERVE,
    "demo": (*FEATURESTORE, "demo"),
    "apply": (*FEATURESTORE, "apply"),
    "get": (*FEATURESTORE, "get", "a"),
    "delete": (*FEATURESTORE, "delete", "a"),
    "schema": (*FEATURESTORE, "schema"),
    "simulate": (*FEATURESTORE, "simulate", "--once", "--users", "5"),
    "consume": (*FEATURESTORE, "consume", "clicks"),
    "repack": (*FEATURESTORE, "repack"),
    "sweep": (*FEATURESTORE, "sweep"),
    "gunicorn": GUNICORN,
}
# Another user who may read all, as this interpreter may stand in root's home, and write nothing.
STRANGER = (
    "setpriv", "--reuid", "54321", "--clear-groups", "--inh-caps", "+dac_read_search", "--ambient-caps",
    "+dac_read_search",
)  # fmt: skip
needs_strangers = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can run a command as somebody else"
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return clean_environment(tmp_path)


def run(command: tuple[str, ...], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=False, cwd=folder,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """What a command says that ends for a setting's sake."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    (line,) = (line for line in result.stderr.splitlines() if " INFO " not in line)
    return line


@pytest.fixture(params=["a file", "below a file", "read-only", "no home", "its log", "its lock"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A data directory that cannot be one, even for root."""
    file = tmp_path / "file"
    file.write_text("")
    spoilt = tmp_path / "spoilt"
    for name, folder in (("its log", "valkey.log"), ("its lock", "lock")):
        if request.param == name:
            for path in (spoilt / folder, spoilt / "demo" / folder):
                path.mkdir(parents=True)
    places = {"a file": file, "below a file": file / "x", "read-only": "/proc/nobody", "no home": "~nobody.here/x"}
    return str(places.get(request.param, spoilt))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_data_directory_that_cannot_be_used_is_told_in_a_line(
    command: str, place: str, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["FEATURESTORE_DATA_DIR"] = place
    line = refused(run(COMMANDS[command], environment, tmp_path))
    assert f"cannot keep the embedded server's data in {place}" in line
    assert line.endswith("set REDIS_URL to a Redis, or FEATURESTORE_DATA_DIR to a folder that can be written")


@needs_strangers
@pytest.mark.parametrize("home", [None, "/nonexistent", "/", "/proc"])
@pytest.mark.parametrize("command", ["serve", "demo", "apply", "gunicorn"])
def test_an_image_without_redis_url_and_home_says_what_to_set(
    command: str, home: str | None, environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("FEATURESTORE_DATA_DIR", "HOME", "XDG_DATA_HOME"):
        environment.pop(name, None)
    if home:
        environment["HOME"] = home
    assert "set REDIS_URL" in refused(run((*STRANGER, *COMMANDS[command]), environment, tmp_path))
    with_redis = {**environment, "REDIS_URL": f"redis://127.0.0.1:{free_port()}"}
    if command == "apply":
        result = run((*STRANGER, *COMMANDS[command]), with_redis, tmp_path)
        assert (result.returncode, "Redis cannot be reached" in result.stderr) == (1, True)


@needs_strangers
def test_a_folder_that_may_only_be_read_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    for name in ("lock", "valkey.log"):
        (data / name).touch(mode=0o666)
        (data / name).chmod(0o666)
    line = refused(run((*STRANGER, *COMMANDS["apply"]), environment, Path("/")))
    assert f"data in {data}: it cannot be written" in line


@pytest.mark.parametrize("url", ["redis://h:x", "http://h", "redis://h?nope=1"])
@pytest.mark.parametrize("command", ["serve", "demo", "apply", "gunicorn"])
def test_a_redis_url_that_cannot_be_used_is_told_in_a_line(
    command: str, url: str, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["REDIS_URL"] = url
    assert "cannot use the Redis URL" in refused(run(COMMANDS[command], environment, tmp_path))


@pytest.mark.parametrize("command", ["serve", "gunicorn"])
def test_replicas_that_are_to_confirm_writes_where_there_can_be_none_are_told_in_a_line(
    command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["FEATURESTORE_WAIT_REPLICAS"] = "1"
    assert "not by a unix socket" in refused(run(COMMANDS[command], environment, tmp_path))


def test_gunicorn_in_the_checkout_tells_a_wrong_setting_in_a_line(environment: dict[str, str]) -> None:
    environment["FEATURESTORE_WORKERS"] = "many"
    line = refused(run((sys.executable, "-m", "gunicorn"), environment, ROOT))
    assert line.startswith("featurestore: FEATURESTORE_WORKERS='many': ")


def test_gunicorn_tells_of_a_mistyped_setting(environment: dict[str, str], tmp_path: Path) -> None:
    environment["FEATURESTORE_TIMOUT_MS"] = "80"
    for command in (GUNICORN, SERVE):
        with started(command, environment, tmp_path) as running:
            running.wait_for("Booting worker")
            told = "WARNING FEATURESTORE_TIMOUT_MS is not a setting: did you mean FEATURESTORE_TIMEOUT_MS?"
            assert running.text().count(told) == running.text().count("TIMOUT") == 1


# The health check


@pytest.mark.parametrize(
    "bind", ["127.0.0.1:{port}", "0.0.0.0:{port}", ":{port}", "localhost:{port}", "[::]:{port}", "[::1]:{port}",
             "unix:{folder}/s", "unix://{folder}/s"],
)  # fmt: skip
def test_the_health_check_follows_the_address(bind: str, environment: dict[str, str], tmp_path: Path) -> None:
    environment["FEATURESTORE_BIND"] = bind.format(port=free_port(), folder=tmp_path)
    environment["http_proxy"] = "http://127.0.0.1:1"
    check = (sys.executable, "-m", "featurestore.serving.probe")
    result = run(check, environment, tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"featurestore: no server answers on {environment['FEATURESTORE_BIND']}\n"
    environment["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}"  # which nobody serves
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(SERVE, env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: run(check, environment, tmp_path).returncode == 0 or server.poll(), what=log.read_text())
        healthy = run((*FEATURESTORE, "health"), environment, tmp_path)
        assert (healthy.returncode, healthy.stdout + healthy.stderr) == (0, "")
    finally:
        server.terminate()
        server.wait(20)


def test_the_health_check_says_what_it_cannot_check(environment: dict[str, str], tmp_path: Path) -> None:
    for bind in ("fd://3", "nonsense"):
        environment["FEATURESTORE_BIND"] = bind
        assert "FEATURESTORE_BIND" in refused(
            run((sys.executable, "-m", "featurestore.serving.probe"), environment, tmp_path)
        )
