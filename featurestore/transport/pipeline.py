"""What the transports know of calls under way, without any I/O: what failed, and what is repeated."""

from collections.abc import Sequence

from featurestore.contract.resp import Reply
from featurestore.errors import FeatureStoreError, RedisError

GIVEN_UP = "the connection was given up, and whether a write on it took place is unknown"


class Failure:
    """Why there is no reply.

    Attributes:
        error: What to tell the caller; an exception of its own for each.
        lost: Whether the connection broke, so that another one may serve the call.
        unsent: Whether the call certainly did not reach Redis.
    """

    __slots__ = ("error", "lost", "unsent")

    def __init__(self, error: FeatureStoreError, *, lost: bool = False, unsent: bool = False) -> None:
        self.error = error
        self.lost = lost
        self.unsent = unsent


def has_code(reply: Reply, code: str) -> bool:
    """Return whether a reply is an error of that code."""
    return isinstance(reply, RedisError) and str(reply).startswith(code)


def to_repeat(unknown: Sequence[bool], *, in_order: bool) -> list[int]:
    """Return the positions of the calls to make again once the scripts are loaded.

    A call that was answered with NOSCRIPT did not take place, so to repeat it is safe for writes too.

    Args:
        unknown: For each call whether Redis did not know its script.
        in_order: Whether the calls behind such a call depend on it; see `Script.in_order`.
    """
    if in_order and True in unknown:
        return list(range(unknown.index(True), len(unknown)))
    return [position for position, is_unknown in enumerate(unknown) if is_unknown]
