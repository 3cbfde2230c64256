"""The keys that a server knows: those of the settings, and those of a file that may change."""

import hashlib
import hmac
import logging
import mmap
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from featurestore.access import key_file
from featurestore.access.key import METRICS, READ, WRITE, Key, digest_of, id_of
from featurestore.errors import ConfigurationError

LOOK_EACH_S = 1.0
"""How often the file is looked at."""

_SETTLED_S = 0.2
"""A file that was changed no longer ago may be half written: it is looked at after as long again."""

_HEAD_BYTES = 40  # a length and a digest

_logger = logging.getLogger("featurestore")


class KeySettings(Protocol):
    """The settings that name keys."""

    @property
    def read_keys(self) -> str | None:
        """Keys that may read, with commas between them."""

    @property
    def write_keys(self) -> str | None:
        """Keys that may write, with commas between them."""

    @property
    def keys_file(self) -> str | None:
        """A file of keys."""


class Keyring:
    """All keys.

    Args:
        read_keys: Keys that may read every entity, and the metrics; with commas between them.
        write_keys: Keys that may write every entity; with commas between them.
        path: A file of keys.

    Attributes:
        closed: Whether reads need a key: some are named that may read, or there is a file.
        path: The file.
        changed: Called after the keys have changed, and about once a second.

    Raises:
        ConfigurationError: The file cannot be used.
    """

    def __init__(self, read_keys: str | None = None, write_keys: str | None = None, path: str | None = None) -> None:
        self._set = _of_settings(read_keys, write_keys)
        self.closed = path is not None or bool(_listed(read_keys))
        self.path = path
        self.changed: Callable[[], object] = _nothing
        self._told = ""
        self._looked = _state_of(path)
        self._take(() if path is None else _read_or_remember(path))

    @classmethod
    def of(cls, settings: KeySettings) -> "Keyring":
        """Return the keys of the settings; errors as for the class."""
        return cls(settings.read_keys, settings.write_keys, settings.keys_file or None)

    @property
    def keys(self) -> Sequence[Key]:
        """All of them."""
        return (*self._set, *self._by_id.values())

    def find(self, secret: str) -> Key | None:
        """Return the key of a secret, which may have expired; None if there is none.

        Digests are compared, and each in constant time: how long that takes tells nothing of any key.
        """
        digest = digest_of(secret)
        stored = self._by_id.get(id_of(secret))
        candidates = self._set if stored is None else (stored, *self._set)
        matching = [key for key in candidates if hmac.compare_digest(key.digest, digest)]
        return matching[0] if matching else None

    def some_may(self, permission: str) -> bool:
        """Return whether any key has that permission."""
        return permission in self._permitted

    def has(self, key: Key) -> bool:
        """Return whether a key that was found is still good."""
        return key in self._known and not key.is_over(time.time())

    def look(self) -> None:
        """Read the file again if it has changed. One that cannot be used leaves the keys as they are, and is logged."""
        if self.path is None:
            return
        state = _state_of(self.path)
        if state != self._looked:
            self._looked = state
            try:
                found = _read(self.path)
            except ConfigurationError as error:
                self._tell(f"the keys stay as they were: {error}", logging.ERROR)
            else:
                self._told = ""
                self._take(found)
                _logger.info("%s has changed: it has %d keys", self.path, len(found))
        self.changed()

    def watch(self) -> None:
        """Look at the file about once a second from now on, outside of all requests; gevent makes a greenlet of it."""
        if self.path is None:
            return
        warning = key_file.warning_of(self.path)
        if warning:
            _logger.warning("%s", warning)
        threading.Thread(target=self._look_for_ever, name="keys", daemon=True).start()

    def _look_for_ever(self) -> None:
        while True:
            time.sleep(LOOK_EACH_S)
            try:
                if self._is_being_written():
                    time.sleep(_SETTLED_S)
                self.look()
            except Exception:
                _logger.exception("the file of keys could not be looked at")

    def _is_being_written(self) -> bool:
        """Return whether the file was changed just now: an editor empties it before it writes, and no key is in there.

        The clock of a file's time ticks every few ms. A time that is ahead of ours, as on another host, tells nothing.
        """
        state = _state_of(self.path)
        return state is not None and state != self._looked and 0 <= time.time() - state[0] / 1e9 < _SETTLED_S

    def _take(self, keys: Sequence[Key]) -> None:
        """Have these be the file's keys. A key that is as it was stays the same object."""
        before = {key.id: key for key in getattr(self, "_known", ()) if key.id}
        kept = [before[key.id] if key.id in before and _same(before[key.id], key) else key for key in keys]
        self._by_id = {key.id: key for key in kept}
        self._known = frozenset(self.keys)
        self._permitted = frozenset().union(*(key.may for key in self._known))

    def _tell(self, text: str, level: int) -> None:
        """Log a text once, until there is another one."""
        if text != self._told:
            self._told = text
            _logger.log(level, "%s", text)


