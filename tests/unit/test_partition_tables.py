"""docs/direct.md tells callers in any language which partition has an id: its table is what the package does."""

from pathlib import Path

import pytest

from featurestore.keys import partition_of, tags

PAGE = (Path(__file__).parents[2] / "docs" / "direct.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    """Return the cells of the table."""
    _, _, rest = PAGE.partition("| id | slot | of 16 |")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_is_there() -> None:
    assert len(rows()) == 5


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_each_row_is_what_the_package_does(row: list[str]) -> None:
    raw_id, slot = row[0].encode(), int(row[1])
    assert partition_of(raw_id, 16384) == slot
    for count, place in ((16, 2), (64, 4), (256, 6)):
        partition, tag = int(row[place]), row[place + 1]
        assert partition_of(raw_id, count) == slot * count // 16384 == partition
        assert tags(count)[partition] == tag
