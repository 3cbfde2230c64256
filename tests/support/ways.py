"""Reads in one of two ways: by the packed row's layout, or by the features' names."""

import contextlib
from collections.abc import Collection, Iterator

import pytest

from featurestore.contract import selection


@contextlib.contextmanager
def asking(*, by_layout: bool) -> Iterator[None]:
    """Have selections that are made in the block ask by layout wherever the row has one of the features, or never."""

    def choice(_row: Collection[str], named: Collection[str], *, aged: bool) -> bool:
        return by_layout and bool(named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "by_layout_is_cheaper", choice)
        yield
