"""The libraries of functions on a server: which there are, and how this package's gets there."""

from collections.abc import Callable

import msgspec

from featurestore.contract.library import LIBRARY, build, function_library, serves
from featurestore.contract.resp import Reply
from featurestore.errors import ConfigurationError, FeatureStoreError, RedisError
from featurestore.store.nodes import primaries
from featurestore.transport.greeting import NO_FUNCTIONS, lacks_functions
from featurestore.transport.interface import Node
from featurestore.transport.opening import blocking_transport

_PATIENCE_S = 1.0

Command = Callable[..., Reply]
"""Runs a plain command, as `Transport.command` does."""


class NoFunctionsError(RedisError):
    """The server has no functions: it is a Redis before 7.0."""


class FoundLibrary(msgspec.Struct, frozen=True):
    """A library of this project on a server, of any major version.

    Attributes:
        name: The library's.
        build: What tells it from other builds; empty where it does not say.
    """

    name: str
    build: str

    @property
    def is_ours(self) -> bool:
        """Whether it is what this package would load."""
        return self.name == LIBRARY and self.build == build()

    @property
    def serves(self) -> bool:
        """Whether this package can call it: it is this build, or a newer one of the same major version."""
        return self.name == LIBRARY and serves(self.build.encode())

    def __str__(self) -> str:
        return f"{self.name} {self.build or 'of a build that it does not tell'}"


def find_libraries(command: Command) -> list[FoundLibrary]:
    """Return the libraries of this project, by name.

    Raises:
        NoFunctionsError: The server has no functions.
    """
    listed = _run(command, "LIST", "LIBRARYNAME", "featurestore_*")
    names = sorted(dict(zip(library[::2], library[1::2], strict=True))[b"library_name"].decode() for library in listed)
    return [FoundLibrary(name, _build_of(command, name)) for name in names]


def load_library(command: Command) -> None:
    """Put this package's library onto the server, in place of any other of its name.

    Raises:
        NoFunctionsError: The server has no functions.
        RedisError: It takes none now.
    """
    _run(command, "LOAD", "REPLACE", function_library())


def check_server(url: str, reached_at: str = "") -> None:
    """Ask a server, or each primary of a cluster, whether it has functions. One that does not answer is not judged.

    Args:
        url: Where Redis is.
        reached_at: FEATURESTORE_ADDRESS_MAP.

    Raises:
        ConfigurationError: It has none.
    """
    transport = blocking_transport(url, reached_at=reached_at, timeout=_PATIENCE_S, connect_timeout=_PATIENCE_S)
    try:
        for node in primaries(transport):
            _check_node(node)
    except NoFunctionsError as error:
        raise ConfigurationError(f"FEATURESTORE_CALL=functions: {error}") from error
    except RedisError:
        pass  # nobody tells which nodes there are
    finally:
        transport.close()


def _check_node(node: Node) -> None:
    try:
        find_libraries(node.transport.command)
    except NoFunctionsError:
        raise
    except RedisError:
        pass  # the server's own calls will meet that, and tell


def _build_of(command: Command, name: str) -> str:
    try:
        told = command("FCALL", f"{name}_version", 0)
    except FeatureStoreError:  # something else has taken the name, or the user may not call functions
        return ""
    return told.decode(errors="replace") if isinstance(told, bytes) else ""


def _run(command: Command, *words: str) -> Reply:
    try:
        return command("FUNCTION", *words)
    except RedisError as error:
        if lacks_functions(error):
            raise NoFunctionsError(NO_FUNCTIONS) from error
        raise
