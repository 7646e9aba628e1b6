"""Says which tests were skipped, and why, and whether CI takes that: C{skips.py LOG LIST}.

LOG is what trial has printed, LIST the reasons that are taken, each a regular expression. The
status is 1 where there are others. With C{--without-packages}, because they could not be had, what
is not installed is taken too.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

_BLOCK = re.compile(r"^\[SKIPPED\]\n(.*?)(?=^={10,}$|^-{10,}$|\Z)", re.DOTALL | re.MULTILINE)
_TEST = re.compile(r"^[\w.]+\.[\w.]+$")

_PACKAGES = re.compile(
    r"not installed: .*|.* is not installed; make deps .*|needs Debian's package.*", re.DOTALL
)


def skipped(log: str) -> Iterator[tuple[str, list[str]]]:
    """Give each reason, and the tests that were skipped for it."""
    for block in _BLOCK.findall(log):
        lines = block.rstrip().splitlines()
        tests: list[str] = []
        while lines and _TEST.match(lines[-1]):
            tests.insert(0, lines.pop())
        yield "\n".join(lines).strip(), tests


def taken(text: str) -> list[re.Pattern[str]]:
    """Return the reasons of a list."""
    lines = (line.strip() for line in text.splitlines())
    return [re.compile(line, re.DOTALL) for line in lines if line and line[0] != "#"]


def main(arguments: list[str]) -> int:
    """Print a line a reason."""
    without_packages = "--without-packages" in arguments
    log, reasons = [Path(each) for each in arguments if each[:2] != "--"]
    known = taken(reasons.read_text())
    if without_packages:
        known.append(_PACKAGES)
    status = 0
    for reason, tests in skipped(log.read_text(errors="replace")):
        first = (reason.splitlines() or ["no reason"])[0][:200]
        sys.stdout.write(f"skipped {len(tests)}: {first}\n")
        if not any(each.fullmatch(reason) for each in known):
            some = ", ".join(tests[:3])
            sys.stdout.write(f"  {reasons} does not name that reason: {some} ...\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
