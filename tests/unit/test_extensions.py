"""What is said where C extensions were not built, and that type checkers know each of them."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from featurestore import native


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def remove(missing: str) -> None:
        def load(name: str) -> object:
            if name == f"featurestore.native.{missing}":
                raise ImportError(name)
            return import_module(name)

        monkeypatch.setattr(native, "import_module", load)

    return remove


def test_missing_extensions_are_told(without: Callable[[str], None]) -> None:
    assert native.missing_extensions() == []
    assert native.advice() is None
    without("sockets")
    assert native.missing_extensions() == ["sockets"]
    advice = native.advice()
    assert advice is not None
    assert "sockets" in advice
    assert "\n" not in advice


def test_every_extension_has_its_types() -> None:
    folder = Path(native.__file__).parent
    assert {path.stem for path in folder.glob("*.pyi")} == {path.stem for path in folder.glob("*.c")}
