"""What each kind of transport does when nodes of a cluster say what a test makes them say."""

import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from support.kinds import Kind, Shared, outcome, over_each, over_shared
from support.scripted import encoded
from support.scripted_async import PATIENT_S, Behaviour, Peer

from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import GET_FEATURES, INCREMENT_FEATURES, Script
from featurestore.errors import DeadlineExceededError, UnavailableError
from featurestore.keys import slot_of, tags

FIRST, SECOND = tags(2)  # a slot of each half

Answer = Callable[[Peer, list[bytes]], Awaitable[None]]


def slots_of(*ports: int, host: str = "127.0.0.1") -> bytes:
    """Return what CLUSTER SLOTS replies where these ports share the slots."""
    ends = [place * 16384 // len(ports) for place in range(len(ports) + 1)]
    runs = [
        b"*3\r\n:%d\r\n:%d\r\n*3\r\n$%d\r\n%b\r\n:%d\r\n$2\r\nid\r\n"
        % (ends[place], ends[place + 1] - 1, len(host), host.encode(), port)
        for place, port in enumerate(ports)
    ]
    return b"*%d\r\n%b" % (len(runs), b"".join(runs))


class Said:
    """What the nodes say: about slots, and to a call; may be changed while they run."""

    def __init__(self) -> None:
        self.slots = b""
        self.asked = 0
        self.answers: list[bytes] = []  # of the first node, to its next calls
        self.answers_of_second: list[bytes] = []

    def node(self, name: str, *, first: bool = False) -> Behaviour:
        """Return a node that answers each call by its name, or by what is to be said."""

        async def behave(peer: Peer) -> None:
            while True:
                words = await peer.command()
                if words[0] == b"CLUSTER":
                    self.asked += 1
                    peer.send(self.slots)
                elif words[0] in {b"ASKING", b"READONLY"}:
                    peer.send(b"+OK\r\n")
                elif answers := self.answers if first else self.answers_of_second:
                    answer = answers.pop(0)
                    if not answer:
                        return
                    if answer != b"silence":
                        peer.send(answer)
                else:
                    row = encoded(name)
                    peer.send(b"$%d\r\n%b\r\n" % (len(row), row))

        return behave


class Nodes:
    """Two nodes and what they say."""

    def __init__(self, kind: Kind, stack: AsyncExitStack) -> None:
        self._kind, self._stack = kind, stack
        self.said = Said()

    async def start(self) -> "Nodes":
        first = await self._stack.enter_async_context(self._kind.server(self.said.node("first", first=True)))
        second = await self._stack.enter_async_context(self._kind.server(self.said.node("second")))
        self.servers = [first, second]
        self.ports = [int(server.url.rpartition(":")[2]) for server in self.servers]
        self.said.slots = slots_of(*self.ports)
        return self

    def connect(self, **options: Any) -> Any:
        return self._kind.connect(f"redis+cluster://127.0.0.1:{self.ports[0]}", **options)

    def commands(self, number: int) -> list[bytes]:
        return [words[0] for words in self.servers[number].received if words[0] != b"CLUSTER"]


def call(tag: str, script: Script = GET_FEATURES) -> bytes:
    return encode_call(script, (f"all_{tag}users", f"{tag}user:schema", f"{tag}user:a:features"), ("a",))


async def both(transport: Any) -> list[str]:
    """Read from each half of the slots; return which nodes answered."""
    return [reply[2:].decode() for reply in await transport.run_many_encoded(GET_FEATURES, [call(FIRST), call(SECOND)])]


async def who(transport: Any, script: Script = GET_FEATURES, **options: Any) -> str:
    """Call with a key of the first half; return which node answered."""
    (reply,) = await transport.run_many_encoded(script, [call(FIRST, script)], **options)
    if isinstance(reply, Exception):
        raise reply
    name: str = reply[2:].decode()
    return name


def slot() -> int:
    return slot_of(FIRST.encode())


@over_each
async def test_a_moved_slot_is_followed_and_the_topology_is_read_once(kind: Kind) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        transport = nodes.connect()
        assert await both(transport) == ["first", "second"]
        nodes.said.answers = [b"-MOVED %d :%d\r\n" % (slot(), nodes.ports[1])]  # the host is the one that was asked
        nodes.said.slots = slots_of(nodes.ports[1])
        assert await who(transport) == "second"
        await kind.eventually(lambda: nodes.said.asked == 2, what="a second look at the slots")
        assert await both(transport) == ["second", "second"]
        assert nodes.said.asked == 2


@over_each
async def test_a_slot_that_its_new_node_sends_back_is_asked_for_again(kind: Kind) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        transport = nodes.connect()
        away, back = (b"-MOVED %d 127.0.0.1:%d\r\n" % (slot(), port) for port in (nodes.ports[1], nodes.ports[0]))
        for script in (GET_FEATURES, INCREMENT_FEATURES):
            nodes.said.answers, nodes.said.answers_of_second = [away] * 3, [back] * 3
            assert await who(transport, script) == "first"
        nodes.said.answers, nodes.said.answers_of_second = [away] * 999, [back] * 999
        found = await outcome(who(nodes.connect(timeout=0.5)))
        assert isinstance(found, UnavailableError)
        assert f"slot {slot()} is moving" in str(found)
        assert all(f"127.0.0.1:{port}" in str(found) for port in nodes.ports)
        assert "REDIS_URL" not in str(found)


@over_each
async def test_a_call_is_asked_elsewhere_this_once(kind: Kind) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        transport = nodes.connect()
        nodes.said.answers = [b"-ASK %d ?:%d\r\n" % (slot(), nodes.ports[1])]
        assert [await who(transport), await who(transport)] == ["second", "first"]
        assert nodes.commands(1) == [b"ASKING", b"EVALSHA"]
        assert nodes.said.asked == 1


@over_each
async def test_what_is_over_soon_is_tried_again_for_writes_too(kind: Kind) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        transport = nodes.connect()
        nodes.said.answers = [b"-TRYAGAIN x\r\n", b"-CLUSTERDOWN x\r\n", b"-LOADING x\r\n"]
        assert await who(transport, INCREMENT_FEATURES) == "first"
        assert nodes.commands(0) == [b"EVALSHA"] * 4
        nodes.said.answers = [b"-TRYAGAIN x\r\n"] * 1000
        found = await outcome(who(nodes.connect(timeout=0.05)))
        assert isinstance(found, UnavailableError)
        assert str(found) == f"TRYAGAIN x (node 127.0.0.1:{nodes.ports[0]}, slot {slot()})"


@over_each
async def test_a_write_that_a_replica_refuses_goes_to_the_new_primary(kind: Kind) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        transport = nodes.connect()
        assert await who(transport) == "first"
        nodes.said.slots = slots_of(nodes.ports[1])
        nodes.said.answers = [b"-READONLY x\r\n"]
        assert await who(transport, INCREMENT_FEATURES) == "second"


@over_each
async def test_a_broken_connection_is_another_look_at_the_slots_for_reads_and_an_error_for_writes(kind: Kind) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        transport = nodes.connect()
        assert await who(transport) == "first"
        nodes.said.answers = [b""]
        failed = await outcome(who(transport, INCREMENT_FEATURES))
        assert isinstance(failed, UnavailableError)
        assert f"node 127.0.0.1:{nodes.ports[0]}, slot {slot()}" in str(failed)
        nodes.said.answers, nodes.said.slots = [b""], slots_of(nodes.ports[1])
        transport.cluster._backoff.reset(at_once=True)
        assert await who(transport) == "second"


@over_shared
async def test_a_node_that_is_silent_fails_its_own_call_in_time(kind: Shared) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        transport = nodes.connect(timeout=0.1, connect_timeout=PATIENT_S)
        assert await both(transport) == ["first", "second"]
        nodes.said.answers = [b"silence"]
        failed = await outcome(both(transport))
        assert isinstance(failed, DeadlineExceededError)
        assert f"node 127.0.0.1:{nodes.ports[0]}" in str(failed)
        assert transport.in_flight == 1  # the reply that nobody waits for keeps its place


@over_shared
async def test_who_is_stopped_while_legs_are_under_way_leaves_nothing_behind(kind: Shared) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        transport = nodes.connect()
        assert await both(transport) == ["first", "second"]
        nodes.said.answers = [b"silence"]
        task = kind.start(both(transport))
        await kind.eventually(lambda: not nodes.said.answers)
        await kind.stop(task)
        assert await both(nodes.connect()) == ["first", "second"]
        assert transport.in_flight == 1  # the reply that nobody waits for keeps its place


@over_each
async def test_a_seed_that_stands_still_does_not_use_up_the_time_of_the_others(kind: Kind) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # connects, and says nothing
        port = silent.getsockname()[1]
        url = f"redis+cluster://127.0.0.1:{port},127.0.0.1:{nodes.ports[0]}"
        for _ in range(4):  # seeds are asked in any order
            transport = kind.connect(url, timeout=3, write_timeout=3, connect_timeout=PATIENT_S)
            assert len(await transport.nodes()) == 2
            assert await who(transport) == "first"


@over_each
async def test_nodes_are_reached_by_the_map_of_addresses(kind: Kind) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        nodes.said.slots = slots_of(7000, 7001, host="203.0.113.9")
        reached_at = ",".join(f"203.0.113.9:{7000 + number}=127.0.0.1:{nodes.ports[number]}" for number in (0, 1))
        transport = nodes.connect(reached_at=reached_at)
        assert await both(transport) == ["first", "second"]
        assert [node.address for node in await transport.nodes()] == [f"127.0.0.1:{port}" for port in nodes.ports]
        nodes.said.answers = [b"-MOVED %d 203.0.113.9:7001\r\n" % slot()]
        assert await who(transport) == "second"


@over_each
async def test_a_redis_that_is_no_cluster_says_so(kind: Kind) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        nodes.said.slots = b"-ERR This instance has cluster support disabled\r\n"
        failed = await outcome(who(nodes.connect()))
        assert isinstance(failed, UnavailableError)
        assert "a single Redis has a URL with redis://" in str(failed)


@over_shared
async def test_many_who_meet_a_move_at_once_cause_one_look_at_the_slots(kind: Shared) -> None:
    async with AsyncExitStack() as stack:
        nodes = await Nodes(kind, stack).start()
        transport = nodes.connect()
        assert await both(transport) == ["first", "second"]
        nodes.said.answers = [b"-MOVED %d 127.0.0.1:%d\r\n" % (slot(), nodes.ports[1])] * 50
        nodes.said.slots = slots_of(nodes.ports[1])
        assert await kind.together(*[who(transport) for _ in range(50)]) == ["second"] * 50
        await kind.eventually(lambda: nodes.said.asked >= 2)
        assert await both(transport) == ["second", "second"]
        assert nodes.said.asked == 2
