"""docs/backup.md and docs/production.md: the drill, the proxy's configuration, restarts under load."""

import http.client
import re
import signal
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.binaries import binaries
from support.ports import needs
from support.processes import SERVE, clean_environment
from support.servers import Server, free_port, wait_until
from support.tls import make_certificate
from support.walks import DOCS, Walk, examples, listens

from featurestore import FeatureStore, read_definition

INSTANCES = ("1", "2")
PORT_OF_DRILL = 6390


@pytest.mark.timeout(300)
def test_what_the_drill_backs_up_is_restored(tmp_path: Path) -> None:
    needs("redis-server", "redis-server", "--version")
    folder = tmp_path / "drill"
    folder.mkdir()
    port, drill = free_port(), list(examples("backup.md"))
    with Walk(folder, clean_environment(tmp_path), {PORT_OF_DRILL: port}, {}) as walk:
        try:
            for command, printed in drill:
                walk.run(command, printed)
        finally:
            subprocess.run(["redis-cli", "-p", str(port), "SHUTDOWN", "NOSAVE"], check=False, capture_output=True)
    assert len(drill) > 20


class Front:
    """Two instances of the server on unix sockets, and nginx in front with the page's configuration."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.port = folder, free_port()
        self.certificate = make_certificate(folder)
        self.environment = {**clean_environment(folder), "REDIS_URL": url, "FEATURESTORE_TIMEOUT_MS": "5000",
                            "FEATURESTORE_WORKERS": "1"}  # fmt: skip
        self.instances: dict[str, subprocess.Popen[bytes]] = {}
        self.nginx: subprocess.Popen[bytes] | None = None

    def socket_of(self, instance: str) -> Path:
        return self.folder / f"featurestore-{instance}" / "http.sock"

    def start(self, instance: str) -> None:
        socket = self.socket_of(instance)
        socket.parent.mkdir(exist_ok=True)
        environment = {**self.environment, "FEATURESTORE_BIND": f"unix:{socket}"}
        with (self.folder / f"{instance}.log").open("ab") as log:
            self.instances[instance] = subprocess.Popen(SERVE, env=environment, stdout=log, stderr=log)
        check = ["curl", "--unix-socket", str(socket), "--fail", "--silent", "http://localhost/readyz"]
        wait_until(
            lambda: subprocess.run(check, check=False, capture_output=True).returncode == 0,
            timeout=60, what=f"instance {instance}: {self.log_of(instance)}",
        )  # fmt: skip

    def stop(self, instance: str) -> None:
        self.instances[instance].send_signal(signal.SIGTERM)
        assert self.instances[instance].wait(30) == 0, self.log_of(instance)

    def log_of(self, instance: str) -> str:
        return (self.folder / f"{instance}.log").read_text()

    def start_nginx(self) -> None:
        (self.folder / "nginx.conf").write_text(self.configuration())
        command = ["nginx", "-p", str(self.folder), "-c", "nginx.conf", "-e", str(self.folder / "nginx.log")]
        self.nginx = subprocess.Popen(command)
        wait_until(lambda: self.nginx is None or self.nginx.poll() is not None or listens(self.port), what="nginx")
        assert self.nginx.poll() is None, (self.folder / "nginx.log").read_text()

    def configuration(self) -> str:
        """The page's configuration, with this machine's paths, in what nginx wants around it."""
        (block,) = re.findall(r"^```nginx\n(.*?)^```", (DOCS / "production.md").read_text(), re.MULTILINE | re.DOTALL)
        for words, here in (
            ("/run/featurestore-", f"{self.folder}/featurestore-"),
            ("listen 443", f"listen 127.0.0.1:{self.port}"),
            ("/etc/ssl/features.pem", self.certificate.file),
            ("/etc/ssl/private/features.key", self.certificate.key),
        ):
            assert words in block
            block = block.replace(words, here)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {self.folder}/{kind};\n" for kind in kinds)
        return (f"daemon off; master_process off; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.log;\n"
                f"events {{}}\nhttp {{ access_log off;\n{paths}{block} }}\n")  # fmt: skip

    def client(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.certificate.context())

    def end(self) -> None:
        for process in (self.nginx, *self.instances.values()):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(30)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    needs("nginx", "nginx", "-v")
    folder = tmp_path_factory.mktemp("front")
    valkey = Server(binaries()["valkey9"], folder)
    valkey.start()
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        store.apply(read_definition())
        store.upsert([("ann", {"age": 31.0}), ("a/b", {"age": 32.0})])
    made = Front(folder, valkey.socket_url)
    try:
        for instance in INSTANCES:
            made.start(instance)
        made.start_nginx()
        yield made
    finally:
        made.end()
        valkey.stop()


def statuses_while(front: Front, work: Iterator[None]) -> Counter[object]:
    """How GETs were answered that clients sent all the while, over kept connections and over new ones."""
    seen: Counter[object] = Counter()
    done = threading.Event()

    def ask(*, keep: bool) -> None:
        client = front.client()
        while not done.is_set():
            try:
                client.request("GET", "/features/ann")
                answer = client.getresponse()
                answer.read()
                seen[answer.status] += 1
                if not keep:
                    client.close()
            except (OSError, http.client.HTTPException, ssl.SSLError) as error:
                seen[repr(error)] += 1
                client = front.client()
        client.close()

    clients = [threading.Thread(target=ask, kwargs={"keep": keep}) for keep in (True, True, False)]
    for client in clients:
        client.start()
    try:
        for _ in work:
            before = seen[200]
            wait_until(lambda before=before: seen[200] > before + 20, timeout=60, what="more answers")  # type: ignore[misc]
    finally:
        done.set()
        for client in clients:
            client.join(30)
    return seen


@pytest.mark.timeout(300)
def test_no_get_fails_behind_the_proxy_while_one_instance_after_another_restarts(front: Front) -> None:
    def restarts() -> Iterator[None]:
        yield
        for instance in INSTANCES:
            front.stop(instance)
            yield
            front.start(instance)
            yield

    seen = statuses_while(front, restarts())
    assert seen[200] > 100
    assert list(seen) == [200], seen


@pytest.mark.timeout(300)
def test_no_get_fails_while_workers_are_replaced_by_a_signal(front: Front) -> None:
    def reloads() -> Iterator[None]:
        yield
        for instance in INSTANCES:
            ended = front.log_of(instance).count("Worker exiting")
            front.instances[instance].send_signal(signal.SIGHUP)
            wait_until(
                lambda instance=instance, ended=ended: front.log_of(instance).count("Worker exiting") > ended,  # type: ignore[misc]
                timeout=60, what="the older worker's end",
            )  # fmt: skip
            yield

    seen = statuses_while(front, reloads())
    assert list(seen) == [200], seen


def test_the_proxy_hands_on_ids_as_they_came_and_keeps_metrics_inside(front: Front) -> None:
    client = front.client()
    found = {}
    for target in ("/features/a%2Fb?features=age", "/metrics", "/features/nobody"):
        client.request("GET", target)
        answer = client.getresponse()
        found[target] = answer.status, answer.read()
    client.close()
    assert found["/features/a%2Fb?features=age"] == (200, b'{"user_id":"a/b","features":{"age":32.0}}')
    assert found["/metrics"][0] == 404
    assert b'"code":"UNKNOWN"' in found["/features/nobody"][1]


def test_a_redis_that_speaks_tls_is_reached_as_the_page_says(tmp_path: Path) -> None:
    needs("redis-server", "redis-server", "--version")
    certificate, port = make_certificate(tmp_path), free_port()
    command = ["redis-server", "--port", "0", "--tls-port", str(port), "--tls-cert-file", certificate.file,
               "--tls-key-file", certificate.key, "--tls-ca-cert-file", certificate.file, "--tls-auth-clients", "no",
               "--save", "", "--dir", str(tmp_path), "--logfile", "redis.log",
               "--user", "default", "off", "--user", "features", "on", ">p%w", "~*", "&*", "+@all"]  # fmt: skip
    redis = subprocess.Popen(command)
    try:
        page = re.findall(r"^REDIS_URL=(rediss://features.*)$", (DOCS / "production.md").read_text(), re.MULTILINE)[0]
        page = page.replace("redis.internal:6380", f"127.0.0.1:{port}").replace("PASSWORD", "p%25w")
        url = page.replace("/etc/ssl/redis-ca.pem", certificate.file)
        wait_until(lambda: listens(port) or redis.poll() is not None, timeout=60, what="Redis")
        assert _applied(url, tmp_path).returncode == 0
        untrusted = _applied(url.partition("?")[0], tmp_path)
        assert (untrusted.returncode, "certificate verify failed" in untrusted.stderr) == (1, True), untrusted.stderr
    finally:
        redis.terminate()
        redis.wait(10)


def _applied(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**clean_environment(folder), "REDIS_URL": url}
    return subprocess.run(
        [*SERVE[:-1], "apply"], env=environment, check=False, capture_output=True, text=True, timeout=60
    )
