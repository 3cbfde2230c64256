"""The line of a key in a schema file, however it is spelled."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.schema.lines import line_of

TEXT = """\
# services.ads = ["age"]
entity = "user"
description = \"\"\"
[services]
ads = ["nope"]
\"\"\"

[features]
age = "float"        # 9
"odd name" = 'int'
city = { type = "string", default = "ZZ" }
b.type = "int"

[features.long]      # 14
type = "float"
max_age = \"soon\"

[services]
ads = [
  "age",   # 20
  'city',
  "nope",
]
short = ["age", "no"]
"""


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (("entity",), 2),
        (("description",), 3),
        (("features",), 8),
        (("features", "age"), 9),
        (("features", "odd name"), 10),
        (("features", "city", "default"), 11),
        (("features", "b", "type"), 12),
        (("features", "long"), 14),
        (("features", "long", "max_age"), 16),
        (("services", "ads"), 19),
        (("services", "ads", "age"), 20),
        (("services", "ads", "city"), 21),
        (("services", "ads", "nope"), 22),
        (("services", "ads", "not there as it is"), 19),
        (("services", "short", "no"), 24),
        (("services", "none"), None),
        (("nothing",), None),
        ((), None),
    ],
)
def test_the_line_of_a_key(where: tuple[str, ...], line: int | None) -> None:
    assert line_of(TEXT, where) == line
    assert line_of(TEXT.replace("\n", "\r\n"), where) == line


def test_a_list_of_thousands_of_lines_takes_no_time() -> None:
    names = "\n".join(f'  "f{number}",' for number in range(5000))
    text = f'[features]\na = "int"\n[services]\nads = [\n{names}\n]\nlast = ["x"]\n'
    assert line_of(text, ("services", "ads", "f4999")) == 5004
    assert line_of(text, ("services", "last", "x")) == 5006


def test_what_is_no_toml_has_no_lines() -> None:
    assert line_of("a = [", ("a",)) is None


@given(
    st.lists(st.sampled_from(["", "# b = 1", '"""\nb = 1\n"""', "[1,\n 2]", "{ x = 1 }", "3"]), min_size=1, max_size=12)
)
def test_each_key_is_found_where_it_was_put(values: list[str]) -> None:
    text, lines = "", {}
    for number, value in enumerate(values):
        if value in {"", "# b = 1"}:
            text += f"{value}\n"
            continue
        lines[f"k{number}"] = text.count("\n") + 1
        text += f"k{number} = {value}\n"
    assert tomllib.loads(text).keys() == lines.keys()
    assert {key: line_of(text, (key,)) for key in lines} == lines
