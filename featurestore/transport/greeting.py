"""What is asked on a new connection before the first call by FCALL: whether the server has a library that serves.

Scripts are loaded ahead of the calls, in the same write. A library is not: it is written to disk and sent to replicas,
and a newer one that another release has loaded is to stay.
"""

import logging
from collections.abc import Generator

from featurestore.contract.doors import is_unknown
from featurestore.contract.library import LIBRARY, VERSION_FUNCTION, function_library, serves
from featurestore.contract.resp import Reply
from featurestore.errors import FeatureStoreError, UnavailableError

_logger = logging.getLogger("featurestore")

NO_FUNCTIONS = "this server has no functions: Redis has them from 7.0 on, and so has Valkey"


def make_sure_of_library() -> Generator[tuple[str, ...], Reply | FeatureStoreError, str | None]:
    """Yield commands, be sent the replies, and return why this connection is of no use; None if it is.

    A library that is missing, or older than this package, is loaded. If it cannot be, the calls will tell why. A server
    that cannot tell yet, being about to load its data, is to be asked again on another connection.
    """
    told = yield ("FCALL", VERSION_FUNCTION, "0")
    if isinstance(told, FeatureStoreError):
        if lacks_functions(told):
            return f"{NO_FUNCTIONS}; FEATURESTORE_CALL=scripts goes by EVALSHA"
        if isinstance(told, UnavailableError):
            return str(told)
        if not is_unknown(told):
            return None
    elif isinstance(told, bytes) and serves(told):
        return None
    loaded = yield ("FUNCTION", "LOAD", "REPLACE", function_library())
    if isinstance(loaded, FeatureStoreError) and isinstance(told, bytes):
        _logger.warning(
            "Redis has an older library %s (%s), which cannot be replaced: %s", LIBRARY, told.decode(), loaded
        )
    return None


def lacks_functions(reply: FeatureStoreError) -> bool:
    """Return whether an error reply to FCALL or FUNCTION says that the server does not know the command."""
    return str(reply).startswith("ERR unknown command")
