"""What a machine's cgroups let an agent do, told by machines of paper; once by the real one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest import skipIf

from mesoskit.agent.containers.cgroups import CgroupError
from mesoskit.agent.containers.cgroups_machine import DYNMODS, check_usable, favor_dynmods
from tests.base import SynchronousTestCase

not_root = skipIf(os.geteuid() != 0, "only root can make cgroups")
MOUNTED = "41 31 0:38 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 {}\n"
OTHERS = "29 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\n30 29 0:5 / /dev/x rw - odd\n"


class Kernel:
    """Takes the calls by which options of cgroup2 are set, and does as it is told."""

    def __init__(self, mounts: Path, *, unknown: str = "", refuses: int = 0) -> None:
        self.mounts = mounts
        self.unknown = unknown.encode()
        self.refuses = refuses
        self.deaf = False
        self.options: list[str] = []
        self.made = False

    def __call__(self, number: int, *arguments: object) -> int:
        if number == 430:
            if self.refuses:
                raise OSError(self.refuses, os.strerror(self.refuses))
            return os.open("/dev/null", os.O_RDONLY)
        _, command, option, *_ = arguments
        if command == 0:
            assert isinstance(option, bytes)
            if option == self.unknown:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self.options.append(option.decode())
        else:
            self.made = True
            if self.mounts.read_text() and not self.deaf:
                self.mounts.write_text(MOUNTED.format(",".join(["rw", *self.options])))
        return 0


class DynmodsTests(SynchronousTestCase):
    """C{favordynmods}."""

    def setUp(self) -> None:
        self.mounts = Path(self.mktemp())
        self.mounts.write_text("")

    def asked(self, kernel: Kernel) -> bool:
        return favor_dynmods(str(self.mounts), kernel)

    def test_it_is_set_where_it_was_not_and_other_options_stay(self) -> None:
        self.mounts.write_text(OTHERS + MOUNTED.format("rw,nsdelegate,memory_recursiveprot"))
        kernel = Kernel(self.mounts)
        self.assertTrue(self.asked(kernel))
        self.assertTrue(kernel.made)
        self.assertEqual(kernel.options, [DYNMODS, "memory_recursiveprot", "nsdelegate"])
        self.assertFalse(self.asked(Kernel(self.mounts, refuses=errno.EPERM)))

    def test_it_is_set_where_version_2_is_not_mounted(self) -> None:
        kernel = Kernel(self.mounts)
        self.assertTrue(self.asked(kernel))
        self.assertEqual(kernel.options, [DYNMODS])

    def test_older_kernels_do_not_know_it(self) -> None:
        kernel = Kernel(self.mounts, unknown=DYNMODS)
        with self.assertRaisesRegex(CgroupError, "favordynmods of cgroup2.*has it since 6.0"):
            self.asked(kernel)
        self.assertFalse(kernel.made)
        with self.assertRaisesRegex(CgroupError, "fsopen of cgroup2: Function not implemented"):
            self.asked(Kernel(self.mounts, refuses=errno.ENOSYS))

    def test_nothing_is_changed_where_another_option_would_get_lost(self) -> None:
        self.mounts.write_text(MOUNTED.format("rw,new_in_9"))
        kernel = Kernel(self.mounts, unknown="new_in_9")
        with self.assertRaisesRegex(CgroupError, "option new_in_9"):
            self.asked(kernel)
        self.assertFalse(kernel.made)

    def test_that_the_kernel_has_not_listened_is_noticed(self) -> None:
        self.mounts.write_text(MOUNTED.format("rw"))
        kernel = Kernel(self.mounts)
        kernel.deaf = True
        with self.assertRaisesRegex(CgroupError, "cgroup namespace"):
            self.asked(kernel)

    @not_root
    def test_a_real_kernel(self) -> None:
        favor_dynmods()
        self.assertFalse(favor_dynmods() and "cgroup2" in Path("/proc/self/mountinfo").read_text())


class UsableTests(SynchronousTestCase):
    """Whether cgroups can be made."""

    def mounted(self, line: str) -> str:
        path: str = self.mktemp()
        Path(path).write_text(line + "\n")
        return path

    @not_root
    def test_a_group_that_was_made_to_find_out_is_gone(self) -> None:
        root = f"mesoskit-test-{os.getpid()}"
        check_usable("/sys/fs/cgroup", root)
        left = [*Path("/sys/fs/cgroup").glob(f"*/{root}"), *Path("/sys/fs/cgroup").glob(root)]
        self.assertEqual(left, [])

    def test_a_machine_without_cgroups(self) -> None:
        with self.assertRaisesRegex(CgroupError, "no cgroups in /sys/fs/cgroup"):
            check_usable("/sys/fs/cgroup", "mesos", self.mounted("tmpfs /sys/fs/cgroup tmpfs rw"))

    def test_cgroups_that_cannot_be_made(self) -> None:
        # Nobody makes directories there, nor removes them.
        mounts = self.mounted("cgroup /proc/self/fdinfo cgroup rw,freezer 0 0")
        with self.assertRaisesRegex(CgroupError, "/proc/self/fdinfo/mesos: "):
            check_usable("/proc/self/fdinfo", "mesos", mounts)
