"""The Redis that a load writes to: whether it is still the same, and what it may have lost."""

from collections.abc import Mapping
from typing import Self

import msgspec

from featurestore.errors import RedisError, UnavailableError
from featurestore.store.blocking import FeatureStore
from featurestore.transport.interface import Node, Transport


class Process(msgspec.Struct, frozen=True):
    """A process of a server.

    Attributes:
        run_id: What tells it from others, and from itself after a restart; empty if it does not say.
        up_s: For how many seconds it has run.
        logs: Whether it writes an append-only file, so that a restart loses no more than some seconds.
        is_replica: Whether it follows another one.
    """

    run_id: str = ""
    up_s: int = 0
    logs: bool = False
    is_replica: bool = False

    @classmethod
    def ask(cls, transport: Transport) -> Self:
        """Ask for it; one that refuses to tell, since the user may not ask or INFO has another name, has no `run_id`.

        Raises:
            UnavailableError: It does not answer.
        """
        try:
            reply = transport.command("INFO")
        except UnavailableError:
            raise
        except RedisError:
            return cls()
        text = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
        told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return cls(
            told.get("run_id", ""),
            int(told.get("uptime_in_seconds", 0)),
            logs=told.get("aof_enabled", "0") == "1",
            is_replica=told.get("role", "master") != "master",
        )


class Server(msgspec.Struct, frozen=True):
    """The Redis that answers: one server, or the primaries of a cluster.

    Nodes of a cluster have names, which outlast restarts: a primary that was restarted is told from another node that
    has taken a primary's place, or was given slots.

    Attributes:
        processes: The process of each primary by the node's name, which is empty for a server that is no cluster's.
    """

    processes: Mapping[str, Process]

    @classmethod
    def ask(cls, store: FeatureStore) -> Self:
        """Ask for it.

        Raises:
            UnavailableError: It, or one of the primaries, does not answer.
        """
        if not store.transport.clustered:
            return cls({"": Process.ask(store.transport)})
        try:
            return cls(_primaries(store.transport))
        except UnavailableError:
            for part in store.keys.parts:  # another node may have taken over, which a key finds out
                store.transport.command("EXISTS", part.schema)
            return cls(_primaries(store.transport))

    @property
    def identity(self) -> str:
        """What tells it from others, and from itself after a restart; empty if it does not say."""
        if self.processes.keys() == {""}:
            return self.processes[""].run_id
        return " ".join(sorted(f"{name}={process.run_id}" for name, process in self.processes.items()))

    def is_other_than(self, identity: str) -> bool:
        """Return whether it, or one of its primaries, is not what was called so when it was written to last."""
        if self.processes.keys() == {""}:
            return identity not in {"", self.identity}
        return bool(identity) and not set(self.identity.split()) <= set(identity.split())

    def keeps(self, identity: str, quiet_s: float) -> bool:
        """Return whether it has what was written before, but for some seconds at the end of it.

        A process that was started since has what its log has. One that has run for longer has taken another's place,
        and followed it until then. So has another node of a cluster, however long it has run: it was given slots, or a
        primary's place, with what they hold.

        Args:
            identity: What it was called when it was written to last.
            quiet_s: For how many seconds a process has run that was not started since.
        """
        before = dict(each.rpartition("=")[::2] for each in identity.split())
        return all(
            process.logs or process.up_s > quiet_s or process.run_id == before.get(name, process.run_id)
            for name, process in self.processes.items()
        )


def _primaries(transport: Transport) -> dict[str, Process]:
    """Return the process of each primary of a cluster by the node's name.

    Raises:
        UnavailableError: One of them does not answer, or is none any more.
    """
    found = {}
    for node in transport.nodes():
        if node.role == "primary":
            process = Process.ask(node.transport)
            if process.is_replica:
                raise UnavailableError(f"{node.address} was a primary, and has become a replica")
            found[_name_of(node)] = process
    return found


def _name_of(node: Node) -> str:
    try:
        return bytes(node.transport.command("CLUSTER", "MYID")).decode()
    except UnavailableError:
        raise
    except RedisError:  # this user may not ask
        return node.address
