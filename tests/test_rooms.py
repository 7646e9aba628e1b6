"""Who may import whom: the table of C{docs/rooms.md}, as data, held against every module.

All imports count: those inside functions, under C{if TYPE_CHECKING}, relative ones, and
C{import_module} of a literal name.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.base import SynchronousTestCase

ROOT = Path(__file__).parents[1]

#: What holds a clock, a socket, a file or chance: no pure room may touch it.
LIVE = frozenset(
    {
        "asyncio",
        "os",
        "random",
        "secrets",
        "select",
        "selectors",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
    }
)

ANYTHING = "*"


@dataclass(frozen=True)
class Room:
    """Modules under one rule.

    A module belongs to the first room of L{ROOMS} that names it or a package above it; C{name*}
    names all that begin so. Besides itself and the standard library without C{banned}, a room may
    import only what stands in C{ours} and C{theirs}; L{ANYTHING} in either is no limit.
    """

    modules: tuple[str, ...]
    ours: frozenset[str] = field(default=frozenset())
    theirs: frozenset[str] = field(default=frozenset())
    banned: frozenset[str] = field(default=frozenset())
    #: Its subpackages must not import each other.
    apart: bool = False


def room(
    modules: str,
    ours: str = "",
    theirs: str = "",
    banned: frozenset[str] = frozenset(),
    **more: bool,
) -> Room:
    """Return a room; the first three are lists with blanks between."""
    return Room(
        tuple(f"mesoskit.{name}" for name in modules.split()),
        frozenset(name if name == ANYTHING else f"mesoskit.{name}" for name in ours.split()),
        frozenset(theirs.split()),
        banned,
        **more,
    )


ROOMS = [
    room("messages", theirs="google.protobuf orjson", banned=LIVE),
    room("model", "messages", "google.protobuf zope.interface", LIVE),
    room("allocator", "model", "zope.interface", LIVE),
    # They start in milliseconds, in a process of their own.
    room("agent.launcher* agent.fetch agent.fetch_*"),
    room(
        "master.service master.http master.operator_api master.operator_streams master.bulk"
        " master.intake"
        " master.files_http master.webui master.admin_http master.measuring master.whitelist_file",
        "master model allocator messages wire web cluster flags",
        "twisted zope.interface google.protobuf orjson psutil",
    ),
    room("master", "model allocator messages flags", "google.protobuf orjson", LIVE),
    room(
        "agent.service agent.http agent.bulk* agent.door agent.masters agent.hands agent.probing*"
        " agent.fetcher* agent.operator_api agent.measuring agent.sandboxes agent.files*"
        " agent.logs* agent.usage agent.container_calls agent.containers agent.consoles"
        " agent.attaching agent.sessions agent.users agent.machine",
        "agent model messages wire web cluster flags",
        "twisted zope.interface google.protobuf orjson psutil",
    ),
    room("agent", "model messages flags", "google.protobuf orjson", LIVE),
    room(
        "wire",
        "messages",
        "twisted zope.interface google.protobuf orjson automat cryptography OpenSSL",
    ),
    room("web", "model wire messages", "twisted zope.interface orjson psutil google.protobuf"),
    # Nobody in the room needs it: they ask for an Ensemble (cluster/ensemble.py).
    room("cluster.zookeeper", "cluster", "twisted kazoo"),
    # What stands between wire and state is given links, and makes none.
    room("cluster.peers", "model wire.link", "twisted google.protobuf"),
    room("cluster", "model messages", "twisted zope.interface google.protobuf orjson"),
    # The whole of a program, as a daemon is: it sees to it that its start is a short one.
    room("driver.running", "driver app.late_tls", "twisted"),
    room(
        "driver",
        "wire cluster messages model driver.running",
        "twisted zope.interface google.protobuf orjson treq",
    ),
    room("frameworks", "driver model", "twisted zope.interface klein treq orjson", apart=True),
    room("testing", ANYTHING, ANYTHING),
    room("flags", "model"),
    room("app cli daemon_flags", ANYTHING, ANYTHING),
]

#: Who may import C{mesoskit.testing}, and who may name the global reactor.
TESTING_USERS = ("mesoskit.testing",)
REACTOR_USERS = ("mesoskit.app",)


@dataclass(frozen=True)
class Import:
    """One imported module, by its full dotted name, and the line it stands in."""

    line: int
    name: str


def modules() -> Iterator[tuple[str, bool, Path]]:
    """Yield the name of each module of the package, whether it is a package, and its file."""
    for path in sorted((ROOT / "mesoskit").rglob("*.py")):
        if path.name.endswith("_pb2.py"):
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield ".".join(parts[:-1] if is_package else parts), is_package, path


def imports(source: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """Yield everything that the source of C{module} imports.

    Of C{from a import b} it is C{a.b}, for C{b} may be a module.
    """
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                yield Import(node.lineno, f"{base}.{alias.name}")
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            first = node.args[0]
            if (
                called in ("import_module", "__import__", "namedAny", "namedModule")
                and isinstance(first, ast.Constant)
                and isinstance(first.value, str)
            ):
                yield Import(node.lineno, first.value)


def within(name: str, package: str) -> bool:
    """Return whether C{name} is C{package} or something in it."""
    if package.endswith("*"):
        return name.startswith(package[:-1])
    return name == package or name.startswith(f"{package}.")


def room_of(module: str) -> Room | None:
    """Return the first room that names the module."""
    for candidate in ROOMS:
        if any(within(module, package) for package in candidate.modules):
            return candidate
    return None


def breaks(module: str, source: str, is_package: bool = False) -> Iterator[str]:
    """Yield a sentence for each import of the module that is against the rules."""
    if module == "mesoskit":
        here = Room(("mesoskit",))
    else:
        found = room_of(module)
        if found is None:
            yield f"{module}: stands in no room of tests/test_rooms.py"
            return
        here = found
    for imported in imports(source, module, is_package):
        if imported.name == "__future__.annotations":
            continue
        why = forbidden(here, module, imported.name)
        if why:
            yield f"{module}:{imported.line}: imports {imported.name}: {why}"


def forbidden(here: Room, module: str, name: str) -> str | None:
    """Return why a module of this room must not import C{name}, or C{None}."""
    if within(name, "twisted.internet.reactor") and not any(
        within(module, user) for user in REACTOR_USERS
    ):
        return "only app names the reactor"
    if within(name, "kazoo") and module != "mesoskit.cluster.zookeeper":
        return "kazoo is for cluster/zookeeper.py alone"
    if within(name, "mesoskit"):
        return forbidden_of_ours(here, module, name)
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return "this room is pure" if top in here.banned else None
    if ANYTHING in here.theirs or any(within(name, package) for package in here.theirs):
        return None
    return "not among the libraries of this room"


def forbidden_of_ours(here: Room, module: str, name: str) -> str | None:
    """L{forbidden} for a module of the package."""
    if within(name, "mesoskit.testing") and not any(within(module, user) for user in TESTING_USERS):
        return "only tests and authors of frameworks import testing"
    if name == "mesoskit.__version__" or ANYTHING in here.ours:
        return None
    there = room_of(name)
    if there is here:
        if here.apart and name.split(".")[:3] != module.split(".")[:3]:
            return "its neighbours are not its own room"
        return None
    if any(within(name, package) for package in here.ours):
        return None
    return "not among the rooms it may import"


class RoomTests(SynchronousTestCase):
    """The package keeps to its own plan."""

    def test_every_import_is_allowed(self) -> None:
        found = [
            sentence
            for module, is_package, path in modules()
            for sentence in breaks(module, path.read_text(), is_package)
        ]
        if found:
            self.fail("\n".join(["against the table of docs/rooms.md:", *found]))

    def test_the_package_itself_costs_nothing(self) -> None:
        """Whoever starts in milliseconds imports these two on the way."""
        for module, is_package, path in modules():
            if module in ("mesoskit", "mesoskit.agent") and is_package:
                self.assertEqual(list(imports(path.read_text(), module, True)), [])

    def test_plugin_imports_nothing_heavy(self) -> None:
        """Every C{twistd} on the machine reads it, whatever it was started for."""
        path = ROOT / "twisted" / "plugins" / "mesoskit_plugins.py"
        for imported in imports(path.read_text(), "twisted.plugins.mesoskit_plugins"):
            self.assertTrue(within(imported.name, "twisted.application.service"), imported)

    def test_no_package_where_twisted_has_its_own(self) -> None:
        for directory in ("twisted", "twisted/plugins"):
            self.assertFalse((ROOT / directory / "__init__.py").exists())

    def test_modules_are_found(self) -> None:
        names = {module for module, _, _ in modules()}
        self.assertLessEqual({"mesoskit", "mesoskit.messages.codec", "mesoskit.model"}, names)


class RuleTests(SynchronousTestCase):
    """The check itself: what it must find, and what it must let pass."""

    def assert_breaks(self, module: str, source: str) -> None:
        self.assertEqual(len(list(breaks(module, source))), 1, f"{module}: {source}")

    def assert_passes(self, module: str, source: str) -> None:
        self.assertEqual(list(breaks(module, source)), [])

    def test_what_is_against_the_table(self) -> None:
        for module, source in (
            ("messages.codec", "import twisted"),
            ("messages.codec", "from mesoskit.model import ids"),
            ("model.ids", "import time"),
            ("model.ids", "from os.path import join"),
            ("model.ids", "import orjson"),
            ("model.ids", "from twisted.internet import defer"),
            ("allocator.drf", "from mesoskit.messages import mesos_pb2"),
            ("allocator.drf", "import random"),
            ("allocator.drf", "from mesoskit import master"),
            ("master.state", "from mesoskit.wire import link"),
            ("master.state", "from twisted.logger import Logger"),
            ("master.views", "import socket"),
            ("master.state", "from mesoskit.master.service import MasterService"),
            ("master.service", "from mesoskit.agent.state import AgentState"),
            ("agent.service", "from mesoskit.master.state import MasterState"),
            ("agent.state", "from mesoskit.allocator import drf"),
            ("agent.launcher", "import twisted"),
            ("agent.launcher", "import psutil"),
            ("agent.launcher_proc", "from mesoskit.messages import codec"),
            ("wire.port", "from mesoskit.model.ids import TaskID"),
            ("wire.port", "import mesoskit.master.http"),
            ("cluster.store", "import kazoo.client"),
            ("cluster.store", "from mesoskit.master import registry"),
            ("driver.scheduler", "from mesoskit.allocator import drf"),
            ("frameworks.dns.service", "from mesoskit.messages import codec"),
            ("frameworks.dns.service", "from mesoskit.frameworks.marathon import api"),
            ("master.service", "from mesoskit.testing import clusters"),
            ("app.master", "from mesoskit.testing import clusters"),
            ("app.master", "from kazoo import client"),
            ("master.service", "from twisted.internet import reactor"),
            ("cli", "import twisted.internet.reactor"),
            ("master.service", "import requests"),
            ("utils", ""),
            ("flags", "from mesoskit.messages import codec"),
        ):
            self.assert_breaks(f"mesoskit.{module}", source)

    def test_wherever_it_stands(self) -> None:
        for source in (
            "def f():\n    from twisted.web import http",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import twisted",
            "try:\n    import twisted\nexcept ImportError:\n    pass",
            "from ..wire import link",
            "from .. import wire",
            "import importlib\nimportlib.import_module('mesoskit.wire.link')",
        ):
            self.assert_breaks("mesoskit.model.ids", source)
        found = list(breaks("mesoskit.model", "from ..wire import link\nfrom . import ids", True))
        self.assertEqual(len(found), 1)
        self.assertIn("mesoskit.wire.link", found[0])

    def test_what_is_allowed(self) -> None:
        for module, source in (
            ("messages.codec", "from google.protobuf.message import Message\nimport orjson"),
            ("messages.codec", "from . import names"),
            ("model.ids", "from mesoskit.messages import mesos_pb2\nimport re"),
            ("allocator.drf", "from mesoskit.model.resources import Resources"),
            ("master.state", "from mesoskit.allocator.drf import Sorter"),
            ("master.service", "from mesoskit.master.state import MasterState"),
            ("master.service", "from twisted.application.service import Service\nimport os"),
            ("master.service", "from mesoskit import __version__"),
            ("master.http", "from mesoskit.master.service import MasterService"),
            ("agent.launcher", "import os\nfrom mesoskit.agent.launcher_proc import start"),
            ("agent.containers.process", "from mesoskit.agent.state import AgentState"),
            ("agent.containers.process", "from mesoskit.agent.launcher_proc import start"),
            ("wire.port", "from twisted.internet.protocol import Protocol"),
            ("cluster.zookeeper", "from kazoo.client import KazooClient"),
            ("frameworks.dns.service", "from mesoskit.frameworks.dns import records"),
            ("frameworks.dns.service", "import klein"),
            ("app.master", "from twisted.internet import reactor"),
            ("cli", "from mesoskit.app import master"),
        ):
            self.assert_passes(f"mesoskit.{module}", source)
