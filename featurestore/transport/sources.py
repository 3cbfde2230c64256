"""Which servers a URL that names several of them leads to."""

from collections.abc import Mapping

from featurestore.transport.addresses import cluster_url, is_cluster
from featurestore.transport.cluster import Cluster
from featurestore.transport.replicas import Reading
from featurestore.transport.sentinels import is_sentinel, sentinel_url
from featurestore.transport.servers import is_replicated, servers_url
from featurestore.transport.watched import Replicated, Watched


def names_several(url: str) -> bool:
    """Return whether a URL leads to several servers."""
    return is_cluster(url) or is_sentinel(url) or is_replicated(url)


def cluster_of(url: str, reached_at: Mapping[str, str], reading: Reading) -> Cluster:
    """Return what is known of the servers of a URL: nothing yet.

    Args:
        url: `redis+cluster://` and its kin; any other is taken for a primary's.
        reached_at: See `address_map`.
        reading: Who answers reads.

    Raises:
        ConfigurationError: The URL cannot be used.
    """
    if is_cluster(url):
        return Cluster(cluster_url(url), reached_at, reading)
    if is_sentinel(url):
        return Watched(sentinel_url(url), reached_at, reading)
    return Replicated(servers_url(url), reached_at, reading)
