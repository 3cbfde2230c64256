"""What is kept of what a service was served over HTTP."""

from collections.abc import Mapping, Sequence
from typing import Any

from falcon import Request
from msgspec.structs import replace

from featurestore.contract.selection import Fresh, Selection
from featurestore.contract.served import LETTERS, Occasion, ServedRow, plain_request_id
from featurestore.store.blocking import FeatureStore
from featurestore.store.served_rows import Served
from featurestore.worker.interface import REQUEST_ID

_SENT_ID = "HTTP_X_REQUEST_ID"


def occasion_of(req: Request, store: FeatureStore, service: str | None) -> Occasion | None:
    """Return what is to be told of a request if what it is served is to be kept; None for the others.

    It is chosen by the id that the client sent, and kept under the id that the response has.

    Args:
        req: The request, perhaps with an id in `X-Request-Id`.
        store: The store of the entity by whose schema it reads.
        service: The service by which it reads, which was found just now; None for none.
    """
    if not service:
        return None
    occasion = store.occasion(service, plain_request_id(req.env.get(_SENT_ID)))
    identity = req.env.get(REQUEST_ID)
    return occasion if occasion is None or identity is None else replace(occasion, request_id=identity)


class Views:
    """What Feast's route was served, view by view, until all of it is there.

    Args:
        occasion: The request.
        rows: How many rows it has.
    """

    def __init__(self, occasion: Occasion, rows: int) -> None:
        self._occasion = occasion
        self._columns: dict[str, str] = {}
        self._entities: list[dict[str, tuple[str, int | None]]] = [{} for _ in range(rows)]
        self._values: list[list[Any]] = [[] for _ in range(rows)]
        self._letters = [""] * rows

    def add(self, view: str, ids: Mapping[int, str], selection: Selection, entries: Sequence[Fresh | None]) -> None:
        """Take the features of a view.

        Args:
            view: The view.
            ids: Place of a row → the id that it has of this view.
            selection: The features.
            entries: What was found for each row.
        """
        prefix = "" if view == self._occasion.entity else f"{view}:"
        self._columns |= {f"{prefix}{name}": kind for name, kind in selection.kinds.items()}
        nothing = [None] * len(selection.names)
        for place, entry in enumerate(entries):
            if place in ids:
                self._entities[place][view] = (ids[place], entry.event_time if entry else None)
            self._values[place] += entry.values if entry else nothing
            self._letters[place] += "".join([LETTERS[each] for each in entry.statuses]) if entry else "M" * len(nothing)

    def served(self) -> Served:
        """Return what was served."""
        rows = zip(self._entities, self._values, self._letters, strict=True)
        return Served(self._occasion, self._columns, [ServedRow(*row) for row in rows])
