"""A directory tree that stands for cgroups of version 2, for machines that have not all of them.

Files, contents and refusals are those of a machine that has (Linux' C{admin-guide/cgroup-v2}, and
L{tests.agent.test_cgroup_hosts}, which holds the tree to what this machine's kernel does): a
controller's files are there where the group above hands the controller on, a group with processes
hands on nothing, one that hands on takes no processes, what is no number is refused.
"""

from __future__ import annotations

import errno
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
    "hugetlb": {"hugetlb.2MB.current": "0\n", "hugetlb.2MB.max": "max\n"},
    "io": {"io.stat": "", "io.weight": "default 100\n"},
    "memory": {
        "memory.current": "8192\n",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
        "memory.events.local": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
        "memory.low": "0\n",
        "memory.max": "max\n",
        "memory.peak": "12288\n",
        "memory.stat": "anon 4096\nfile 2048\nkernel 1024\nfile_mapped 512\nunevictable 0\n",
        "memory.swap.current": "0\n",
        "memory.swap.max": "max\n",
    },
    "pids": {"pids.current": "0\n", "pids.max": "max\n"},
}
READ_ONLY = {
    *("cgroup.controllers", "cgroup.events", "cpu.stat", "io.stat", "pids.current"),
    *("hugetlb.2MB.current", "memory.current", "memory.events", "memory.stat"),
}
PROCESSES = "cgroup.procs"


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
        if any(self._pids(directory) for directory in self._below(path)):
            return False
        shutil.rmtree(path, ignore_errors=True)
        return True

    def write(self, path: str, value: str | int) -> None:
        """Take what is written, or refuse it as a kernel does."""
        try:
            self._write(path, str(value))
        except ValueError:
            self._refused(path, value, errno.EINVAL)
        except OSError as error:
            self._refused(path, value, error.errno or errno.EIO)

    def _refused(self, path: str, value: str | int, why: int) -> None:
        raise CgroupError(f"{path}: cannot be set to {value}: {os.strerror(why)}")

    def _write(self, path: str, text: str) -> None:
        group, name = os.path.split(path)
        if not os.path.exists(path):
            raise FileNotFoundError(errno.ENOENT, path)
        if name in READ_ONLY:
            raise ValueError
        words = text.split()
        if name == "cgroup.subtree_control":
            self._hand_on(group, words)
        elif name == PROCESSES:
            self._enter(group, int(text))
        elif name in ("cgroup.kill", "cgroup.freeze"):
            self._order(group, name, int(text))
        else:
            if name == "cpu.max":
                good = len(words) == 2 and (words[0] == "max" or int(words[0]) >= 1000)
            elif name == "cpu.weight":
                good = 1 <= int(text) <= 10_000
            else:
                good = text == "max" or text.isdecimal()
            if not good:
                raise ValueError
            Path(path).write_text(text + "\n")

    # Processes

    def _pids(self, group: str) -> list[int]:
        return [int(pid) for pid in Path(group, PROCESSES).read_text().split()]

    def _below(self, group: str) -> list[str]:
        return [at for at, _, files in os.walk(group) if PROCESSES in files]

    def _enter(self, group: str, pid: int) -> None:
        if pid < 0:
            raise ValueError
        if group != self.root and Path(group, "cgroup.subtree_control").read_text().split():
            raise OSError(errno.EBUSY, group)
        for other in self._below(self.root):
            self._put(other, [one for one in self._pids(other) if one != pid])
        self._put(group, [*self._pids(group), pid])

    def _put(self, group: str, pids: list[int]) -> None:
        Path(group, PROCESSES).write_text("".join(f"{pid}\n" for pid in pids))
        at = group
        while at != self.root:
            held = int(any(self._pids(below) for below in self._below(at)))
            frozen = Path(at, "cgroup.freeze").read_text().strip()
            Path(at, "cgroup.events").write_text(f"populated {held}\nfrozen {frozen}\n")
            at = os.path.dirname(at)

    def _order(self, group: str, name: str, value: int) -> None:
        if value not in ((1,) if name == "cgroup.kill" else (0, 1)):
            raise OSError(errno.ERANGE, group)
        if name == "cgroup.freeze":
            Path(group, name).write_text(f"{value}\n")
            self._put(group, self._pids(group))
            return
        for below in self._below(group):
            self._put(below, [])

    # Controllers

    def _hand_on(self, group: str, words: list[str]) -> None:
        there = Path(group, "cgroup.controllers").read_text().split()
        handed = Path(group, "cgroup.subtree_control").read_text().split()
        for word in words:
            if word[0] not in "+-" or word[1:] not in CONTROLLERS:
                raise ValueError
            if word[0] == "+" and word[1:] not in there:
                raise FileNotFoundError(errno.ENOENT, group)
        added = [word[1:] for word in words if word[0] == "+" and word[1:] not in handed]
        taken = [word[1:] for word in words if word[0] == "-" and word[1:] in handed]
        if added and group != self.root and self._pids(group):
            raise OSError(errno.EBUSY, group)
        handed = [one for one in [*handed, *added] if one not in taken]
        Path(group, "cgroup.subtree_control").write_text(" ".join(handed))
        for entry in os.scandir(group):
            if entry.is_dir():
                Path(entry.path, "cgroup.controllers").write_text(" ".join(handed))
                for controller in added:
                    for name, content in CONTROLLERS[controller].items():
                        Path(entry.path, name).write_text(content)
                for controller in taken:
                    for name in CONTROLLERS[controller].keys() - CORE.keys():
                        Path(entry.path, name).unlink()
