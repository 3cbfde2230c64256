"""docs/security.md: its limits are those of the code."""

import re
from pathlib import Path

from gunicorn.config import Config

from featurestore.access.key_file import LARGEST_BYTES
from featurestore.api import bodies
from featurestore.keys import MAX_ID_BYTES
from featurestore.serving.gunicorn_settings import gunicorn_settings
from featurestore.settings import Settings, variable_of
from featurestore.worker.capacity import CLIENTS
from featurestore.worker.framing import Limits
from featurestore.worker.worker import Worker

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
NUMBERS = {
    "bytes of its first line": Config().limit_request_line,
    "header fields": Config().limit_request_fields,
    "bytes of a header field": Config().limit_request_field_size,
    "gzip members in a body": bodies._MOST_MEMBERS,
    "clients of a worker": CLIENTS,
    "seconds for a request to arrive": Worker.request_timeout,
    "seconds in which a client takes nothing of a response": Worker.send_timeout,
    "bytes of an id": MAX_ID_BYTES,
    "bytes of a file of keys": LARGEST_BYTES,
}


def test_the_limits_are_those_of_the_code() -> None:
    settings = Settings()
    values = {variable_of(field): getattr(settings, field) for field in Settings.__struct_fields__}
    head = Limits(Config().limit_request_line, 1, Config().limit_request_field_size, 1).head
    known = {**NUMBERS, "bytes of a request's head": head}
    known["seconds that a connection may be idle"] = gunicorn_settings(settings)["keepalive"]
    rows = re.findall(r"^\| (.*) \| (\d+) \|$", PAGE.partition("<!-- limits -->")[2].partition("\n\n")[0], re.MULTILINE)
    for name, value in rows:
        variable = re.search(r"`(FEATURESTORE_\w+)`", name)
        assert float(value) == (values[variable[1]] if variable else known.pop(name)), name
    assert not known


def test_every_code_of_access_is_on_the_page() -> None:
    assert all(f"`{code}`" in PAGE for code in ("NOKEY", "BADKEY", "FORBIDDEN", "RATELIMIT"))
    assert all(f"`{route}`" in PAGE for route in ("/livez", "/readyz", "/health", "/metrics"))
