"""The C extensions, and which of them were built. Without one, slower Python code does the same work."""

from importlib import import_module

_EXTENSIONS = ("columns", "partitions", "rows", "sockets", "transcode")


def missing_extensions() -> list[str]:
    """Return the names of the extensions that cannot be imported."""
    missing = []
    for name in _EXTENSIONS:
        try:
            import_module(f"featurestore.native.{name}")
        except ImportError:
            missing.append(name)
    return missing


def built_extensions() -> list[str]:
    """Return the names of the extensions that can be imported."""
    missing = missing_extensions()
    return [name for name in _EXTENSIONS if name not in missing]


def advice() -> str | None:
    """Return what to tell somebody whose installation lacks extensions; None where it has all."""
    missing = missing_extensions()
    if not missing:
        return None
    return (
        f"C extensions are missing ({', '.join(missing)}), so slower Python code does their work: to have them, "
        "install a C compiler and Python's header files (Debian: gcc python3-dev), then install the package again "
        "(make clean install)"
    )
