"""Certificates for servers that speak TLS to the tests' clients."""

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """A certificate of `localhost` and 127.0.0.1, and its key."""

    file: str
    key: str

    @property
    def options(self) -> tuple[str, ...]:
        """What has gunicorn serve with it."""
        return "--certfile", self.file, "--keyfile", self.key

    def context(self) -> ssl.SSLContext:
        """What a client needs to trust it."""
        return ssl.create_default_context(cafile=self.file)


def make_certificate(folder: Path) -> Certificate:
    """Make a certificate in a folder."""
    certificate = Certificate(str(folder / "c.pem"), str(folder / "k.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", certificate.key, "-out", certificate.file],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate
