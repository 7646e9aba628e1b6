"""What a machine has to offer, counted as Mesos counts.

The rules are those of C{src/slave/containerizer/containerizer.cpp}. What C{--resources} says
takes precedence, resource by resource; that is the agent's business.
"""

import os
import socket
from dataclasses import dataclass

import psutil

from mesoskit.agent.launcher_proc import boot_id

__all__ = ["Machine", "boot_id", "detect", "disk_used", "hostname", "ip_address"]

GIGABYTE = 1 << 30
MEGABYTE = 1 << 20

PORTS = ((31000, 32000),)
"""Mesos' default ports, both ends included."""


@dataclass(slots=True, frozen=True)
class Machine:
    """
    What there is for tasks.

    @ivar cpus: cores that are online.
    @ivar mem: megabytes (2**20 bytes) of memory, less what Mesos leaves to the system.
    @ivar disk: megabytes of the file system of the work directory, likewise.
    @ivar ports: ranges, both ends included.
    """

    cpus: int
    mem: int
    disk: int
    ports: tuple[tuple[int, int], ...] = PORTS

    @property
    def text(self) -> str:
        """The same in the form of C{--resources}: C{cpus:2;mem:6912;disk:45000;ports:[...]}."""
        ports = ", ".join(f"{first}-{last}" for first, last in self.ports)
        return f"cpus:{self.cpus};mem:{self.mem};disk:{self.disk};ports:[{ports}]"


def memory_for_tasks(total: int) -> int:
    """Return megabytes: all but 1 GB of 2 GB or more, half of less."""
    return (total - GIGABYTE if total >= 2 * GIGABYTE else total // 2) // MEGABYTE


def disk_for_tasks(total: int) -> int:
    """Return megabytes: all but 5 GB of 10 GB or more, half of less."""
    return (total - 5 * GIGABYTE if total >= 10 * GIGABYTE else total // 2) // MEGABYTE


def detect(work_dir: str) -> Machine:
    """
    Count.

    @param work_dir: where sandboxes are; it exists.
    """
    disk = os.statvfs(work_dir)
    return Machine(
        cpus=psutil.cpu_count() or 1,
        mem=memory_for_tasks(psutil.virtual_memory().total),
        disk=disk_for_tasks(disk.f_blocks * disk.f_frsize),
    )


def disk_used(path: str) -> float:
    """
    Return how full the file system is on which a path lies, from 0.0 to 1.0: of bytes, or of
    files, if it can hold so many of them only and is nearer to that.
    """
    disk = os.statvfs(path)
    return max(_used(disk.f_blocks, disk.f_bfree), _used(disk.f_files, disk.f_ffree))


def _used(total: int, free: int) -> float:
    return (total - free) / total if total else 0.0


def hostname() -> str:
    """Return the machine's full name, as far as its resolver knows one; this may take a while."""
    name = socket.gethostname()
    try:
        found = socket.getaddrinfo(name, None, flags=socket.AI_CANONNAME)
    except OSError:
        return name
    return found[0][3] or name


def ip_address(name: str) -> str:
    """
    Return the IPv4 address of a host name; this may take a while.

    Raises L{OSError} where there is none: an address has to be given with C{--ip} then.
    """
    found = socket.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    return str(found[0][4][0])
