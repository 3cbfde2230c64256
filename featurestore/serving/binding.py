"""Where a server listens: what FEATURESTORE_BIND says."""

import re

from featurestore.errors import ConfigurationError


def split_address(bind: str) -> tuple[str, int] | str:
    """Return the host and port in FEATURESTORE_BIND, or the path of a unix socket.

    Raises:
        ConfigurationError: It is an inherited descriptor, whose address nobody here knows.
    """
    if bind.startswith("unix:"):
        return re.sub(r"unix:(//)?", "", bind, count=1)
    host, _, port = bind.rpartition(":")
    if host == "fd":
        raise ConfigurationError(f"FEATURESTORE_BIND={bind}: where an inherited descriptor listens is not known")
    return host.strip("[]"), int(port)
