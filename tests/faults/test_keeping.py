"""What goes on beside the calls of a transport: that it does not end by itself, and ends with the transport."""

import gc
import logging
import os
import signal
import threading
from typing import Any

import gevent
import pytest
from support.servers import Server, wait_until

from featurestore.contract.resp import Reply
from featurestore.errors import FeatureStoreError, UnavailableError
from featurestore.transport.asyncio_transport import AsyncTransport
from featurestore.transport.gevent_cluster import GeventClusterTransport
from featurestore.transport.gevent_transport import GeventTransport
from featurestore.transport.keeping import Again, Wait, keeping
from featurestore.transport.opening import blocking_transport
from featurestore.transport.replicas import Reading
from featurestore.transport.servers import servers_url
from featurestore.transport.watched import Replicated

AWAY = "redis+replicas://127.0.0.1:1"
TIMES: dict[str, Any] = {"timeout": 0.2, "connect_timeout": 0.2}


def keepers() -> int:
    return sum(thread.name == "featurestore-keeper" for thread in threading.enumerate())


def test_what_nobody_expects_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Replicated(servers_url(AWAY), {}, Reading())
    cluster.refresh_at = 0.0
    steps = keeping(cluster)
    assert isinstance(next(steps), Again)
    with caplog.at_level(logging.ERROR, "featurestore"):
        assert isinstance(steps.throw(RuntimeError("a surprise")), Wait)
    assert "it is tried again" in caplog.text
    assert "a surprise" in caplog.text
    cluster.refresh_at = 0.0
    assert isinstance(steps.send(None), Again)


def test_transports_that_are_dropped_keep_no_thread() -> None:
    before, made = keepers(), [blocking_transport(AWAY, **TIMES) for _ in range(3)]
    for transport in made:
        with pytest.raises(UnavailableError):
            transport.command("PING")
    assert keepers() == before + 3
    del transport
    made.clear()
    gc.collect()
    wait_until(lambda: keepers() <= before, what="the end of the keepers")


def test_a_child_has_a_lock_and_a_keeper_of_its_own() -> None:
    transport: Any = blocking_transport(AWAY, **TIMES)
    with pytest.raises(UnavailableError):
        transport.command("PING")
    transport._refreshing.acquire()  # as while the keeper asks
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            transport.command("PING")
        except UnavailableError:
            os._exit(0 if keepers() == 1 else 3)
        os._exit(4)
    transport._refreshing.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    transport.close()


def test_a_forked_child_with_gevent_has_one_keeper() -> None:
    transport = GeventClusterTransport(AWAY, **TIMES)

    def ping() -> Reply | FeatureStoreError:
        try:
            return transport.command("PING")
        except FeatureStoreError as error:
            return error

    gevent.spawn(ping).get(timeout=10)
    keeper = transport.cluster.keeper
    child = gevent.fork()
    if child == 0:
        signal.alarm(10)
        gevent.spawn(ping).get(timeout=5)
        keeper._greenlet.join(timeout=2)
        os._exit(0 if keeper._greenlet.dead and not transport.cluster.keeper._greenlet.dead else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not keeper._greenlet.dead
    transport.close()


def test_a_transport_that_is_closed_asks_nobody_any_more() -> None:
    transport = GeventClusterTransport(AWAY, **TIMES)
    asking = transport._refresh_soon()
    transport.close()
    asking.join(timeout=5)
    assert asking.dead
    assert transport._refreshing is None


@pytest.mark.parametrize("kind", [GeventTransport, AsyncTransport])
def test_a_server_that_is_called_no_more_gets_no_connection(kind: Any) -> None:
    transport = kind("redis://127.0.0.1:1", **TIMES)
    transport.retire()
    with pytest.raises(UnavailableError, match="is none of the servers any more"):
        transport._check_pause()


def test_a_server_that_goes_while_it_is_connected_to_keeps_no_connection(valkey: Server) -> None:
    transport = GeventTransport(valkey.url, timeout=5, connect_timeout=5)
    connecting = gevent.spawn(transport._open)
    gevent.sleep(0)
    assert transport._attempt is not None
    transport.retire()
    connecting.join(timeout=10)
    assert transport.connections == 1
    assert transport._link is None
    with gevent.Timeout(10):
        while transport._retired:  # until the scripts are loaded
            gevent.sleep(0.002)
