"""A directory tree that behaves as cgroups of version 2 do, for machines that have none.

What the files of a new group hold, and what may be written to them, is as on Linux 6.1 of Debian 12
(C{Documentation/admin-guide/cgroup-v2.rst}): controllers' files are there where the group above
hands the controller on, a group with processes hands on nothing, what is no number is refused.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mesoskit.agent.containers.cgroups import CgroupError

CORE = {
    "cgroup.controllers": "",
    "cgroup.events": "populated 0\nfrozen 0\n",
    "cgroup.freeze": "0\n",
    "cgroup.kill": "",
    "cgroup.procs": "",
    "cgroup.subtree_control": "",
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n",
}
CONTROLLERS = {
    "cpu": {
        "cpu.max": "max 100000\n",
        "cpu.weight": "100\n",
        "cpu.stat": CORE["cpu.stat"] + "nr_periods 4\nnr_throttled 2\nthrottled_usec 250000\n",
    },
    "cpuset": {"cpuset.cpus": "\n", "cpuset.cpus.effective": "0-1\n", "cpuset.mems": "\n"},
    "io": {"io.stat": "", "io.weight": "default 100\n"},
    "memory": {
        "memory.current": "8192\n",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
        "memory.low": "0\n",
        "memory.max": "max\n",
        "memory.peak": "12288\n",
        "memory.stat": "anon 4096\nfile 2048\nkernel 1024\nfile_mapped 512\nunevictable 0\n",
        "memory.swap.current": "0\n",
        "memory.swap.max": "max\n",
    },
    "pids": {"pids.current": "0\n", "pids.max": "max\n"},
}
READ_ONLY = {"cgroup.controllers", "cgroup.events", "cpu.stat", "memory.current", "memory.events"}


class Tree:
    """The tree; L{make_directory}, L{write} and L{remove_directory} stand for the kernel's."""

    def __init__(self, root: str, controllers: str = "cpuset cpu io memory pids") -> None:
        self.root = root
        os.mkdir(root)
        self._fill(root, controllers.split())

    def _fill(self, path: str, controllers: list[str]) -> None:
        files = dict(CORE)
        for controller in controllers:
            files.update(CONTROLLERS[controller])
        files["cgroup.controllers"] = " ".join(controllers) + "\n"
        for name, content in files.items():
            Path(path, name).write_text(content)

    def read(self, path: str, name: str) -> str:
        """Return what a file holds."""
        return Path(self.root, path, name).read_text().strip()

    def make_directory(self, path: str) -> None:
        """Make a group, with the files that the one above hands on."""
        if os.path.isdir(path):
            return
        above = os.path.dirname(path)
        self.make_directory(above)
        os.mkdir(path)
        self._fill(path, Path(above, "cgroup.subtree_control").read_text().split())

    def remove_directory(self, path: str) -> bool:
        """Remove groups that hold no processes."""
        for directory, _, files in os.walk(path):
            if "cgroup.procs" in files and Path(directory, "cgroup.procs").read_text():
                return False
        shutil.rmtree(path, ignore_errors=True)
        return True

    def write(self, path: str, value: str | int) -> None:
        """Take what is written, or refuse it as a kernel does."""
        text, name = str(value), os.path.basename(path)
        if not os.path.exists(path):
            raise CgroupError(f"{path}: cannot be set to {value}: No such file or directory")
        if name in READ_ONLY:
            raise CgroupError(f"{path}: cannot be set to {value}: Permission denied")
        if name == "cgroup.subtree_control":
            self._hand_on(os.path.dirname(path), text)
            return
        words = text.split()
        if name == "cpu.max":
            good = len(words) == 2 and (words[0] == "max" or int(words[0]) >= 1000)
        elif name == "cpu.weight":
            good = 1 <= int(text) <= 10_000
        else:
            good = text == "max" or text.isdecimal()
        if not good:
            raise CgroupError(f"{path}: cannot be set to {value}: Invalid argument")
        Path(path).write_text(text + "\n")

    def _hand_on(self, group: str, text: str) -> None:
        there = Path(group, "cgroup.controllers").read_text().split()
        handed = Path(group, "cgroup.subtree_control").read_text().split()
        if group != self.root and Path(group, "cgroup.procs").read_text():
            raise CgroupError(f"{group}: Device or resource busy")
        for word in text.split():
            if word[0] != "+" or word[1:] not in there:
                raise CgroupError(f"{group}: {word}: No such file or directory")
            handed.append(word[1:])
        Path(group, "cgroup.subtree_control").write_text(" ".join(handed))
        for entry in os.scandir(group):
            if entry.is_dir():
                Path(entry.path, "cgroup.controllers").write_text(" ".join(handed))
                for word in text.split():
                    for name, content in CONTROLLERS[word[1:]].items():
                        Path(entry.path, name).write_text(content)
