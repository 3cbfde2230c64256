"""The scripts as one library of Redis Functions, for FUNCTION LOAD: its names, and which build of it is newer.

The major version of the contract is in the names, so that libraries of two major versions are on a server side by side.
Within a major version a newer library serves older callers, and takes the older one's place.
"""

import hashlib
import re
from functools import cache
from importlib.metadata import version

from featurestore.contract.scripts import CONTRACT, SCRIPTS, assemble, script_folder

LIBRARY = f"featurestore_{CONTRACT}"
"""The library's name."""

VERSION_FUNCTION = f"{LIBRARY}_version"
"""Its function that tells which build it is: the package's version and the digest of the functions."""


@cache
def package_version() -> str:
    """Return the version of this package."""
    return version("redis-featurestore")


@cache
def function_library() -> str:
    """Assemble the scripts as a library of Redis Functions, as FUNCTION LOAD takes it."""
    tells = (
        f"local function version()\n  return '{build()}'\nend\n"
        f"redis.register_function{{ function_name = '{VERSION_FUNCTION}', callback = version,"
        " flags = { 'no-writes' } }\n"
    )
    return f"#!lua name={LIBRARY}\n{_functions()}{tells}"


@cache
def build() -> str:
    """Return what the library's version function replies: the package's version and the digest of the functions."""
    digest = hashlib.sha1(_functions().encode(), usedforsecurity=False).hexdigest()
    return f"{package_version()} {digest}"


def serves(reply: bytes) -> bool:
    """Return whether a library serves this package, by the reply of its version function: this build, or a newer one.

    Of two builds of one version neither is newer: then each puts itself in the other's place.
    """
    told = reply.decode(errors="replace")
    return told == build() or _release(told) > _release(build())


def _release(told: str) -> list[int]:
    """Return the numbers that a version starts with, to be compared; `0.10.0rc1` counts as `0.10.0`."""
    match = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", told)
    return [int(number) for number in match[0].split(".")] if match else []


@cache
def _functions() -> str:
    parts = []
    for script in SCRIPTS:
        flags = ", ".join(f"'{flag}'" for flag in script.flags)
        parts.append(assemble(script_folder(), script.name))
        parts.append(
            f"redis.register_function{{ function_name = '{script.function}', callback = {script.name}"
            f"{f', flags = {{ {flags} }}' if flags else ''} }}\n"
        )
    return "".join(parts)
