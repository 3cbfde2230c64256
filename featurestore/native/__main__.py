"""`python -m featurestore.native`: the end of `make install`."""

from featurestore.native import advice

print(advice() or "The C extensions are built.")  # noqa: T201 - a command
