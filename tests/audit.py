"""Ask a database of known vulnerabilities about the packages of an environment, by pip-audit (the extra `lint`).

Exits with 1 where a package has a known vulnerability, and where the database answers but pip-audit cannot tell. Where
the database cannot be reached, nothing is checked: that is said, and is no failure of what is audited.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

OSV = "https://api.osv.dev/v1/query"
_PATIENCE_S = 10
_PORTS = {"http": 80, "https": 443}


def unreachable(url: str) -> str:
    """Return why a server cannot be reached, by the proxy that the environment names if there is one; else empty."""
    parts = urlsplit(url)
    proxy = urlsplit(getproxies().get(parts.scheme, ""))
    where = proxy if proxy.hostname and parts.hostname not in {"127.0.0.1", "localhost"} else parts
    try:
        address = where.hostname or "", where.port or _PORTS[where.scheme]
        socket.create_connection(address, timeout=_PATIENCE_S).close()
    except OSError as error:
        return f"{parts.hostname}: {error}"
    return ""


def audited(folder: Path, url: str, report: Path) -> str:
    """Have pip-audit write a report on the packages in a folder; return what it said."""
    words = [
        *("--path", str(folder), "--vulnerability-service", "osv", "--osv-url", url),
        *("--format", "json", "--output", str(report), "--progress-spinner", "off", "--timeout", str(_PATIENCE_S)),
    ]
    done = subprocess.run([sys.executable, "-m", "pip_audit", *words], check=False, capture_output=True, text=True)
    return done.stderr


def vulnerable(report: dict[str, Any]) -> list[str]:
    """Return a line for each known vulnerability in a report."""
    return [
        f"{package['name']} {package['version']}: {found['id']}; mended in {', '.join(found['fix_versions']) or 'none'}"
        for package in report["dependencies"]
        for found in package.get("vulns", ())
    ]


def main() -> int:
    """Return 0 unless something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", type=Path, help="a virtual environment, such as .venv")
    parser.add_argument("--service", default=OSV, help="where the database is")
    options = parser.parse_args()
    folders = sorted(options.environment.glob("lib/python3*/site-packages"))
    if len(folders) != 1:
        parser.error(f"{options.environment} is no virtual environment: it has no lib/python3*/site-packages")
    away = unreachable(options.service)
    if away:
        sys.stdout.write(f"NOT CHECKED for known vulnerabilities: the database cannot be reached ({away})\n")
        return 0
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "report.json"
        said = audited(folders[0], options.service, path)
        if not path.exists():
            sys.stderr.write(f"pip-audit cannot tell:\n{said}\n")
            return 1
        report = json.loads(path.read_text())
    found = vulnerable(report)
    told = "\n".join(found) or f"no known vulnerability in {len(report['dependencies'])} packages"
    sys.stdout.write(f"{told}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
