"""What this is a build of, for C{/version}: written down by C{setup.py}, or found in a checkout."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import mesoskit
from mesoskit.model.build import Build

_PACKAGE: Final = Path(mesoskit.__file__).parent

_SHA: Final = 40
"""Of a commit: hexadecimal digits."""


def build(package: Path = _PACKAGE) -> Build:
    """
    Return what is known of the build; what is not known is left empty.

    A built package has what C{setup.py} wrote into C{mesoskit/build.json}. A checkout was built
    when its message classes were made; its commit is that which is checked out at the start.

    @param package: the directory of C{mesoskit}.
    """
    try:
        written = json.loads((package / "build.json").read_text())
        return _made(written["time"], written["user"], written["sha"], written["branch"])
    except (OSError, ValueError, LookupError):
        pass
    try:
        time = (package / "messages" / "mesos_pb2.py").stat().st_mtime
    except OSError:
        time = 0.0
    sha, branch = _checked_out(package.parent / ".git")
    return _made(int(time), "", sha, branch)


def _made(time: int, user: str, sha: str, branch: str) -> Build:
    date = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if time else ""
    return Build(float(time), date, user, sha, branch)


def _checked_out(git: Path) -> tuple[str, str]:
    """Return commit and branch of a checkout; both are empty where there is none."""
    try:
        if git.is_file():  # a worktree's
            git = (git.parent / git.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return _sha(head), ""
        branch = head.removeprefix("ref: ")
        common = git
        if (git / "commondir").exists():
            common = (git / (git / "commondir").read_text().strip()).resolve()
        loose = common / branch
        if loose.exists():
            return _sha(loose.read_text().strip()), branch
        for line in (common / "packed-refs").read_text().splitlines():
            if line.endswith(f" {branch}"):
                return _sha(line.split()[0]), branch
    except OSError:
        pass
    return "", ""


def _sha(text: str) -> str:
    return text if len(text) == _SHA and all(one in "0123456789abcdef" for one in text) else ""