class _Remembered:
    """The text of the file when it could last be used, in memory that forked processes share.

    So a worker that is started while the file is broken has the keys of the others. The digest tells whether a text is
    whole, and of which file.
    """

    memory = mmap.mmap(-1, _HEAD_BYTES + key_file.LARGEST_BYTES)  # takes no memory before it is written to

    @classmethod
    def remember(cls, path: str, text: str) -> None:
        data = text.encode()
        cls.memory[:_HEAD_BYTES] = len(data).to_bytes(8, "big") + cls._digest(path, data)
        cls.memory[_HEAD_BYTES : _HEAD_BYTES + len(data)] = data

    @classmethod
    def text_of(cls, path: str) -> str | None:
        """Return what is remembered of a file; None if nothing is."""
        length = int.from_bytes(cls.memory[:8], "big")
        data = cls.memory[_HEAD_BYTES : _HEAD_BYTES + length]
        return data.decode() if cls._digest(path, data) == cls.memory[8:_HEAD_BYTES] else None

    @staticmethod
    def _digest(path: str, data: bytes) -> bytes:
        return hashlib.sha256(path.encode() + b"\0" + data).digest()


def _read(path: str) -> tuple[Key, ...]:
    """Return the keys of a file, and remember it; errors as in `key_file.parse`."""
    text = key_file.read(path)
    keys = key_file.parse(text, path)
    _Remembered.remember(path, text)
    return keys


def _read_or_remember(path: str) -> tuple[Key, ...]:
    """Return the keys of a file: those of now, else those that are remembered; errors as in `key_file.parse`."""
    try:
        return _read(path)
    except ConfigurationError as error:
        text = _Remembered.text_of(path)
        if text is None:
            raise
        _logger.error("the keys stay as they were: %s", error)  # noqa: TRY400 - no bug of ours
        return key_file.parse(text, path)


def _nothing() -> None:
    return


def _of_settings(read_keys: str | None, write_keys: str | None) -> tuple[Key, ...]:
    """Return the keys that the settings list; one that both lists have may read and write."""
    found: dict[str, Key] = {}
    lists = (("read", read_keys, {READ, METRICS}), ("write", write_keys, {WRITE}))
    for kind, text, may in lists:
        for place, secret in enumerate(_listed(text), 1):
            known = found.get(secret)
            name = f"{kind}-{place}" if known is None else known.name
            permitted = may if known is None else may | known.may
            found[secret] = Key(name=name, digest=digest_of(secret), may=frozenset(permitted))
    return tuple(found.values())


def _listed(text: str | None) -> list[str]:
    return [secret.strip() for secret in (text or "").split(",") if secret.strip()]


def _state_of(path: str | None) -> tuple[int, ...] | None:
    """Return what changes when a file does, or who may read it; None where it cannot be looked at."""
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


def _same(one: Key, other: Key) -> bool:
    return all(getattr(one, field) == getattr(other, field) for field in Key.__struct_fields__)
