"""API keys for tests: files of keys, and the secrets that go with them."""

import msgspec

from featurestore.access import key_file
from featurestore.access.key import StoredKey, digest_of, id_of, make_secret


def made(path: object, name: str, *may: str, **options: object) -> str:
    """Add a key to a file, and return its secret."""
    secret = make_secret()
    entry = {"name": name, "id": id_of(secret), "sha256": digest_of(secret).hex(), "may": may, **options}
    key_file.add(str(path), msgspec.convert(entry, StoredKey))
    return secret
