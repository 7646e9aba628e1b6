"""What is built from a checkout can be installed and holds what it must."""

from __future__ import annotations

import atexit
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import unittest
import zipfile
from dataclasses import astuple, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tests.base import SynchronousTestCase

ROOT = Path(__file__).parents[1]

# What a build needs; the tests are left out, being many files.
SOURCES = [
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "mesoskit",
    "protocols",
    "pyproject.toml",
    "setup.py",
    "twisted",
]

GENERATED = ("*_pb2.py", "*_pb2.pyi", "__pycache__", "dropin.cache")


def build(kind: str, tree: Path, out: Path) -> Path:
    """Build C{kind}, C{wheel} or C{sdist}, with what is installed here; no network is used."""
    program = (
        "import sys; from setuptools import build_meta;"
        f" print('built', build_meta.build_{kind}(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(out)],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"building the {kind} failed:\n{done.stdout}\n{done.stderr}")
    return out / done.stdout.rstrip().rpartition("built ")[2]


@dataclass(frozen=True)
class Built:
    """What was built from the tree, and where there is room for more."""

    scratch: Path
    sdist: Path
    wheel: Path
    wheel_of_sdist: Path


@cache
def built() -> Built:
    """Build a wheel from the tree, an archive of the sources, and a wheel from that archive.

    Once a process: trial knows no C{setUpClass}.
    """
    scratch = Path(tempfile.mkdtemp(prefix="mesoskit-packaging-"))
    atexit.register(shutil.rmtree, scratch)
    tree, out, again = scratch / "tree", scratch / "out", scratch / "again"
    for directory in (tree, out, again):
        directory.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns(*GENERATED))
        else:
            shutil.copy(ROOT / name, tree / name)
    sdist = build("sdist", tree, out)
    wheel = build("wheel", tree, out)
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # since Python 3.11.4
        archive.extractall(scratch / "unpacked")
    (unpacked,) = (scratch / "unpacked").iterdir()
    return Built(scratch, sdist, wheel, build("wheel", unpacked, again))


@unittest.skipUnless(
    find_spec("grpc_tools"), "grpcio-tools, which compiles the messages, is missing"
)
class BuildTests(SynchronousTestCase):
    """What is built holds what it must."""

    def setUp(self) -> None:
        self.scratch, self.sdist, self.wheel, self.wheel_of_sdist = astuple(built())

    def contents(self, wheel: Path) -> set[str]:
        with zipfile.ZipFile(wheel) as archive:
            return {name for name in archive.namelist() if not name.endswith("/")}

    def test_sources_hold_protocols_and_nothing_generated(self) -> None:
        with tarfile.open(self.sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        protocols = {str(path.relative_to(ROOT)) for path in (ROOT / "protocols").rglob("*.proto")}
        self.assertTrue(protocols)
        self.assertLessEqual(
            protocols | {"setup.py", "LICENSE", "twisted/plugins/mesoskit_plugins.py"}, names
        )
        self.assertEqual([name for name in names if "_pb2" in name], [])

    def test_wheel_holds_messages_and_plugin(self) -> None:
        names = self.contents(self.wheel)
        stems = {path.stem for path in (ROOT / "protocols").rglob("*.proto")}
        self.assertLessEqual(
            {f"mesoskit/messages/{stem}_pb2.{kind}" for stem in stems for kind in ("py", "pyi")}
            | {"mesoskit/py.typed", "mesoskit/__init__.py"}
            | {"twisted/plugins/mesoskit_plugins.py"},
            names,
        )

    def test_wheel_holds_every_module(self) -> None:
        modules = {
            str(path.relative_to(self.scratch / "tree"))
            for path in (self.scratch / "tree" / "mesoskit").rglob("*.py")
        }
        self.assertEqual(modules - self.contents(self.wheel), set())

    def test_wheel_holds_nothing_else(self) -> None:
        for name in self.contents(self.wheel):
            self.assertRegex(name, r"^(mesoskit/|mesoskit-[^/]*\.dist-info/|twisted/plugins/)")
            self.assertNotIn("dropin.cache", name)
        self.assertNotIn("twisted/plugins/__init__.py", self.contents(self.wheel))

    def test_wheel_tells_of_its_build(self) -> None:
        with zipfile.ZipFile(self.wheel) as archive:
            told = json.loads(archive.read("mesoskit/build.json"))
        self.assertGreater(told["time"], 0)
        self.assertEqual({"time", "user", "sha", "branch"}, set(told))

    def test_wheel_of_the_sources_is_the_same(self) -> None:
        self.assertEqual(self.contents(self.wheel_of_sdist), self.contents(self.wheel))

    def test_what_is_in_the_wheel_can_be_imported(self) -> None:
        place = self.scratch / "installed"
        with zipfile.ZipFile(self.wheel) as archive:
            archive.extractall(place)
        program = (
            f"import sys; sys.path.insert(0, {str(place)!r});"
            " from mesoskit.messages import codec, scheduler_pb2;"
            " print(scheduler_pb2.__file__);"
            " print(codec.to_json(scheduler_pb2.Call(type='REVIVE')).decode())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.scratch,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        file, text = done.stdout.splitlines()
        self.assertEqual(file, str(place / "mesoskit" / "messages" / "scheduler_pb2.py"))
        self.assertEqual(text, '{"type":"REVIVE"}')


class DescriptionTests(SynchronousTestCase):
    """pyproject.toml agrees with what is generated and installed."""

    def setUp(self) -> None:
        self.description = tomllib.loads((ROOT / "pyproject.toml").read_text())

    def test_runtime_is_what_the_compiler_asks_for(self) -> None:
        """Generated code refuses an older runtime, so the pin is the compiler's own version."""
        from mesoskit.messages import mesos_pb2

        generated = Path(mesos_pb2.__file__).read_text()
        found = re.search(r"^# Protobuf Python Version: (\S+)$", generated, re.MULTILINE)
        assert found is not None
        version = found[1]
        next_major = int(version.partition(".")[0]) + 1
        self.assertIn(
            f"protobuf>={version},<{next_major}", self.description["project"]["dependencies"]
        )

    def test_compiler_is_the_same_for_builds_and_for_development(self) -> None:
        def compilers(requirements: list[str]) -> list[str]:
            return [name for name in requirements if name.startswith("grpcio-tools")]

        building = compilers(self.description["build-system"]["requires"])
        extras = self.description["project"]["optional-dependencies"]
        self.assertEqual(building, compilers(extras["dev"]))
        self.assertEqual(len(building), 1)

    def test_version(self) -> None:
        import mesoskit

        self.assertEqual(mesoskit.__version__, self.description["project"]["version"])

    def test_twisted_finds_the_plugin(self) -> None:
        """Also where this tree is installed in place, which hides it if set up carelessly."""
        program = (
            "import twisted.plugins, os;"
            " print([p for p in twisted.plugins.__path__"
            " if os.path.exists(os.path.join(p, 'mesoskit_plugins.py'))])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tempfile.gettempdir(),
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        self.assertNotEqual(done.stdout.strip(), "[]")
