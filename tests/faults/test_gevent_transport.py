"""What concerns the transport of greenlets alone: the event loop's callbacks, processes, patching."""

import contextlib
import json
import subprocess
import sys
from typing import Any

import gevent
import pytest
from support.scripted import eventually
from support.servers import Server

from featurestore.transport.gevent_transport import GeventTransport

PATIENT_S = 20.0


def test_a_callback_of_the_loop_is_told_that_it_cannot_wait(valkey: Server) -> None:
    transport = GeventTransport(valkey.url, timeout=PATIENT_S, connect_timeout=PATIENT_S)
    transport.command("PING")
    seen: list[Exception] = []

    def call() -> None:
        try:
            transport.command("PING")
        except RuntimeError as error:
            seen.append(error)

    gevent.get_hub().loop.run_callback(call)
    eventually(lambda: seen)
    assert "greenlet" in str(seen[0])
    assert transport.command("PING") == b"PONG"
    transport.close()


# Processes of their own


def run_program(program: str, *arguments: str) -> Any:
    """Run a Python program in a process of its own; return what it printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr, done.stderr.decode()
    return json.loads(done.stdout)


PATCH = {"patched": "from gevent import monkey; monkey.patch_all()\n", "unpatched": ""}

FORK = """
import json, os, sys
import gevent, gevent.os
from featurestore.transport.gevent_transport import GeventTransport

transport = GeventTransport(sys.argv[1], timeout=10, connect_timeout=10)
before = transport.command("CLIENT", "ID")
under_way = gevent.spawn(transport.command, "BLPOP", "nothing", "0.2")
while not transport.in_flight:
    gevent.sleep(0)
gevent.sleep(0.01)
ours, theirs = os.pipe()
child = gevent.os.fork()
if child == 0:
    said = [transport.in_flight, transport.command("CLIENT", "ID"), transport.command("ECHO", "child").decode()]
    for _ in range(100):
        transport.command("ECHO", "x")
        gevent.sleep(0.004)
    os.write(theirs, json.dumps(said).encode())
    os._exit(0)
os.close(theirs)
own = [transport.command("ECHO", str(number)).decode() for number in range(300)]
after = transport.command("CLIENT", "ID")
said = json.loads(os.read(ours, 1000))
gevent.os.waitpid(child, 0)
print(json.dumps([before, after, own == [str(number) for number in range(300)], under_way.get(), said]))
"""


@pytest.mark.parametrize("patch", PATCH)
def test_a_forked_child_has_a_connection_of_its_own(valkey: Server, patch: str) -> None:
    before, after, own_replies, under_way, child = run_program(PATCH[patch] + FORK, valkey.url)
    assert before == after
    assert own_replies
    assert under_way is None
    assert child[0] == 0
    assert child[1] != before
    assert child[2] == "child"


LARGE = """
import json, sys
import gevent
from featurestore.transport.gevent_transport import GeventTransport

transport = GeventTransport(sys.argv[1], timeout=30, connect_timeout=10)
payloads = [bytes([number]) * 2_000_000 for number in range(16)]
large = [gevent.spawn(transport.command, "ECHO", payload) for payload in payloads]
small = [gevent.spawn(transport.command, "ECHO", str(number)) for number in range(200)]
gevent.joinall(large + small, raise_error=True)
answers = [g.value for g in large] == payloads, [g.value for g in small] == [b"%d" % n for n in range(200)]
writes = transport.writes
gevent.joinall([gevent.spawn(transport.command, "ECHO", str(number)) for number in range(100)])
print(json.dumps([*answers, transport.writes - writes, transport.connections]))
transport.close()
"""


@pytest.mark.parametrize("patch", PATCH)
def test_tls_carries_large_and_small_calls_alike(tls_url: str, patch: str) -> None:
    large, small, writes, connections = run_program(PATCH[patch] + LARGE, tls_url)
    assert (large, small, writes, connections) == (True, True, 1, 1)


def test_the_package_does_not_need_gevent() -> None:
    program = "import json, sys, featurestore.store.blocking; print(json.dumps('gevent' in sys.modules))"
    assert run_program(program) is False


def test_an_idle_transport_does_not_keep_a_program_alive(valkey: Server) -> None:
    program = (
        "import sys, gevent\n"
        "from featurestore.transport.gevent_transport import GeventTransport\n"
        "transport = GeventTransport(sys.argv[1], timeout=0.1, connect_timeout=5)\n"
        "transport.command('PING')\n"
        "gevent.wait()\n"
        "print(transport.calls)"
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        assert run_program(program, valkey.url) == 1
        return
    pytest.fail("the program did not end")
