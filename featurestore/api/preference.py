"""Whom a request wants its features read from."""

import falcon
from falcon import Request

from featurestore.store.blocking import FeatureStore

READ_FROM = "Featurestore-Read-From"
"""The header field: `primary` for a read that is to see every write that was answered before."""


def preferred(store: FeatureStore, req: Request) -> FeatureStore:
    """Return the store to read from: as the server is set, or from primaries where the request asks for that."""
    wanted = req.get_header(READ_FROM)
    if wanted is None:
        return store
    if wanted.strip().lower() != "primary":
        raise falcon.HTTPUnprocessableEntity(
            description=f"{READ_FROM}: {wanted[:40]!r}: want `primary`, or no such field"
        )
    return store.from_primary()
