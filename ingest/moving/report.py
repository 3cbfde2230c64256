"""What a move says of itself: before it begins, and in the end."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from featurestore.contract.hashes import is_window
from featurestore.keys import PartitionedKeys

from .ends import End
from .move import Manner
from .schemas import Planned
from .state import State

_COPIED = ("seen", "equal", "created", "replaced", "merged", "newer", "gone", "refused")
_COMPARED = ("seen", "equal", "behind", "newer", "missing", "different", "extra")


def announced(source: End, target: End, plans: Sequence[Planned], partitions: int) -> Iterator[str]:
    """Yield what there is to move, and what will be done about schemas."""
    yield f"from {source.address} to {target.address}"
    for plan in plans:
        yield f"{plan.entity}: {plan.ids} ids, {len(plan.schema.features)} features{_windows(plan)}"
        keys = target.entities.get(plan.entity)
        if plan.there is None:
            parts = f", in {partitions} partitions" if target.store.transport.clustered else ""
            yield f"{plan.entity}: the target has no such entity; its schema is applied there{parts}"
        else:
            split = f" in {keys.count} partitions" if isinstance(keys, PartitionedKeys) else ""
            yield f"{plan.entity}: the target has {plan.ids_there} ids{split}"
        if plan.lacking:
            yield f"{plan.entity}: the target lacks {', '.join(plan.lacking)}, which are declared there"
        yield from plan.told


def _windows(plan: Planned) -> str:
    windows = [name for name, kind in plan.schema.features.items() if is_window(kind)]
    return f" (sliding windows: {', '.join(windows)})" if windows else ""


def summary(state: State, manner: Manner) -> Iterator[str]:
    """Yield what was done and found, line by line."""
    if state.passes:
        yield f"{'pass':6}" + "".join(f"{name:>10}" for name in _COPIED)
        for number, copied in enumerate(state.passes, 1):
            yield f"{number:<6}" + "".join(f"{getattr(copied, name):>10}" for name in _COPIED)
    if manner.removes:
        yield f"removed at the target: {state.removed}"
    if manner.share:
        yield f"{'compare':7}" + "".join(f"{name:>10}" for name in _COMPARED)
        yield f"{'':7}" + "".join(f"{getattr(state.compared, name):>10}" for name in _COMPARED)
        if manner.keeps == "same" and state.compared.extra:
            yield f"{state.compared.extra} ids are at the target alone, written since the switch: they do not count"
        for example in state.compared.examples:
            yield msgspec.json.encode(example).decode()


def as_json(state: State, manner: Manner) -> dict[str, Any]:
    """Return the same for programs."""
    found: dict[str, Any] = {"passes": msgspec.to_builtins(state.passes)}
    if manner.removes:
        found["removed"] = state.removed
    if manner.share:
        found["compared"] = msgspec.to_builtins(state.compared)
    return found


def agrees(state: State, manner: Manner) -> bool:
    """Return whether all was copied, and the comparison found nothing that a further pass would have to look at.

    Where nothing was copied, what is behind counts as a difference too. Where writers write to the target already, ids
    that it alone has do not.
    """
    found = state.compared
    refused = sum(copied.refused for copied in state.passes[-1:])
    behind = 0 if manner.passes else found.behind
    extra = 0 if manner.keeps == "same" else found.extra
    return refused == found.missing == found.different == extra == behind == 0
