"""A plugin of pytest: the tests of the HTTP clients run on redis-featurestore-client, which has to be importable.

Each module of `featurestore_client` takes the place of the one of `featurestore` that it was made from.
"""

import sys
from importlib import import_module
from pkgutil import walk_packages

import featurestore_client

for found in walk_packages(featurestore_client.__path__, "featurestore_client."):
    if not found.ispkg:
        module = import_module(found.name)
        room, _, name = found.name.replace("featurestore_client", "featurestore").rpartition(".")
        sys.modules[f"{room}.{name}"] = module
        setattr(import_module(room), name, module)

assert import_module("featurestore").Client.__module__ == "featurestore_client.clients.client"
