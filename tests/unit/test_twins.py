"""The blocking store and client, and their twins for asyncio: the same methods, one module made from the other."""

import inspect
from typing import Any

import generate_twins
import pytest
from generate_twins import Twin, TwinError, awaited

from featurestore import AsyncClient, AsyncFeatureStore, Client, FeatureStore

pairs = pytest.mark.parametrize(
    ("blocking", "asynchronous"), [(FeatureStore, AsyncFeatureStore), (Client, AsyncClient)]
)


def members(kind: type) -> dict[str, Any]:
    """What callers use of a class, its own or inherited: functions, in place of properties and class methods theirs."""
    found = {name: inspect.getattr_static(kind, name) for name in dir(kind) if name[0] != "_"}
    return {name: getattr(each, "fget", getattr(each, "__func__", each)) for name, each in found.items()}


@pytest.mark.parametrize("twin", generate_twins.TWINS, ids=lambda twin: twin.made)
def test_a_twin_is_what_the_generator_makes(twin: Twin) -> None:
    assert generate_twins.is_current(twin), "run tests/generate_twins.py"
    assert twin.source in (generate_twins.ROOT / twin.made).read_text().splitlines()[0]


@pairs
def test_twins_have_the_same_methods_with_the_same_arguments(blocking: type, asynchronous: type) -> None:
    ours, theirs = members(blocking), members(asynchronous)
    assert ours.keys() == theirs.keys()
    for name, method in ours.items():
        one, other = inspect.signature(method), inspect.signature(theirs[name])
        assert list(one.parameters.values()) == list(other.parameters.values()), name
        assert str(one.return_annotation) == str(other.return_annotation).replace("Async", ""), name
        assert method.__doc__, name
        assert theirs[name].__doc__, name


@pairs
def test_twins_are_made_with_the_same_arguments(blocking: type, asynchronous: type) -> None:
    one, other = inspect.signature(blocking).parameters, inspect.signature(asynchronous).parameters
    assert [(each.name, each.kind, each.default) for each in one.values()] == [
        (each.name, each.kind, each.default) for each in other.values()
    ]


@pairs
def test_what_is_not_awaited_asks_nobody(blocking: type, asynchronous: type) -> None:
    at_once = {name for name, method in members(asynchronous).items() if not inspect.iscoroutinefunction(method)}
    of_what_is_known = {"has_seen", "known_selection", "selection_known", "service_known", "unsure", "versions_seen"}
    of_what_is_known |= {"occasion", "keep", "served_counts"}
    views = {"connect", "keys", "for_writes", "from_primary"}
    assert at_once == (views | of_what_is_known if blocking is FeatureStore else set())
    assert not any(map(inspect.iscoroutinefunction, members(blocking).values()))


# The generator

SOURCE = '''
class Store:
    def ask(self):
        """é""" ; return self._run(1)

    def twice(self, other):
        each = [self.ask() for _ in other]
        return [self.ask(), -self.ask(), other.ask(), self.known(), each]

    def known(self):
        return 7
'''

MADE = '''
class Store:
    async def ask(self):
        """é""" ; return await self._run(1)

    async def twice(self, other):
        each = [await self.ask() for _ in other]
        return [await self.ask(), -await self.ask(), other.ask(), self.known(), each]

    def known(self):
        return 7
'''


def test_methods_that_wait_are_awaited() -> None:
    assert awaited(SOURCE) == MADE


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    @property\n    def a(self):\n        return self._run(1)\n", "a waits and has a decorator"),
        ("    def a(self):\n        return self._run(1)[0]\n", r"all of `self\._run\(1\)\[0\]`"),
        ("    def a(self):\n        return self._run(1).b\n", r"all of `self\._run\(1\)\.b`"),
        ("    def a(self):\n        return self._run(1)(2)\n", r"all of `self\._run\(1\)\(2\)`"),
        (
            "    def a(self):\n        def b():\n            return self._run(1)\n        return b()\n",
            r"a: `self\._run` waits in a nested function",
        ),
        ("    def a(self):\n        return lambda: self._run(1)\n", r"a: `self\._run` waits in a nested function"),
        (
            "    def a(self):\n        class B:\n            c = self._run(1)\n        return B\n",
            r"a: `self\._run` waits in a nested class",
        ),
        ("    def a(self, x):\n        return list(self._run(y) for y in x)\n", r"a: .* in a generator expression"),
        ("    def a(self):\n        return f'{self._run(1)}'\n", r"a: `self\._run` waits in an f-string"),
        ("    def a(self, x):\n        return x.map(self._run)\n", r"a: `self\._run` waits and is not called here"),
        (
            "    def a(self, x):\n        return x.map(self.b)\n\n    def b(self):\n        return self._run(1)\n",
            r"a: `self\.b` waits and is not called here",
        ),
        ("    def a(self):\n        return super()._run(1)\n", r"a: `super\(\)\._run` waits: call it by `self`"),
        ("    def a(self):\n        return super(S, self)._run(1)\n", r"a: `super\(S, self\)\._run` waits"),
        ("    def a(self):\n        yield self._run(1)\n", "a waits and yields"),
        ("    def __len__(self):\n        return self._run(1)\n", "__len__ waits: Python calls it"),
        ("    def a(self):\n        return self._run(1)\n\n    b = a\n", "`b = a`: `a` waits and is not called here"),
    ],
)
def test_what_has_no_twin_is_refused(body: str, message: str) -> None:
    with pytest.raises(TwinError, match=message):
        awaited(f"class Store:\n{body}")


def test_a_paragraph_that_is_gone_is_told() -> None:
    twin = generate_twins.TWINS[0]._replace(paragraphs={"nowhere": "anywhere"})
    with pytest.raises(TwinError, match="has this 0 times: nowhere"):
        generate_twins.made_from(twin)


def test_comments_and_format() -> None:
    meaning = generate_twins.meaning
    assert meaning("a = (1,\n  2)") == meaning("a = (1, 2)")
    assert meaning("a = 1  # one") != meaning("a = 1  # two")
