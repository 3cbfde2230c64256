"""Make everything of a release in dist/, and check it: what `make release` runs.

    python release/make_release.py [FOLDER]

Built twice of the same sources, source distributions and wheels are the same, byte for byte: they take their times from
SOURCE_DATE_EPOCH, which is the time of the last commit where it is not set.
"""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

from make_client import make_tree
from version import ROOT, differing, read_version

BIN = Path(sys.executable).parent
IMAGE_LOCK = ROOT / "deploy" / "image.txt"
"""What the image has of other packages, each with its version and digests."""


def run(*words: str | Path, cwd: Path = ROOT, **variables: str) -> None:
    """Run a program; what it says is shown only where it fails."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}", **variables}
    ran = subprocess.run(words, cwd=cwd, env=environment, check=False, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    if ran.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} failed with {ran.returncode}:\n{ran.stdout}")


def epoch() -> int:
    """Return the time that archives have, in seconds: SOURCE_DATE_EPOCH, the last commit's, or that of setup.cfg."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if told:
        return int(told)
    if (ROOT / ".git").exists():
        command = ["git", "log", "-1", "--format=%ct"]
        return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    return int((ROOT / "setup.cfg").stat().st_mtime)


def write_archive(path: Path, files: dict[str, tuple[bytes, int]], when: int) -> None:
    """Write a .tar.gz of files, each with its content and mode, in which nothing tells when or by whom it was made."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, (content, mode) in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), when, 0o755 if mode & 0o100 else 0o644
            archive.addfile(member, io.BytesIO(content))
    with path.open("wb") as out, gzip.GzipFile("", "wb", 9, out, mtime=when) as packed:
        packed.write(data.getvalue())


def pack_folder(folder: Path, path: Path, top: str, when: int) -> None:
    """Write a .tar.gz of a folder, under another name."""
    found = (each for each in folder.rglob("*") if each.is_file())
    files = {f"{top}/{each.relative_to(folder)}": (each.read_bytes(), each.stat().st_mode) for each in found}
    write_archive(path, files, when)


def repack(path: Path, when: int) -> None:
    """Write a .tar.gz again as `write_archive` does."""
    with tarfile.open(path) as archive:
        files = {
            member.name: (content.read(), member.mode)
            for member in archive.getmembers()
            if (content := archive.extractfile(member)) is not None
        }
    write_archive(path, files, when)


def build_distribution(source: Path, out: Path, when: int) -> None:
    """Make a source distribution, and the wheel of what is in it."""
    with tempfile.TemporaryDirectory() as made:
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", made, source,
            SOURCE_DATE_EPOCH=str(when), CFLAGS="-g0")  # fmt: skip
        (archive,) = Path(made).glob("*.tar.gz")
        repack(archive, when)
        shutil.copy(archive, out)
        (wheel,) = Path(made).glob("*.whl")
        name_for_many_linuxes(wheel, out, when)


def name_for_many_linuxes(wheel: Path, out: Path, when: int) -> None:
    """Put a wheel into a folder; one for this Linux alone is checked and named for all that it runs on."""
    if "-linux_" in wheel.name:
        run("auditwheel", "repair", "--wheel-dir", out, wheel, SOURCE_DATE_EPOCH=str(when))
    else:
        shutil.copy(wheel, out)


def build_scripts(wheel: Path, out: Path, version: str, when: int) -> None:
    """Pack the scripts as callers in other languages ship them: by what the wheel has, not by the checkout."""
    name = f"redis-featurestore-scripts-{version}"
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "zipfile", "--extract", wheel, f"{folder}/wheel")
        run(sys.executable, "-P", "-m", "featurestore", "scripts", "--build", f"{folder}/scripts",
            PYTHONPATH=f"{folder}/wheel")  # fmt: skip
        pack_folder(Path(folder) / "scripts", out / f"{name}.tar.gz", name, when)


def try_wheel(wheel: Path, out: Path, version: str) -> None:
    """Install a wheel with what the image has, try it, and write what is there as an SBOM."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False)
        python = Path(folder) / "bin" / "python"
        pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet")
        run(*pip, "--require-hashes", "--requirement", IMAGE_LOCK)
        run(*pip, "--no-deps", wheel)
        run(*pip[:5], "check")
        run(python, "-I", ROOT / "release" / "smoke.py", cwd=Path(folder))
        described = Path(folder) / "pyproject.toml"  # the metadata themselves are in setup.cfg, where it does not look
        described.write_text(f'[project]\nname = "redis-featurestore"\nversion = "{version}"\nlicense = "Apache-2.0"\n')
        run("cyclonedx-py", "environment", "--output-reproducible", "--output-format", "JSON", "--pyproject", described,
            "--output-file", out / f"redis-featurestore-{version}.cdx.json", python)  # fmt: skip


def check(out: Path) -> None:
    """Check what is uploaded as an index will, and for what should not be in it."""
    wheels = sorted(out.glob("*.whl"))
    run("twine", "check", "--strict", *wheels, *sorted(out.glob("redis_featurestore*.tar.gz")))
    run("check-wheel-contents", *wheels)


def write_digests(out: Path) -> None:
    """Write SHA256SUMS, for `sha256sum --check`."""
    files = sorted(path for path in out.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def main(words: list[str]) -> None:
    """Make the release."""
    problems = differing()
    if problems:
        raise SystemExit("\n".join(problems))
    out = Path(words[0] if words else ROOT / "dist").absolute()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    version, when = read_version(), epoch()
    build_distribution(ROOT, out, when)
    (wheel,) = out.glob("redis_featurestore-*.whl")
    with tempfile.TemporaryDirectory() as folder:
        make_tree(Path(folder) / "client")
        build_distribution(Path(folder) / "client", out, when)
    build_scripts(wheel, out, version, when)
    pack_folder(ROOT / "deploy/helm/featurestore", out / f"featurestore-{version}.tgz", "featurestore", when)
    check(out)
    try_wheel(wheel, out, version)
    write_digests(out)
    print(*sorted(path.name for path in out.iterdir()), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
