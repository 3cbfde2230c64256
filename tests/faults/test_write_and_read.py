"""A write and the read of what it wrote, in one write: in this order also where Redis has lost scripts."""

import asyncio
from typing import Any

import pytest
from support.servers import Server

from featurestore import AsyncFeatureStore, AsyncTransport, Definition, FeatureStore, SyncTransport
from featurestore.contract.scripts import GET_FEATURES, UPSERT_FEATURES, Script
from featurestore.transport.gevent_transport import GeventTransport

LOST: list[tuple[Script, ...]] = [(), (GET_FEATURES,), (UPSERT_FEATURES,), (GET_FEATURES, UPSERT_FEATURES)]


def lose_all_but(store: FeatureStore, kept: tuple[Script, ...]) -> None:
    store.transport.command("SCRIPT", "FLUSH")
    for script in kept:  # as a caller in another language does
        store.transport.command("SCRIPT", "LOAD", script.source)


@pytest.fixture
def store(valkey: Server) -> FeatureStore:
    store = FeatureStore(SyncTransport(valkey.url, timeout=5, connect_timeout=5))
    store.apply(Definition(features={"age": "float"}))
    return store


@pytest.mark.parametrize("kept", LOST)
@pytest.mark.parametrize("transport", [SyncTransport, GeventTransport])
def test_what_a_put_answers_with_is_what_it_wrote(
    valkey: Server, store: FeatureStore, transport: Any, kept: tuple[Script, ...]
) -> None:
    writer = FeatureStore(transport(valkey.url, timeout=5, connect_timeout=5))
    for age in (1.0, 2.0):
        lose_all_but(store, kept)
        result, _, row = writer.put("u", {"age": age})
        assert (result.written, row) == (1, (age,))
    writer.close()
    store.close()


@pytest.mark.parametrize("kept", LOST)
def test_it_is_so_under_asyncio(valkey: Server, store: FeatureStore, kept: tuple[Script, ...]) -> None:
    async def put_twice() -> None:
        async with AsyncFeatureStore(AsyncTransport(valkey.url, timeout=5, connect_timeout=5)) as writer:
            for age in (1.0, 2.0):
                lose_all_but(store, kept)
                result, _, row = await writer._run(writer._plans.put("u", {"age": age}, None, overwrite=False))
                assert (result.written, row) == (1, (age,))

    asyncio.run(put_twice())
    store.close()
