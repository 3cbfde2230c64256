"""Clusters, and primaries with replicas and Sentinels, of real servers on loopback."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from featurestore import FeatureStore
from featurestore.keys import SLOTS
from support.gates import Gates, address_of
from support.servers import Server, free_port, wait_until
from support.tls import Certificate

NODE_TIMEOUT_MS = 2000


class Node(Server):
    """A server of a cluster; it keeps its port, its folder and what it knows of the others when it is restarted.

    Args:
        binary: The server's program.
        folder: For its data.
        options: Further options of the server's.
        tls: What it speaks TLS with, on a port beside the plain one.
    """

    def __init__(self, binary: str, folder: Path, *options: str, tls: Certificate | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.tls_port = 0
        if tls is not None:
            self.tls_port = free_port()
            options = (*options, "--tls-port", str(self.tls_port), "--tls-cert-file", tls.file,
                       "--tls-key-file", tls.key, "--tls-ca-cert-file", tls.file, "--tls-auth-clients", "no",
                       "--tls-cluster", "yes")  # fmt: skip
        bus = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-config-file", "nodes.conf")
        super().__init__(binary, folder, *bus, *options)
        self.bus = int(bus[3])
        self.doors = (self.port, self.bus)  # where the others find it

    def stand_behind(self, doors: tuple[int, int], own_address: str) -> None:
        """Have the others come by these ports, and come to them from an address of its own; before `start`."""
        self.doors = doors
        self.options = (*self.options, "--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(doors[0]),
                        "--cluster-announce-bus-port", str(doors[1]), "--bind-source-addr", own_address)  # fmt: skip

    def command(self, *words: Any) -> Any:
        """Run a command on this node."""
        with redis.Redis(port=self.port, decode_responses=True, socket_timeout=20) as client:
            return client.execute_command(*words)

    @property
    def node_id(self) -> str:
        """What the cluster calls it."""
        return str(self.command("CLUSTER", "MYID"))

    @property
    def is_primary(self) -> bool:
        """Whether it takes writes, as it sees itself."""
        return bool(self.command("ROLE")[0] == "master")


class Cluster:
    """Primaries, each with as many replicas as the others, with the slots split evenly.

    Args:
        binary: The servers' program.
        folder: For their data.
        primaries: How many.
        replicas: How many each primary has.
        options: Further options of every server's.
        gated: Whether the nodes stand behind gates, so that `cut_off` works.
        tls: What they speak TLS with, each on a port beside the plain one.

    Attributes:
        nodes: First the primaries, as they were made, then the replicas: the first of each primary, then the second.
    """

    def __init__(  # noqa: PLR0913 - all but the first two by name
        self,
        binary: str,
        folder: Path,
        *options: str,
        primaries: int = 3,
        replicas: int = 1,
        gated: bool = False,
        tls: Certificate | None = None,
    ) -> None:
        self.primaries, self.replicas = primaries, replicas
        common = ("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--cluster-require-full-coverage", "no",
                  "--appendonly", "yes", "--repl-diskless-sync-delay", "0", *options)  # fmt: skip
        self.nodes = [
            Node(binary, folder / str(number), *common, tls=tls) for number in range(primaries * (1 + replicas))
        ]
        self._gates: Gates | None = self._build_gates() if gated else None

    @property
    def url(self) -> str:
        """The address of the whole cluster."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.doors[0]}" for node in self.nodes)

    def start(self) -> None:
        """Start the servers and make a cluster of them; return once all of them know that it serves."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        if self._gates is not None:
            self._gates.__enter__()
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes[: self.primaries]):
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            ends = [place * SLOTS // self.primaries for place in (number, number + 1)]
            node.command("CLUSTER", "ADDSLOTSRANGE", ends[0], ends[1] - 1)
        wait_until(self._have_met, timeout=60, what="nodes that know each other")
        for number, node in enumerate(self.nodes[self.primaries :]):
            node.command("CLUSTER", "REPLICATE", self.nodes[number % self.primaries].node_id)
        self.settle()

    def stop(self) -> None:
        """End every server."""
        for node in self.nodes:
            node.stop()
        if self._gates is not None:
            self._gates.__exit__(None, None, None)

    @contextlib.contextmanager
    def cut_off(self, node: Node) -> Iterator[None]:
        """While this lasts, no byte passes between a node and the others; clients reach all of them."""
        assert self._gates is not None, "want a cluster that is gated"
        self._gates.cut(self.nodes.index(node))
        try:
            yield
        finally:
            self._gates.mend()

    def settle(self, *, timeout: float = 60.0) -> None:
        """Return once every node serves, every replica follows its primary, and all of them know of all."""
        wait_until(self._is_whole, timeout=timeout, what="a cluster that is whole")

    def primary_of(self, slot: int, asked: Node | None = None) -> Node:
        """Return the node that has a slot now, as any node sees it, or the one `asked`."""
        for start, end, primary, *_ in asked.command("CLUSTER", "SLOTS") if asked else self._slots():
            if start <= slot <= end:
                return self.at(int(primary[1]))
        raise LookupError(slot)

    def at(self, port: int) -> Node:
        """Return the node that is found at that port."""
        return next(node for node in self.nodes if port in {node.port, node.tls_port, node.doors[0]})

    def replicas_of(self, primary: Node) -> list[Node]:
        """Return the replicas of a node, as the cluster sees them."""
        for _start, _end, first, *others in self._slots():
            if int(first[1]) == primary.doors[0]:
                return [self.at(int(other[1])) for other in others]
        return []

    def empty(self) -> None:
        """Take away what is stored; scripts stay."""
        for node in self.nodes:
            if node.is_primary:
                node.command("FLUSHALL")

    def all_keys(self) -> list[bytes]:
        """Return the keys of all primaries."""
        found: list[bytes] = []
        for node in self.nodes:
            if node.is_primary:
                with redis.Redis(port=node.port) as client:
                    found += client.keys("*")
        return found

    def begin_move(self, slot: int, target: Node) -> None:
        """Begin to give a slot to another primary, as redis-cli does it."""
        source = self.primary_of(slot)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.node_id)

    def move_keys(self, slot: int, target: Node, *keys: str) -> None:
        """Move these keys of a slot, or all that it has."""
        source = self.primary_of(slot)
        for key in keys or source.command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            source.command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)

    def end_move(self, slot: int, target: Node) -> None:
        """Give the slot to the other primary; return when every node knows."""
        source, name = self.primary_of(slot), target.node_id
        for node in (target, source):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", name)
        wait_until(lambda: all(self.primary_of(slot, node) is target for node in self.nodes), what="a slot that moved")

    def move(self, slot: int, target: Node) -> None:
        """Give a slot, and what is in it, to another primary."""
        self.begin_move(slot, target)
        self.move_keys(slot, target)
        self.end_move(slot, target)

    def fail_over(self, replica: Node) -> None:
        """Make a replica the primary in its primary's place, without losing anything; return when it is."""
        replica.command("CLUSTER", "FAILOVER")
        wait_until(lambda: replica.is_primary, what="a replica that takes over")

    def _build_gates(self) -> Gates:
        ways = []
        for number, node in enumerate(self.nodes):
            doors = (free_port(), free_port())
            node.stand_behind(doors, address_of(number))
            ways += [(doors[0], node.port, address_of(number)), (doors[1], node.bus, address_of(number))]
        return Gates(ways)

    def _slots(self) -> list[Any]:
        for node in self.nodes:
            if node.process is not None:
                with contextlib.suppress(redis.RedisError):
                    found: list[Any] = node.command("CLUSTER", "SLOTS")
                    return found
        raise LookupError("no node answers")

    def _have_met(self) -> bool:
        """Have all meet the first; return whether each knows each. A handshake that takes too long is forgotten."""
        first, *others = self.nodes
        for node in others:
            node.command("CLUSTER", "MEET", "127.0.0.1", first.tls_port or first.doors[0], first.doors[1])
        with contextlib.suppress(AssertionError):
            wait_until(lambda: all(map(self._knows_all, self.nodes)), timeout=NODE_TIMEOUT_MS / 1000)
            return True
        return False

    def _knows_all(self, node: Node) -> bool:
        known = node.command("CLUSTER", "NODES")  # as text, a line for each
        return len(known.splitlines()) == len(self.nodes) and "handshake" not in known

    def _is_whole(self) -> bool:
        try:
            slots = [node.command("CLUSTER", "SLOTS") for node in self.nodes]
            fine = all("cluster_state:ok" in node.command("CLUSTER", "INFO") for node in self.nodes)
            linked = all(node.is_primary or node.command("ROLE")[3] == "connected" for node in self.nodes)
        except redis.RedisError:
            return False
        whole = {node.node_id for node in self.nodes}
        agreed = len({str(sorted((start, end, first[2]) for start, end, first, *_ in found)) for found in slots}) == 1
        known = all({each[2] for _start, _end, *run in found for each in run} == whole for found in slots)
        return fine and linked and agreed and known


