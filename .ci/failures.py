"""Prints the names of the tests that failed, a line each: C{failures.py LOG MOST}.

LOG is what trial has printed. Nothing is printed where more than MOST tests failed, or where
something failed that is not a test.
"""

import re
import sys
from pathlib import Path

_BLOCK = re.compile(
    r"^\[(?:FAIL|ERROR|SUCCESS!\?!)\]\n(.*?)(?=^={10,}$|^-{10,}$|\Z)", re.DOTALL | re.MULTILINE
)
_TEST = re.compile(r"^[\w.]+\.test\w*$")


def failures(log: str) -> list[str] | None:
    """Return the names, each once; None where something else failed too."""
    names: dict[str, None] = {}
    for block in _BLOCK.findall(log):
        lines = block.rstrip().splitlines()
        if not lines or not _TEST.match(lines[-1]):
            return None
        while lines and _TEST.match(lines[-1]):
            names[lines.pop()] = None
    return list(names)


def main(arguments: list[str]) -> None:
    """Print them."""
    log, most = arguments
    names = failures(Path(log).read_text(errors="replace")) or []
    if len(names) <= int(most):
        sys.stdout.writelines(f"{name}\n" for name in names)


if __name__ == "__main__":
    main(sys.argv[1:])
