"""How commands show things: columns, moments, and amounts of resources."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from mesoskit.model.values import scalar_text

AMOUNTS: Final = ("cpus", "mem", "disk")
"""What tables show of resources; mem and disk are in MB."""


def aligned(rows: Sequence[Sequence[str]], gap: str = "  ") -> str:
    """Return rows as lines whose columns stand below each other; what is nothing is C{-}."""
    cells = [[" ".join(cell.split()) or "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [
        gap.join([cell.ljust(width) for cell, width in zip(row, widths, strict=True)])
        for row in cells
    ]
    return "".join([f"{row.rstrip()}\n" for row in padded])


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and what they have as lines; those that have nothing are left out."""
    given = [(name, text) for name, text in pairs if text]
    width = max([len(name) for name, _ in given], default=0)
    return "".join([f"{name.ljust(width)}  {' '.join(text.split())}\n" for name, text in given])


def section(rows: Sequence[Sequence[str]]) -> str:
    """Return a table below what was shown before, nothing where it has but its heads."""
    return "\n" + aligned(rows) if len(rows) > 1 else ""


def moment(nanoseconds: int) -> str:
    """Return a moment since 1970 in UTC, nothing for 0."""
    if not nanoseconds:
        return ""
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def amount(thousandths: int) -> str:
    """Return an amount of a resource."""
    return scalar_text(thousandths)


def number_of(count: int, what: str) -> str:
    """Return C{1 task}, C{2 tasks}."""
    return f"{count} {what}{'' if count == 1 else 's'}"
