"""What a framework asked and was told, and what its tasks did: files that outlive kill -9.

A journal has a line of JSON for everything that its framework does and is told, written before
it is acted on. Marks are lines that tasks write themselves when they start and when they end.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INTEND = "intend"
TAKEN = "taken"
REFUSED = "refused"
STATUS = "status"
KILL = "kill"
SUBSCRIBED = "subscribed"
DISCONNECTED = "disconnected"
BEGIN = "begin"
ERROR = "error"
LEAVE = "leave"

Entry = dict[str, Any]
"""A line of a journal: C{at} (seconds since the epoch), C{what}, and what belongs to that."""


@dataclass(frozen=True, slots=True)
class Mark:
    """
    A line of a task: C{start} or C{end}, C{cancel} where an executor ends it before, when, and by
    which process.
    """

    what: str
    task: str
    pid: int
    at: float


@dataclass(slots=True)
class Book:
    """Everything about one task that its framework wrote down."""

    task: str
    intended: Entry
    entries: list[Entry] = field(default_factory=list)

    @property
    def statuses(self) -> list[Entry]:
        """What was told of it, in order."""
        return [entry for entry in self.entries if entry["what"] == STATUS]


class Journal:
    """
    A framework's journal, opened to go on with.

    @ivar before: what is in it already.
    """

    def __init__(self, path: Path) -> None:
        self.before = list(read_journal(path))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, what: str, **more: Any) -> None:
        """Add a line, which outlives this process from then on."""
        line = json.dumps({"at": time.time(), "what": what, **more}) + "\n"
        os.write(self._file, line.encode())


def read_journal(path: Path) -> Iterator[Entry]:
    """Give the lines of a journal."""
    with suppress(FileNotFoundError):
        for line in path.read_text("utf-8").splitlines():
            yield json.loads(line)


def books(entries: Iterator[Entry] | list[Entry]) -> dict[str, Book]:
    """Return what a journal says of each task."""
    found: dict[str, Book] = {}
    for entry in entries:
        for name in entry.get("tasks", ()) or ([entry["task"]] if "task" in entry else ()):
            if entry["what"] == INTEND:
                found[name] = Book(name, entry)
            elif name in found:
                found[name].entries.append(entry)
            else:
                # Nothing is ever told of a task that nobody meant to launch.
                found[name] = Book(name, {"at": entry["at"], "what": ""}, [entry])
    return found


class Marks:
    """
    A file of marks, read as it grows.

    @ivar all: the marks so far, in order.
    @ivar running: pid by task, for tasks that have started and have not marked an end.
    """

    def __init__(self, path: Path) -> None:
        self.all: list[Mark] = []
        self.running: dict[str, int] = {}
        self._path = path
        self._offset = 0
        path.touch()
        path.chmod(0o666)

    def read(self) -> list[Mark]:
        """Read what is new, and return all."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            what, task, pid, at = line.split(" ")
            self.all.append(Mark(what, task, int(pid), float(at)))
            if what == "start":
                self.running[task] = int(pid)
            else:
                self.running.pop(task, None)
        return self.all


def marking(task: str, marks: Path, seconds: float, code: int) -> str:
    """Return a shell command that marks its start, sleeps, marks its end, and exits."""
    file, name = shlex.quote(str(marks)), shlex.quote(task)
    mark = f"{name} $$ $(date +%s.%N) >> {file}"
    return f"echo start {mark}; sleep {seconds:.2f}; echo end {mark}; exit {code}"


def mark(what: str, task: str, marks: Path) -> None:
    """Write a mark of a task that is a part of this process."""
    line = f"{what} {task} {os.getpid()} {time.time():.6f}\n"
    file = os.open(marks, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
