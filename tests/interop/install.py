"""Makes the virtual environment of the clients that others wrote, once.

    python tests/interop/install.py [directory]

pymesos 0.3.15 speaks Mesos' v1 APIs in JSON. It wants http-parser, whose extension module
no longer compiles on Python 3.11; the parser in pure Python that comes with it does the same,
so its files are put in place without the extension.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
from fcntl import LOCK_EX, flock
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
DIRECTORY = CHECKOUT / ".venv-interop"

_PYMESOS = "pymesos==0.3.15"
_HTTP_PARSER = "http-parser==0.9.0"
_NEEDED = ("addict==2.4.0", "six==1.17.0", "kazoo==2.11.0")


class Unreachable(Exception):
    """The package index cannot be reached; the message is the end of what pip said."""


def install(directory: Path = DIRECTORY) -> Path:
    """Return the environment's Python, making the environment if it is not there yet."""
    with directory.with_name(f"{directory.name}.lock").open("w") as lock:
        # The workers of a test run may want it at the same moment.
        flock(lock, LOCK_EX)
        return _install(directory)


def _install(directory: Path) -> Path:
    python = directory / "bin" / "python"
    done = directory / ".installed"
    if done.exists() and done.read_text() == _wanted():
        return python
    venv.create(directory, with_pip=True, clear=True)
    # Built where it is unpacked: wheel and setuptools are not in a new environment.
    _pip(python, "install", "setuptools", "wheel", *_NEEDED)
    _pip(python, "install", "--no-deps", "--no-build-isolation", _PYMESOS)
    with tempfile.TemporaryDirectory() as where:
        sdist = ("--no-deps", "--no-binary=:all:", "--no-build-isolation", f"--dest={where}")
        _pip(python, "download", *sdist, _HTTP_PARSER)
        (archive,) = Path(where).glob("http*parser*.tar.gz")
        _unpack(archive, _site_packages(python))
    done.write_text(_wanted())
    return python


def _wanted() -> str:
    return "\n".join((_PYMESOS, _HTTP_PARSER, *_NEEDED, sys.version))


def _unpack(archive: Path, where: Path) -> None:
    """Put the Python files of http_parser where they are imported from."""
    package = where / "http_parser"
    package.mkdir()
    with tarfile.open(archive) as files:
        for member in files:
            parts = Path(member.name).parts
            if len(parts) == 3 and parts[1] == "http_parser" and parts[2].endswith(".py"):
                content = files.extractfile(member)
                assert content is not None
                (package / parts[2]).write_bytes(content.read())


def _site_packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-c", code], text=True).strip())


def _pip(python: Path, *arguments: str) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=20")
    command = [str(python), "-m", "pip", arguments[0], *quiet, *arguments[1:]]
    result = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if result.returncode:
        raise Unreachable(f"pip {arguments[0]} failed: {result.stderr.strip()[-400:]}")


if __name__ == "__main__":
    try:
        install(*map(Path, sys.argv[1:2]))
    except Unreachable as error:
        # The tests that need it say so when they are left out.
        sys.stderr.write(f"{error}\n")
