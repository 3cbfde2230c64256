"""What the tests of stores run on: one server, or a cluster; and how it is emptied and looked through."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping

from featurestore import SyncTransport, Transport
from featurestore.keys import PARTITIONS, tags
from featurestore.transport.opening import blocking_transport
from support.cluster import Cluster
from support.servers import UNDER_TEST, Server

CLUSTERS = tuple(os.environ.get("CLUSTERS_UNDER_TEST", "" if UNDER_TEST else "valkey9").split())
"""The servers of which there is a cluster: one every day, all of them by `make test-cluster`."""

ON_CLUSTERS = tuple(f"cluster-{name}" for name in CLUSTERS)
"""Clusters of these servers, for tests that go by a store's own names of keys; see `single_redis`."""

ONE_OF_EACH = ("valkey9", *ON_CLUSTERS)
"""A single server, and the clusters."""

_OWN_KEYS = (b"user:", b"all_users", b"featurestore:schemas")
_TAG = re.compile(rb"\{[^}]*\}")
_NAME = re.compile(rb"all_\w+|featurestore:schemas|\w+:.+:(features|served)|(draft:)?\w+:schema", re.DOTALL)
_TAGS = {b"{featurestore}"} | {tag.encode() for count in PARTITIONS if count <= 256 for tag in tags(count)}


class Backend:
    """One server.

    Attributes:
        transport: A transport to it.
        url: Its address; empty for a server in this process.
    """

    def __init__(self, transport: Transport, url: str = "") -> None:
        self.transport, self.url = transport, url

    def empty(self) -> None:
        """Take away all that is stored."""
        self.transport.command("FLUSHALL")

    def all_keys(self) -> list[bytes]:
        """Return all keys that there are."""
        return list(self.transport.command("KEYS", "*"))

    def strangers(self) -> list[bytes]:
        """Return the keys that are not the store's own."""
        return [key for key in self.all_keys() if not key.startswith(_OWN_KEYS)]


class ClusterBackend(Backend):
    """A cluster.

    Args:
        transport: A transport to it.
        cluster: The cluster.
    """

    def __init__(self, transport: Transport, cluster: Cluster) -> None:
        super().__init__(transport, cluster.url)
        self._cluster = cluster

    def empty(self) -> None:
        """Take away all that is stored, on every node."""
        self._cluster.empty()

    def all_keys(self) -> list[bytes]:
        """Return the keys of all nodes."""
        return self._cluster.all_keys()

    def strangers(self) -> list[bytes]:
        """Return the keys of all nodes that are not the store's own, or have none of the tags that there are."""
        return [key for key in self.all_keys() if not _is_own(key)]


def _is_own(key: bytes) -> bool:
    """Return whether a key has a tag of the store's, and is of an entity: users, or one that a test has beside them."""
    tag = (_TAG.findall(key) or [b""])[0]
    return tag in _TAGS and _NAME.fullmatch(key.replace(tag, b"", 1)) is not None


Clusters = Mapping[str, Cluster]
"""Clusters by the names of their servers."""


@contextlib.contextmanager
def opened(name: str, servers: Mapping[str, Server], clusters: Clusters) -> Iterator[Backend]:
    """Give the backend of that name, one of `ONE_OF_EACH`, whatever it holds."""
    if name in ON_CLUSTERS:
        server = name.partition("-")[2]
        cluster = clusters[server]
        transport: Transport = blocking_transport(cluster.url, timeout=5, connect_timeout=5)
        backend: Backend = ClusterBackend(transport, cluster)
    else:
        transport = SyncTransport(servers[name].socket_url, timeout=5, connect_timeout=5)
        backend = Backend(transport, servers[name].socket_url)
    yield backend
    transport.close()
