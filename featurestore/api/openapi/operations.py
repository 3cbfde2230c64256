"""What is declared of an operation. `declared.py` has those of all handlers, `document.py` makes OpenAPI of them."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from featurestore.api.openapi import statuses

Schema = Any
"""A type, whose schema msgspec makes; several of which a body is one, as a tuple; or a JSON schema as a mapping."""

Media = Mapping[str, Schema]
"""Media type → what a body of that type is."""

BINARY: Mapping[str, Any] = {}
"""The schema of bytes that are no JSON."""


def lines_of(kind: Schema) -> dict[str, Any]:
    """Return the schema of text with a JSON object a line, which OpenAPI 3.1 cannot describe but as text."""
    return {
        "type": "string",
        "pattern": r"^\s*$|(^|\n)\s*\{",
        "contentMediaType": "application/x-ndjson",
        "contentSchema": kind,
    }


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of the path, the query or the header.

    Attributes:
        name: Its name.
        place: Where it stands.
        schema: What its value is.
        description: What it is for.
        is_list: Whether it has several values, with commas between them.
    """

    name: str
    place: Literal["path", "query", "header"]
    schema: Mapping[str, Any]
    description: str
    is_list: bool = False


class Body(msgspec.Struct, frozen=True):
    """The body of a request.

    Attributes:
        media: What it may be.
        aliases: Field → its other name in the default entity's requests. One of the two has to be there.
        either: Fields of which there is at most one.
        needs_one: Whether there has to be one of `either`.
        is_required: Whether there has to be a body.
    """

    media: Media
    aliases: Mapping[str, str] = {}
    either: tuple[str, ...] = ()
    needs_one: bool = False
    is_required: bool = True


class Answer(msgspec.Struct, frozen=True):
    """An answer that is no problem document.

    Attributes:
        description: When it is given.
        media: What the body may be; none if there is no body.
        headers: The names of its header fields.
    """

    description: str
    media: Media = {}
    headers: tuple[str, ...] = ()


class Operation(msgspec.Struct, frozen=True):
    """What a handler does, as its callers need to know.

    Attributes:
        name: The operation's id.
        tag: The group it is in.
        summary: What it does, in a line.
        answers: Status → answer.
        description: What else is to be known.
        parameters: The names of its parameters, but for those of the path.
        body: The body of its requests.
        refusals: Statuses of problems that do not follow from the rest → when, or empty for what the status means.
        needs: What an API key has to allow.
        asks_redis: Whether the answer depends on Redis.
        is_feast: Whether problems are told as Feast's client wants them.
    """

    name: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    parameters: tuple[str, ...] = ()
    body: Body | None = None
    refusals: Mapping[int, str] = {}
    needs: Literal["write"] | None = None
    asks_redis: bool = True
    is_feast: bool = False

    def statuses(self, *, of_entity: bool) -> list[int]:
        """Return the statuses of all problems that it may be answered with, in order.

        Args:
            of_entity: Whether the path names an entity.
        """
        found = {*self.refusals}
        if self.body is not None:
            found |= {415, 422}
        if self.parameters:
            found |= {400, 422}
        if self.needs is not None:
            found |= {*statuses.BY_NEED[self.needs]}
        if self.asks_redis:
            found |= {503, 504}
        if any("msgpack" in kind for answer in self.answers.values() for kind in answer.media):
            found.add(406)
        if of_entity:
            found.add(404)
        return sorted(found)
