"""What a route is. `app.py` has the routes; the app and the OpenAPI document are both made of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import falcon

OF_ENTITY = "/entities/{entity}"
"""What stands in front of the paths of another entity."""

_IMPLIED = frozenset({"HEAD", "OPTIONS"})
"""Methods of which nothing is told: HEAD is wherever GET is, and Falcon itself answers OPTIONS."""


class Route(NamedTuple):
    """A path, and the class whose methods answer there.

    Attributes:
        path: As Falcon has it.
        resource: The class; the app has one instance of it.
        suffix: What the names of the methods end with, such as `ready` for `on_get_ready`.
    """

    path: str
    resource: type
    suffix: str | None = None

    @property
    def shown(self) -> str:
        """The path as people and OpenAPI write it."""
        return self.path.replace("{entity_id:path}", "{id}")

    def handlers(self) -> dict[str, Callable[..., Any]]:
        """Return HTTP method → what answers it."""
        end = f"_{self.suffix}" if self.suffix else ""
        names = {method: f"on_{method.lower()}{end}" for method in falcon.HTTP_METHODS if method not in _IMPLIED}
        found = {method: getattr(self.resource, name, None) for method, name in names.items()}
        return {method: handler for method, handler in found.items() if handler is not None}
