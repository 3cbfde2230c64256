"""The health checks: whether the process is there, whether it is ready, and what is missing of a cluster."""

from typing import Any

import falcon
import msgspec
from falcon import Request, Response

from featurestore.api.access import Access
from featurestore.api.counters import Meter
from featurestore.api.problems import without_addresses
from featurestore.contract.json_rows import encode
from featurestore.errors import FeatureStoreError
from featurestore.store.blocking import FeatureStore
from featurestore.store.health import Reach, look_for_a_schema, nodes_of, reach_of
from featurestore.transport.interface import Replicas

_JSON = falcon.MEDIA_JSON


class HealthResource:
    """Health checks: `/health` and `/readyz` ask Redis, `/livez` asks nobody.

    Strangers are told the status alone where reads need a key: reasons and nodes name servers. Where reads are open,
    everybody is told why Redis fails, and of a cluster which nodes do; those with a key also where a single Redis is.

    Args:
        store: Where the features are.
        access: Knows who is no stranger.
        ready_share: The least share of ids that can be served for the server to be ready.
        meter: Takes note of whether it is ready.
    """

    def __init__(
        self, store: FeatureStore, access: Access, ready_share: float = 1.0, meter: Meter | None = None
    ) -> None:
        self._store, self._access, self._ready_share, self._meter = store, access, ready_share, meter

    def on_get(self, req: Request, resp: Response) -> None:
        """Answer as `on_get_ready` does; where there are several servers, with all, and whether each answers."""
        self._answer(req, resp, with_nodes=isinstance(self._store.transport, Replicas))

    def on_get_ready(self, req: Request, resp: Response) -> None:
        """Answer 200 if Redis answers and holds a schema of any entity, else 503 with the reason.

        In a cluster so many ids must be served as the setting says; the answer has what is missing.
        """
        self._answer(req, resp, with_nodes=False)

    def on_get_live(self, _req: Request, resp: Response) -> None:
        """Answer 200: the process takes requests."""
        resp.content_type = _JSON
        resp.data = b'{"status":"alive"}'

    on_head, on_head_ready, on_head_live = on_get, on_get_ready, on_get_live

    def _answer(self, req: Request, resp: Response, *, with_nodes: bool) -> None:
        resp.content_type = _JSON
        known = self._access.knows(req.env)
        answer: dict[str, Any] = {"status": "healthy"}
        try:
            look_for_a_schema(self._store)
            reach = reach_of(self._store)
            if reach.missing:
                answer = {"status": "degraded", **reach.shown()}
            if reach.share < self._ready_share:
                answer |= {"status": "unhealthy", "reason": self._reason(reach)}
            if with_nodes and known:
                answer["nodes"] = [msgspec.to_builtins(each) for each in nodes_of(self._store, reach)]
        except FeatureStoreError as error:
            has_key = self._access.key_of(req.env) is not None
            answer = {"status": "unhealthy", "reason": str(error) if has_key else without_addresses(str(error))}
        if self._meter is not None:
            self._meter.tell_ready(ready=answer["status"] != "unhealthy")
        if answer["status"] == "unhealthy":
            resp.status = falcon.HTTP_SERVICE_UNAVAILABLE
        resp.data = encode(answer if known else {"status": answer["status"]})

    def _reason(self, reach: Reach) -> str:
        away = ", ".join(each.node for each in reach.missing)
        return (
            f"{reach.share:.1%} of the ids can be served, want at least {self._ready_share:.1%}"
            f" (FEATURESTORE_READY_SHARE): {away}"
        )
