"""What proxies say of their clients in `X-Forwarded-*`: it counts where the proxy is trusted, and nowhere else."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from featurestore.worker.refusal import Refusal

_FOR = "HTTP_X_FORWARDED_FOR"
_EVERYBODY = "*"


class Proxies:
    """The proxies that are trusted; gunicorn's settings `forwarded_allow_ips` and `secure_scheme_headers`.

    As with gunicorn, whoever comes by a unix socket is trusted.

    Args:
        allowed: Addresses and networks; `*` for all.
        secure: Header field → its value where the client of the proxy speaks TLS.
    """

    def __init__(self, allowed: Sequence[str], secure: Mapping[str, str]) -> None:
        self._all = _EVERYBODY in allowed
        self._networks = [ipaddress.ip_network(each) for each in allowed if each != _EVERYBODY]
        self._secure = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in secure.items()}

    def trusts(self, peer: str) -> bool:
        """Return whether a peer is one of them; one without an address comes by a unix socket."""
        if self._all or not peer:
            return True
        address = _address(peer)
        return address is not None and any(address in network for network in self._networks)

    def tell(self, environ: dict[str, Any]) -> None:
        """Put the client's address and scheme into the environment of a trusted proxy's request.

        The client is the last of `X-Forwarded-For` that is no proxy of ours: what stands before it anyone may have
        written.

        Raises:
            Refusal: The fields that tell the scheme contradict each other.
        """
        told = {environ[name] == value for name, value in self._secure.items() if name in environ}
        if len(told) > 1:
            raise Refusal(400, "the proxy says both that its client speaks TLS and that it does not")
        if told:
            environ["wsgi.url_scheme"] = "https" if told.pop() else "http"
        chain = environ.get(_FOR)
        if chain is None:
            return
        client = self._client_of([each.strip() for each in chain.split(",")])
        if client is not None:
            environ["REMOTE_ADDR"] = client
            environ.pop("REMOTE_PORT", None)  # which was the proxy's

    def _client_of(self, chain: Sequence[str]) -> str | None:
        """Return the client's address; None where no address stands where it should."""
        client = None
        for text in reversed(chain):
            address = _address(_without_port(text))
            if address is None:
                return client
            client = str(address)
            if not self.trusts(client):
                return client
        return client


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def _without_port(text: str) -> str:
    """Return an address without its port: some proxies write one, and IPv6 in brackets."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    host, colon, port = text.rpartition(":")
    return host if colon and ":" not in host and port.isdigit() else text
