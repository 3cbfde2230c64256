"""What proxies say of their clients: the address and the scheme, and of whom nothing is taken."""

from typing import Any

import pytest

from featurestore.worker.forwarded import Proxies
from featurestore.worker.refusal import Refusal

SECURE = {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}
FOR, PROTO = "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"


def told(allowed: str = "127.0.0.1,10.0.0.0/8", **fields: str) -> dict[str, Any]:
    environ: dict[str, Any] = {"REMOTE_ADDR": "10.0.0.1", "REMOTE_PORT": "1", "wsgi.url_scheme": "http", **fields}
    Proxies(allowed.split(","), SECURE).tell(environ)
    return environ


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [("127.0.0.1", True), ("10.9.9.9", True), ("::ffff:10.0.0.1", True), ("192.168.0.1", False), ("::1", False),
     ("", True), ("x", False)],
)  # fmt: skip
def test_a_proxy_is_trusted_by_its_address(peer: str, *, trusted: bool) -> None:
    assert Proxies(["127.0.0.1", "10.0.0.0/8"], SECURE).trusts(peer) == trusted
    assert Proxies(["*"], SECURE).trusts(peer)


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.0.0.2", "203.0.113.9"),  # through two proxies
        ("1.2.3.4, 203.0.113.9", "203.0.113.9"),  # what the client has written itself stands first
        ("1.2.3.4, 203.0.113.9, 10.0.0.2,127.0.0.1", "203.0.113.9"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("203.0.113.9:5000", "203.0.113.9"),
        ("[2001:db8::1]:5000", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("unknown", "10.0.0.1"),
        ("203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
        ("", "10.0.0.1"),
        ("1.2.3.4<script>", "10.0.0.1"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(chain: str, client: str) -> None:
    assert told(**{FOR: chain})["REMOTE_ADDR"] == client


def test_with_everybody_trusted_the_client_is_the_first() -> None:
    assert told("*", **{FOR: "1.2.3.4, 203.0.113.9"})["REMOTE_ADDR"] == "1.2.3.4"


def test_the_scheme_is_what_the_proxy_says() -> None:
    assert told(**{PROTO: "https"})["wsgi.url_scheme"] == "https"
    assert told(**{PROTO: "http"})["wsgi.url_scheme"] == "http"
    assert told(HTTP_X_FORWARDED_SSL="on", **{PROTO: "https"})["wsgi.url_scheme"] == "https"
    with pytest.raises(Refusal) as caught:
        told(HTTP_X_FORWARDED_SSL="on", **{PROTO: "http"})
    assert caught.value.status == 400


def test_without_such_fields_nothing_changes() -> None:
    assert told() == {"REMOTE_ADDR": "10.0.0.1", "REMOTE_PORT": "1", "wsgi.url_scheme": "http"}
