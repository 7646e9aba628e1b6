"""What a machine offers, by Mesos' rules."""

from __future__ import annotations

import os
import socket

from mesoskit.agent import machine
from tests.base import SynchronousTestCase

GB = 1 << 30


class MachineTests(SynchronousTestCase):
    """Counting."""

    def test_memory_is_left_to_the_system(self):
        for total, megabytes in ((8 * GB, 7168), (2 * GB, 1024), (2 * GB - 1, 1023), (GB, 512)):
            self.assertEqual(machine.memory_for_tasks(total), megabytes)

    def test_disk_is_left_to_the_system(self):
        for total, megabytes in ((100 * GB, 97280), (10 * GB, 5120), (10 * GB - 1, 5119)):
            self.assertEqual(machine.disk_for_tasks(total), megabytes)

    def test_this_machine(self):
        found = machine.detect("/")
        self.assertEqual(found.cpus, os.sysconf("SC_NPROCESSORS_ONLN"))
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.assertEqual(found.mem, machine.memory_for_tasks(pages))
        self.assertGreater(found.disk, 0)

    def test_as_text(self):
        text = machine.Machine(2, 1024, 5120).text
        self.assertEqual(text, "cpus:2;mem:1024;disk:5120;ports:[31000-32000]")

    def test_boot_id_names_a_boot(self):
        self.assertRegex(machine.boot_id(), r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
        self.assertEqual(machine.boot_id(), machine.boot_id())

    def test_the_disk_is_so_full(self):
        self.assertTrue(0.0 < machine.disk_used("/") < 1.0)
        self.assertRaises(OSError, machine.disk_used, "/nonexistent")

    def test_a_disk_is_full_of_files_too(self):
        for (blocks, free, files, left), used in (
            ((100, 60, 100, 60), 0.4),
            ((100, 60, 100, 10), 0.9),
            ((100, 20, 100, 90), 0.8),
            ((100, 60, 0, 0), 0.4),  # as many as one likes
            ((0, 0, 0, 0), 0.0),
        ):
            figures = (4096, 4096, blocks, free, free, files, left, left, 0, 255)
            self.patch(os, "statvfs", lambda path, figures=figures: os.statvfs_result(figures))
            self.assertAlmostEqual(machine.disk_used("/"), used)

    def test_names_and_addresses(self):
        self.patch(socket, "gethostname", lambda: "localhost")
        self.assertTrue(machine.hostname().startswith("localhost"))
        self.patch(socket, "gethostname", lambda: "no.such.host.invalid")
        self.patch(socket, "getaddrinfo", self._nobody)
        self.assertEqual(machine.hostname(), "no.such.host.invalid")
        self.assertRaises(OSError, machine.ip_address, "no.such.host.invalid")

    def test_address(self):
        self.assertEqual(machine.ip_address("127.0.0.1"), "127.0.0.1")

    @staticmethod
    def _nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")
