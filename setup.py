"""Compiles the .proto files before anything else is built.

The rest of the package's description is in pyproject.toml. Two things can only stand here: the
list of packages, because C{twisted.plugins} is a directory that belongs to Twisted and that we
only put one file into, and the compilation of C{protocols/}, without which neither a wheel nor
an editable install has any message classes. A wheel is told what it was built of besides.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

from setuptools import Command, find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.errors import ExecError

HERE = Path(__file__).resolve().parent
PROTOCOLS = HERE / "protocols"


def compile_messages() -> None:
    """Write a C{_pb2.py} and a C{_pb2.pyi} for every .proto file, next to the code using them."""
    sources = sorted(str(path.relative_to(PROTOCOLS)) for path in PROTOCOLS.rglob("*.proto"))
    if not sources:
        raise ExecError(f"no .proto files under {PROTOCOLS}")
    # Duration and its kin come with the compiler.
    bundled = importlib.resources.files("grpc_tools") / "_proto"
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={PROTOCOLS}",
        f"--proto_path={bundled}",
        f"--python_out={HERE}",
        f"--pyi_out={HERE}",
        *sources,
    ]
    status = subprocess.run(command, cwd=PROTOCOLS, check=False).returncode
    if status:
        raise ExecError(f"the .proto files did not compile: protoc ended with status {status}")


class BuildMessages(Command):
    """C{python setup.py build_messages}: compile the .proto files and do nothing else."""

    description = "compile the .proto files into the source tree"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []

    def initialize_options(self) -> None:
        """There are no options."""

    def finalize_options(self) -> None:
        """There are no options."""

    def run(self) -> None:
        """Compile."""
        compile_messages()


def describe_build(package: Path) -> None:
    """
    Write down what C{/version} tells of the build: when, by whom, of which commit.

    C{SOURCE_DATE_EPOCH} is the time of a build that is to be the same each time; it has no user.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    described = {
        "time": int(epoch or time.time()),
        "user": "" if epoch else os.environ.get("USER", ""),
        "sha": said_by_git("rev-parse", "HEAD"),
        "branch": said_by_git("symbolic-ref", "--quiet", "HEAD"),
    }
    (package / "build.json").write_text(json.dumps(described) + "\n")


def said_by_git(*arguments: str) -> str:
    """Return what git says of the checkout that this is; nothing where it is none."""
    if not (HERE / ".git").exists():
        return ""
    try:
        said = subprocess.run(
            ["git", "-C", str(HERE), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""


class BuildPy(build_py):
    """C{build_py} that compiles the .proto files first; editable installs run it too."""

    def run(self) -> None:
        """Compile, then collect the modules as always."""
        compile_messages()
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "mesoskit"
            package.mkdir(parents=True, exist_ok=True)
            describe_build(package)


setup(
    # Without package_dir the editable install hides twisted/plugins from Twisted.
    package_dir={"": "."},
    packages=[*find_packages(include=["mesoskit", "mesoskit.*"]), "twisted.plugins"],
    package_data={
        "mesoskit": ["py.typed"],
        "mesoskit.messages": ["*.pyi"],
    },
    cmdclass={"build_messages": BuildMessages, "build_py": BuildPy},
)
