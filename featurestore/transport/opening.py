"""Which transport a URL asks for, of each kind: for threads, for gevent, for asyncio.

`reached_at` is FEATURESTORE_ADDRESS_MAP; it matters only where servers tell each other's addresses. `reading` says who
answers reads, `durability` how many replicas confirm a write. All other options are those of the plain transport of
that kind. Behind a unix socket there is one server: reads are its own, whatever `reading` says.
"""

from typing import TYPE_CHECKING, Any

from featurestore.settings import Settings, may_have_replicas
from featurestore.transport.asyncio_cluster import AsyncClusterTransport
from featurestore.transport.asyncio_transport import AsyncTransport
from featurestore.transport.blocking import SyncTransport
from featurestore.transport.blocking_cluster import SyncClusterTransport
from featurestore.transport.confirming import Durability
from featurestore.transport.replicas import Reading
from featurestore.transport.sources import names_several

if TYPE_CHECKING:
    from featurestore.transport.gevent_cluster import GeventClusterTransport
    from featurestore.transport.gevent_transport import GeventTransport

BlockingTransport = SyncTransport | SyncClusterTransport
AsyncioTransport = AsyncTransport | AsyncClusterTransport


def blocking_transport(
    url: str,
    *,
    reached_at: str = "",
    reading: Reading | None = None,
    durability: Durability | None = None,
    **options: Any,
) -> BlockingTransport:
    """Return the transport for threads that a URL asks for."""
    if _leads_to_several(url, reading, durability):
        return SyncClusterTransport(url, reached_at=reached_at, reading=reading, durability=durability, **options)
    return SyncTransport(url, **options)


def asyncio_transport(
    url: str,
    *,
    reached_at: str = "",
    reading: Reading | None = None,
    durability: Durability | None = None,
    **options: Any,
) -> AsyncioTransport:
    """Return the transport for an event loop that a URL asks for."""
    if _leads_to_several(url, reading, durability):
        return AsyncClusterTransport(url, reached_at=reached_at, reading=reading, durability=durability, **options)
    return AsyncTransport(url, **options)


def gevent_transport(
    url: str,
    *,
    reached_at: str = "",
    reading: Reading | None = None,
    durability: Durability | None = None,
    **options: Any,
) -> "GeventTransport | GeventClusterTransport":
    """Return the transport for greenlets that a URL asks for."""
    if _leads_to_several(url, reading, durability):
        from featurestore.transport.gevent_cluster import GeventClusterTransport  # noqa: PLC0415 - needs gevent

        return GeventClusterTransport(url, reached_at=reached_at, reading=reading, durability=durability, **options)
    from featurestore.transport.gevent_transport import GeventTransport  # noqa: PLC0415 - likewise

    return GeventTransport(url, **options)


def _leads_to_several(url: str, reading: Reading | None, durability: Durability | None) -> bool:
    """Return whether there is more than one server to call, or more than one link to it.

    Also for a single primary: its replicas, where reads may go to them, and the link of writes that wait for replicas.
    """
    by_choice = reading is not None and not reading.plain and may_have_replicas(url)
    return names_several(url) or by_choice or (durability is not None and durability.replicas > 0)


def check(url: str, settings: Settings) -> None:
    """Make sure that a transport can be made as the settings ask for; nothing is connected.

    Raises:
        ConfigurationError: It cannot.
    """
    blocking_transport(
        url,
        timeout=1,
        connect_timeout=1,
        reached_at=settings.address_map or "",
        reading=Reading.by_settings(settings),
        durability=Durability.by_settings(settings),
    ).close()
