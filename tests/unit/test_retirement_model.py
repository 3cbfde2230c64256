"""Features that come, go and come again beside writes, compared with a plain model after every step."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.examples import examples
from support.fake import FakeTransport

from featurestore import Definition, FeatureStore
from featurestore.store.retirement import clear, retire

NAMES, IDS = ("a", "b"), ("ann", "bob")
VALUES: dict[str, Any] = {"int": 7, "string": "x", "float32[1]": [2.0]}

names = st.sampled_from(NAMES)


class Retirements(RuleBasedStateMachine):
    """A store, and what it should answer."""

    def __init__(self) -> None:
        super().__init__()
        self.transport = FakeTransport()
        self.kinds: dict[str, str] = {}
        self.retiring: dict[str, str] = {}
        self.values: dict[str, dict[str, Any]] = {}
        self.time = 1_700_000_000_000

    @property
    def store(self) -> FeatureStore:
        """A store that knows nothing yet."""
        return FeatureStore(self.transport)

    @initialize(both=st.booleans())
    def begin(self, *, both: bool) -> None:
        for name in NAMES if both else NAMES[:1]:
            self.declare_as(name, "int")
        for each in IDS:
            self.write(each, set(NAMES), 0, overwrite=False)

    @rule(name=names, kind=st.sampled_from(list(VALUES)))
    def declare(self, name: str, kind: str) -> None:
        if name not in self.retiring and self.kinds.get(name, kind) == kind:
            self.declare_as(name, kind)

    def declare_as(self, name: str, kind: str) -> None:
        self.store.apply(Definition({name: kind}))
        self.kinds[name] = kind

    @precondition(lambda self: self.kinds)
    @rule(
        entity_id=st.sampled_from(IDS),
        given=st.sets(names, min_size=1),
        late=st.integers(0, 2),
        overwrite=st.booleans(),
    )
    def write(self, entity_id: str, given: set[str], late: int, *, overwrite: bool) -> None:
        self.time += 1
        row = {name: VALUES[self.kinds[name]] for name in self.kinds if name in given}
        self.store.upsert([(entity_id, row)], event_time=None if late == 0 else self.time, overwrite=overwrite)
        self.values.setdefault(entity_id, {}).update(row)

    @precondition(lambda self: self.kinds)
    @rule(name=names)
    def retire(self, name: str) -> None:
        if name in self.kinds:
            retire(self.store, [name])
            self.retiring[name] = self.kinds.pop(name)
            for row in self.values.values():
                row.pop(name, None)

    @precondition(lambda self: self.retiring)
    @rule(again=st.booleans())
    def clear(self, *, again: bool) -> None:
        """Clear all hashes, and perhaps declare the features again as they were: the layout may be that of before."""
        for _ in clear(self.store):
            pass
        gone, self.retiring = self.retiring, {}
        for name, kind in gone.items() if again else ():
            self.declare_as(name, kind)

    @precondition(lambda self: self.retiring and self.values)
    @rule()
    def begin_and_stop(self) -> None:
        next(clear(self.store))

    @invariant()
    def reads_are_as_the_model_says(self) -> None:
        if not self.kinds:
            return
        store = self.store
        in_row = [name for name, kind in self.kinds.items() if kind != "float32[1]"]
        expected = [self.values.get(each) for each in IDS]
        for wanted, told in ((None, in_row), (list(self.kinds), list(self.kinds))):
            if told:
                rows = [None if row is None else {name: row.get(name) for name in told} for row in expected]
                assert store.get_many(IDS, wanted) == rows

    @invariant()
    def hashes_have_nothing_else(self) -> None:
        for each in IDS:
            fields = {field.decode() for field in self.transport.command("HKEYS", f"user:{each}:features")}
            assert fields - {"@row", "@event_time"} <= self.kinds.keys() | self.retiring.keys()


TestRetirements = Retirements.TestCase
TestRetirements.settings = settings(max_examples=examples(40), stateful_step_count=20)
