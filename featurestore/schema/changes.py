"""What a schema file changes in the schema that is stored, and what each change does to stored data and to reads."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from featurestore.schema.definition import Definition, FeatureDefinition
from featurestore.schema.notes import KINDS, Note
from featurestore.schema.services import ServiceLog, stored_log
from featurestore.schema.stored import Schema, default_value
from featurestore.schema.types import Value, vector_length
from featurestore.schema.values import shown

_NO_EFFECT = "for people: nothing that is stored or read is touched"
_SPANS: Mapping[str, tuple[str, str]] = {
    "ttl": (
        "entities are unknown that long after their newest event time; keys expire so after their next write or repack",
        "entities do not expire any more; keys lose their expiry at their next write or repack",
    ),
    "max_age": (
        "values older than that are null to all reads; what is stored stays",
        "values are served however old they are",
    ),
    "tombstone": ("holds for deletions from now on", "a day, for deletions from now on"),
    "max_ahead": ("writes of a later event time are refused", "a day: writes of a later event time are refused"),
}
"""Option → what it does when it is set, and when it is taken back."""


class Change(msgspec.Struct, frozen=True):
    """One change of a schema.

    Attributes:
        sign: `+` for what is new, `-` for what goes, `~` for what becomes another.
        what: What changes, and how.
        effect: What that does to what is stored, and to those who read and write.
        new_layout: Whether packed rows have to be made again.
    """

    sign: str
    what: str
    effect: str
    new_layout: bool = False

    def __str__(self) -> str:
        """Return the change as a line for people."""
        return f"{self.sign} {self.what}: {self.effect}"


def changes_of(before: Schema | None, definition: Definition) -> list[Change]:
    """Return what applying a definition changes.

    Args:
        before: What is stored; None for nothing.
        definition: What is declared.
    """
    stored = before or Schema({}, 0, "")
    wanted = _Words(definition)
    found: list[Change] = []
    for name, kind in wanted.features.items():
        found += _feature_changes(stored, wanted, name, kind)
    found += _entity_changes(stored, wanted)
    for name, features in definition.listed.items():
        found += _service_change(name, stored.services.get(name, []), features)
        found += _log_change(name, stored.logs.get(name), wanted.options.get(f"@log:{name}"))
    return found


def undeclared_in_services(before: Schema | None, definition: Definition) -> tuple[str, ...]:
    """Return where the definition has a service that names no feature of its own entity; empty where none does."""
    declared = definition.features.keys() | (before.features.keys() if before else set())
    own = f"{definition.entity}:"
    for service, names in definition.listed.items():
        for name in names:
            feature = name.removeprefix(own)
            if ":" not in feature and feature not in declared:
                return ("services", service, name)
    return ()


class _Words:
    """What a definition says, as apply_schema is told it.

    Attributes:
        features: Name → type.
        options: `@option` or `@option:name` → value, empty where it is taken back.
    """

    def __init__(self, definition: Definition) -> None:
        words = definition.words()
        pairs = list(zip(words[::2], words[1::2], strict=True))
        self.features = {
            name: feature.type if isinstance(feature, FeatureDefinition) else feature
            for name, feature in definition.features.items()
        }
        self.options = {word: value for word, value in pairs if word.startswith("@")}

    def note(self, behind: str = "") -> dict[str, str]:
        """Return the notes, by kind, of the feature in `behind`, which is `:name`, or of the entity."""
        return {kind: self.options[f"@{kind}{behind}"] for kind in KINDS if f"@{kind}{behind}" in self.options}


def _feature_changes(stored: Schema, wanted: _Words, name: str, kind: str) -> Iterator[Change]:
    if name not in stored.features:
        age = _ms(wanted.options.get(f"@max_age:{name}"))
        told = kind if age is None else f"{kind}, max_age {_span(age)}"
        yield Change("+", f"feature {name} ({told})", _of_new(wanted, name, kind), new_layout=True)
        return
    text = wanted.options.get(f"@default:{name}")
    default = None if text is None else default_value(kind, text)
    known = stored.defaults.get(name)
    if default != known:
        effect = f"reads answer {_json(default)} where nothing is stored"
        yield Change("~", f"feature {name}, default {_json(known)} → {_json(default)}", effect, new_layout=True)
    span, before = wanted.options.get(f"@max_age:{name}"), stored.max_ages_ms.get(name)
    if _ms(span) != before:
        what = f"feature {name}, max_age {_span(before)} → {_span(_ms(span))}"
        entitys = stored.max_ages_ms.get("") if "@max_age" not in wanted.options else _ms(wanted.options["@max_age"])
        effect = f"the entity's max_age of {_span(entitys)} holds" if entitys else _SPANS["max_age"][1]
        yield Change("~", what, _SPANS["max_age"][0] if span else effect, new_layout=True)
    always = f"@always:{name}" in wanted.options
    if always != (name in stored.always):
        effect = "it is read with the other features" if always else "it is read only when it is named"
        what = f"feature {name}, always {str(not always).lower()} → {str(always).lower()}"
        yield Change("~", what, effect, new_layout=True)
    note = Note.of(wanted.note(f":{name}"))
    if note != stored.notes.get(name, Note()):
        yield Change("~", f"feature {name}, {_kinds(note, stored.notes.get(name, Note()))}", _NO_EFFECT)


def _of_new(wanted: _Words, name: str, kind: str) -> str:
    default = wanted.options.get(f"@default:{name}")
    if kind.startswith(("count(", "sum(")):
        return "0 until events are recorded"
    value = "null" if default is None else f"its default {_json(default_value(kind, default))}"
    if vector_length(kind) is not None and f"@always:{name}" not in wanted.options:
        return f"{value} until it is written; read only when it is named"
    return f"{value} until it is written"


def _entity_changes(stored: Schema, wanted: _Words) -> Iterator[Change]:
    day = Schema({}, 0, "").tombstone_ms
    known = {
        "ttl": stored.ttl_ms or None, "max_age": stored.max_ages_ms.get(""),
        "tombstone": stored.tombstone_ms, "max_ahead": stored.max_ahead_ms,
    }  # fmt: skip
    for option, before in known.items():
        if f"@{option}" not in wanted.options:
            continue
        after = _ms(wanted.options[f"@{option}"])
        if after is None and option in {"tombstone", "max_ahead"}:
            after = day
        if option == "ttl":
            after = after or None
        if after != before:
            is_set = bool(wanted.options[f"@{option}"])
            what, effect = f"{option} {_span(before)} → {_span(after)}", _SPANS[option][0 if is_set else 1]
            yield Change("~", what, effect, new_layout=option in {"ttl", "max_age"})
    names = {
        "join_key": (stored.join_key, "responses call the id so; servers do when they are restarted"),
        "members": (stored.members, "ids in the set of before are unknown until they are written again"),
    }
    for option, (name, effect) in names.items():
        given = wanted.options.get(f"@{option}")
        if given is not None and given != name:
            fresh = not stored.version
            yield Change("+" if fresh else "~", f"{option} {given}", "for callers" if fresh else effect)
    told, note = wanted.note(), stored.notes.get("", Note())
    after_note = Note.of({**_stored_kinds(note), **told})
    if after_note != note:
        yield Change("~" if stored.version else "+", f"the entity's {_kinds(after_note, note)}", _NO_EFFECT)


def _stored_kinds(note: Note) -> dict[str, str]:
    texts = {"description": note.description, "owner": note.owner}
    return {**texts, "tags": msgspec.json.encode(note.tags).decode()}


def _service_change(name: str, before: Sequence[str], after: Sequence[str]) -> Iterator[Change]:
    if list(before) == list(after):
        return
    if not before:
        yield Change("+", f"service {name}", f"reads by that name answer {', '.join(after)}")
    elif not after:
        yield Change("-", f"service {name}", "reads by that name are refused; what is stored stays")
    else:
        gone = [f"-{feature}" for feature in before if feature not in after]
        come = [f"+{feature}" for feature in after if feature not in before]
        how = " ".join((*come, *gone)) or "the order"
        yield Change("~", f"service {name}, {how}", "reads by that name answer the new list, under another digest")


def _log_change(name: str, before: ServiceLog | None, word: str | None) -> Iterator[Change]:
    after = stored_log(word) if word else None
    if before == after:
        return
    what = f"service {name}, log {before or 'none'} → {after or 'none'}"
    if after is None:
        effect = "what reads by that name are served is not kept any more; what was kept stays"
    else:
        effect = "what reads by that name are served is kept, for featurestore export --served"
    yield Change("~" if before else "+", what, effect)


def _kinds(one: Note, other: Note) -> str:
    return ", ".join(kind for kind in KINDS if getattr(one, kind) != getattr(other, kind))


def _ms(text: str | None) -> int | None:
    return int(text) if text else None


def _span(ms: int | None) -> str:
    """Return a span of time as a schema file spells it."""
    if not ms:
        return "none" if ms is None else "0"
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms"


def _json(value: Value | None) -> str:
    return shown(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
