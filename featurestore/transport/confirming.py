"""Writes that replicas confirm before they are acknowledged: what is sent behind them, and what the replies mean.

Behind calls that write, on their connection, go a mark and a WAIT. WAIT looks at what its own connection wrote. On
newer servers a row that was there already, since another connection had written it, would count as confirmed though no
replica has it. The mark, a key that soon expires, is a write of the own connection behind all of them.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from featurestore.contract.resp import encode_command
from featurestore.contract.scripts import (
    COUNT_ENTRIES,
    DELETE_ENTITY,
    INCREMENT_FEATURES,
    RECORD_EVENTS,
    REPLACE_ROWS,
    UPSERT_FEATURES,
    WRITE_AND_READ,
)
from featurestore.errors import FeatureStoreError, UnconfirmedWriteError
from featurestore.keys import MARK
from featurestore.settings import Settings
from featurestore.transport.pipeline import Failure
from featurestore.transport.slots import HEAD

CONFIRMED = (
    UPSERT_FEATURES,
    REPLACE_ROWS,
    WRITE_AND_READ,
    RECORD_EVENTS,
    INCREMENT_FEATURES,
    DELETE_ENTITY,
    COUNT_ENTRIES,
)
"""What writes rows; what changes schemas or tidies up is not waited for."""

WAIT_REPLIES = 2
"""To the mark, and to WAIT."""

_MARK_MS = 1000
_GRACE_S = 1.0  # for the way of the reply, and what it stands behind


class Durability(msgspec.Struct, frozen=True):
    """How many replicas confirm a write before it is acknowledged.

    Attributes:
        replicas: How many; 0 for none.
        wait_ms: How long they may take.
    """

    replicas: int = 0
    wait_ms: int = 100

    @classmethod
    def by_settings(cls, settings: Settings) -> "Durability":
        """Return what the settings ask for."""
        return cls(settings.wait_replicas, settings.wait_ms)

    @property
    def allowed(self) -> float:
        """Seconds in which a reply to WAIT has to be there."""
        return self.wait_ms / 1000 + _GRACE_S

    def question(self, call: bytes, *, clustered: bool) -> bytes:
        """Return the commands that have replicas confirm an encoded call, and all before it on its connection."""
        start = call.find(b"{", HEAD) if clustered else -1
        tag = call[start : call.find(b"}", start) + 1].decode() if start >= 0 else ""
        mark = encode_command(("SET", f"{tag}{MARK}", "", "PX", _MARK_MS))
        return mark + encode_command(("WAIT", self.replicas, self.wait_ms))

    def doubt(self, waited: Sequence[Any] | Failure | None, address: str) -> str | None:
        """Return why a write is in doubt; None where it is confirmed.

        Args:
            waited: The replies to `question`, or why there are none.
            address: The primary's.
        """
        took_place = f"the write took place on {address}"
        if waited is None or isinstance(waited, Failure):
            why = "" if waited is None else f": {waited.error}"
            return f"{took_place}, but whether replicas have it could not be asked{why}"
        error = next((reply for reply in waited if isinstance(reply, FeatureStoreError)), None)
        if error is not None:
            return f"{took_place}, but whether replicas have it could not be asked: {error}"
        if waited[1] < self.replicas:
            return (
                f"{took_place}, but {waited[1]} of {self.replicas} replicas confirmed it within {self.wait_ms} ms:"
                " a failover may lose it"
            )
        return None

    def judged(self, waited: Sequence[Any] | Failure | None, replies: list[Any], address: str) -> list[Any]:
        """Return replies to calls; where they are not confirmed, in errors, as their `result`. Errors stay."""
        if not has_written(replies):
            return replies
        doubt = self.doubt(waited, address)
        if doubt is None:
            return replies
        return [
            reply if isinstance(reply, FeatureStoreError) else UnconfirmedWriteError(doubt, reply) for reply in replies
        ]


class _Waited:
    """The replies to a mark and a WAIT."""

    name = "WAIT"

    def misfit(self, replies: Sequence[Any]) -> str | None:
        """Return what is wrong with the replies, None where nothing is."""
        mark, count = replies
        fits = isinstance(mark, FeatureStoreError) or mark in {b"OK", "OK"}
        return None if fits and isinstance(count, int | FeatureStoreError) else "the replies to SET and WAIT are none"


WAITED = _Waited()


def has_written(outcome: Any) -> bool:
    """Return whether some call may have taken place, by its reply or by all of them."""
    if isinstance(outcome, list):
        return any(not isinstance(reply, FeatureStoreError) for reply in outcome)
    return not isinstance(outcome, Failure | FeatureStoreError)