class Watched:
    """A primary and its replicas, watched by Sentinels.

    Args:
        binary: The servers' program; a Sentinel is the same program.
        folder: For their data.
        options: Further options of the servers'.
        replicas: How many.
        sentinels: How many.

    Attributes:
        servers: First the primary, as it was at first.
        sentinels: Those that watch it.
    """

    NAME = "mymaster"
    DOWN_AFTER_MS = 1000

    def __init__(self, binary: str, folder: Path, *options: str, replicas: int = 2, sentinels: int = 3) -> None:
        self.binary, self.folder = binary, folder
        self.servers: list[Server] = []
        for number in range(1 + replicas):
            place = folder / f"server{number}"
            place.mkdir(parents=True)
            self.servers.append(
                Server(binary, place, "--repl-diskless-sync-delay", "0", "--appendonly", "yes", *options)
            )
        self._count = sentinels
        self.sentinels: list[Server] = []

    @property
    def url(self) -> str:
        """The address that leads to the primary, whichever it is."""
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels) + f"/{self.NAME}"

    def start(self) -> None:
        """Start all; return once the Sentinels know of each other and of all replicas."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        first, *others = self.servers
        first.start()
        for server in others:
            server.options = (*server.options, "--replicaof", f"127.0.0.1 {first.port}")
            server.start()
        for number in range(self._count):
            self.sentinels.append(self._sentinel(self.folder / f"sentinel{number}", first.port))
        self.settle()

    def stop(self) -> None:
        """End every process."""
        for each in (*self.sentinels, *self.servers):
            each.stop()

    def settle(self, *, timeout: float = 60.0) -> None:
        """Return once the Sentinels know of each other and of all replicas, which follow the primary."""
        wait_until(self._is_whole, timeout=timeout, what="Sentinels that know of all")

    def primary(self) -> Server:
        """Return the server that the first Sentinel that answers calls the primary."""
        for sentinel in self.sentinels:
            with contextlib.suppress(redis.RedisError):
                port = int(ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)[1])
                return next(server for server in self.servers if server.port == port)
        raise LookupError("no Sentinel answers")

    def empty(self) -> None:
        """Take away what is stored; scripts stay."""
        ask(self.primary(), "FLUSHALL")

    def _sentinel(self, folder: Path, port: int) -> Server:
        folder.mkdir(parents=True)
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {self.NAME} 127.0.0.1 {port} 2\n"
            f"sentinel down-after-milliseconds {self.NAME} {self.DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {self.NAME} 4000\n"
        )
        sentinel = SentinelServer(self.binary, folder)
        sentinel.start()
        return sentinel

    def _is_whole(self) -> bool:
        try:
            primary = self.primary()
            for sentinel in self.sentinels:
                state = dict(_pairs(ask(sentinel, "SENTINEL", "MASTER", self.NAME)))
                if int(state["num-slaves"]) < len(self.servers) - 1:
                    return False
                if int(state["num-other-sentinels"]) < len(self.sentinels) - 1:
                    return False
                if int(state["port"]) != primary.port or state["flags"] != "master":
                    return False
            if ask(primary, "ROLE")[0] != "master":
                return False
            roles = [ask(server, "ROLE") for server in self.servers if server is not primary]
            return all(role[0] == "slave" and int(role[2]) == primary.port and role[3] == "connected" for role in roles)
        except (redis.RedisError, LookupError):
            return False


class SentinelServer(Server):
    """A Sentinel: the server's program with a file that it keeps its state in."""

    def start(self) -> None:
        self._run(self.binary, f"{self.folder}/sentinel.conf", "--sentinel", "--port", str(self.port),
                  "--bind", "127.0.0.1", "--dir", str(self.folder))  # fmt: skip


def entities(store: FeatureStore) -> dict[bytes, dict[bytes, bytes]]:
    """Return the hash of every known id of a store, in a cluster or not; each has to be in its own partition."""
    store.schema()
    command, found = store.transport.command, {}
    for part in store.keys.parts:
        for raw_id in command("SMEMBERS", part.members):
            assert store.keys.holding(raw_id) == part
            words = command("HGETALL", part.features_of_raw(raw_id))
            found[raw_id] = dict(sorted(zip(words[::2], words[1::2], strict=True)))
    return found


def forget_entities(store: FeatureStore) -> None:
    """Take every entity away, but not the schema."""
    store.schema()
    for part in store.keys.parts:
        for raw_id in store.transport.command("SMEMBERS", part.members):
            store.transport.command("DEL", part.features_of_raw(raw_id))
        store.transport.command("DEL", part.members)


def ask(server: Server, *words: Any) -> Any:
    """Run a command on a server."""
    with redis.Redis(port=server.port, decode_responses=True, socket_timeout=20) as client:
        return client.execute_command(*words)


def _pairs(found: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(found, dict):
        return iter(found.items())
    return zip(found[::2], found[1::2], strict=True)
