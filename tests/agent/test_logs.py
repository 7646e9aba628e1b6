"""Logs of containers that are held to a size."""

from __future__ import annotations

import os
import pwd
import re
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any
from unittest import skipIf

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from mesoskit.agent import logs, logs_rotation
from mesoskit.agent.container import (
    Console,
    ContainerFailed,
    ContainerSpec,
    Launch,
    RecoveredContainers,
)
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.memory import (
    MemoryContainers,
    MemoryFetcher,
    MemoryLauncher,
    MemorySandboxes,
)
from mesoskit.agent.hands import Hands
from mesoskit.agent.launcher_console import name_of
from mesoskit.agent.log_sizes import LogSizeError, Sizes, sizes_of
from mesoskit.agent.logs import HURRY, INTERVAL, Rotation
from mesoskit.agent.logs_rotation import rotate
from mesoskit.agent.users import Users
from mesoskit.model.ids import ContainerId
from tests.agent.real import REACTOR, RealTestCase, until
from tests.base import SynchronousTestCase

KB = 1 << 10


def at_once(function: Any) -> Deferred[Any]:
    """Run in this very thread."""
    return maybeDeferred(function)


class SandboxTestCase(SynchronousTestCase):
    """A test with a directory in which something has a log open."""

    where: str | None = None

    def setUp(self) -> None:
        self.sandbox = os.path.realpath(tempfile.mkdtemp(prefix="mesoskit-logs-", dir=self.where))
        self.addCleanup(rmtree, self.sandbox, ignore_errors=True)
        self.writer = os.open(
            f"{self.sandbox}/stdout", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
        )
        self.addCleanup(os.close, self.writer)
        self.written = b""

    def write(self, size: int) -> None:
        """Write lines, each of them another."""
        begin = len(self.written) // 16
        data = b"".join(b"%015d\n" % number for number in range(begin, begin + size // 16))
        self.written += data
        os.write(self.writer, data)

    def sizes(self) -> dict[str, int]:
        names = sorted(os.listdir(self.sandbox))
        return {name: os.stat(f"{self.sandbox}/{name}").st_size for name in names}

    def all(self, files: int = 9) -> bytes:
        """Return all there is, in the order in which it was written."""
        names = [f"stdout.{number}" for number in range(files, 0, -1)] + ["stdout"]
        paths = [Path(self.sandbox, name) for name in names]
        return b"".join(path.read_bytes() for path in paths if path.exists())


class RotateTests(SandboxTestCase):
    """One file."""

    def test_a_small_one_is_left_alone(self) -> None:
        self.write(10 * KB)
        self.assertEqual(rotate(self.sandbox, "stdout", 10 * KB, 3), 0)
        self.assertEqual(self.sizes(), {"stdout": 10 * KB})

    def test_nothing_is_lost_while_there_is_room(self) -> None:
        for _ in range(4):
            self.write(20 * KB)
            self.assertGreater(rotate(self.sandbox, "stdout", 19 * KB + 512, 5), 0)
            self.write(512)
        self.assertEqual(self.all(), self.written)

    def test_the_oldest_go(self) -> None:
        for _ in range(6):
            self.write(20 * KB)
            rotate(self.sandbox, "stdout", 16 * KB, 2)
        self.assertEqual(set(self.sizes()), {"stdout", "stdout.1", "stdout.2"})
        self.assertTrue(self.written.endswith(self.all()))

    def test_none_is_kept_where_none_is_wanted(self) -> None:
        self.write(20 * KB)
        rotate(self.sandbox, "stdout", 16 * KB, 0)
        self.assertEqual(set(self.sizes()), {"stdout"})
        self.assertLessEqual(self.sizes()["stdout"], 4 * KB)
        self.write(64)
        self.assertTrue(self.written.endswith(self.all()))

    def test_of_far_too_much_the_newest_is_kept(self) -> None:
        self.write(200 * KB)
        rotate(self.sandbox, "stdout", 16 * KB, 2)
        self.assertEqual(self.sizes()["stdout.1"], 16 * KB + self.rest())
        self.assertEqual(self.sizes()["stdout.2"], 16 * KB)
        self.assertTrue(self.written.endswith(self.all()))

    def test_much_goes_into_several(self) -> None:
        self.write(20 * KB)
        rotate(self.sandbox, "stdout", 16 * KB, 5)
        self.write(56 * KB)
        rotate(self.sandbox, "stdout", 16 * KB, 5)
        self.assertEqual(self.all(), self.written)
        found = self.sizes()
        self.assertEqual(len(found), 5)
        self.assertLess(max(found.values()), 32 * KB)

    def rest(self) -> int:
        """Return what was added to the newest as nothing of the log could be left."""
        return 0

    def test_a_file_system_that_cannot_cut_off_a_beginning(self) -> None:
        self.patch(logs_rotation, "_collapse", lambda log, end: False)
        for _ in range(4):
            self.write(20 * KB + 160)
            rotate(self.sandbox, "stdout", 20 * KB, 5)
            self.assertEqual(self.sizes()["stdout"], 0)
            self.write(512)
        self.assertEqual(self.all(), self.written)
        self.write(20 * KB)
        rotate(self.sandbox, "stdout", 4 * KB, 0)
        self.assertEqual(self.sizes()["stdout"], 0)

    @given(
        steps=st.lists(st.integers(0, 4 * KB), max_size=12),
        most=st.integers(1, 5).map(lambda blocks: blocks * 4 * KB),
        files=st.integers(0, 4),
    )
    @settings(  # it runs for both kinds of file systems
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.differing_executors],
    )
    def test_what_is_left_is_the_end_of_what_was_written(
        self, steps: list[int], most: int, files: int
    ) -> None:
        for name in os.listdir(self.sandbox):
            os.truncate(f"{self.sandbox}/{name}", 0)
            if name != "stdout":
                os.unlink(f"{self.sandbox}/{name}")
        self.written = b""
        for step in steps:
            self.write(step * 16)
            rotate(self.sandbox, "stdout", most, files)
            found = self.sizes()
            self.assertTrue(self.written.endswith(self.all()))
            self.assertLessEqual(set(found), {"stdout", *(f"stdout.{n + 1}" for n in range(files))})
            self.assertLessEqual(max(found.values()), 2 * most + 4 * KB)
            if len(found) <= files:
                self.assertEqual(self.all(), self.written)

    def test_what_is_not_a_log_is_not_touched(self) -> None:
        victim = Path(self.sandbox, "victim")
        log = Path(self.sandbox, "stdout")
        victim.write_bytes(b"x" * 9 * KB)
        for make in (
            lambda: os.symlink(victim, log),
            lambda: os.link(victim, log),
            lambda: os.mkfifo(log),
            lambda: os.mkdir(log),
        ):
            if log.is_dir():
                log.rmdir()
            else:
                log.unlink()
            make()
            with self.assertRaises(OSError):
                rotate(self.sandbox, "stdout", 4 * KB, 2)
            self.assertEqual(victim.stat().st_size, 9 * KB)
        log.rmdir()
        with self.assertRaises(OSError):
            rotate(self.sandbox, "stdout", 4 * KB, 2)

    def test_links_in_the_place_of_older_ones_are_not_followed(self) -> None:
        victim = Path(self.sandbox, "victim")
        victim.write_text("precious")
        for number in (1, 2):
            os.symlink(victim, f"{self.sandbox}/stdout.{number}")
        for _ in range(3):
            self.write(20 * KB)
            rotate(self.sandbox, "stdout", 16 * KB, 2)
        self.assertEqual(victim.read_text(), "precious")
        self.assertFalse(os.path.islink(f"{self.sandbox}/stdout.2"))

    def test_a_sandbox_behind_a_link_is_not_entered(self) -> None:
        self.write(20 * KB)
        os.symlink(self.sandbox, f"{self.sandbox}-link")
        self.addCleanup(os.unlink, f"{self.sandbox}-link")
        with self.assertRaises(OSError):
            rotate(f"{self.sandbox}-link", "stdout", 4 * KB, 2)

    @skipIf(os.geteuid() != 0, "only root has logs of others")
    def test_older_ones_belong_to_whom_the_log_belongs(self) -> None:
        entry = pwd.getpwnam("nobody")
        os.fchown(self.writer, entry.pw_uid, entry.pw_gid)
        os.fchmod(self.writer, 0o640)
        self.write(20 * KB)
        rotate(self.sandbox, "stdout", 4 * KB, 2)
        found = os.stat(f"{self.sandbox}/stdout.1")
        self.assertEqual((found.st_uid, found.st_mode & 0o777), (entry.pw_uid, 0o640))


class MemoryFileSystemTests(RotateTests):
    """The same where files are in memory."""

    where = "/dev/shm"

    def rest(self) -> int:
        return 4 * KB

    if not os.access("/dev/shm", os.W_OK):
        skip = "there is no /dev/shm"


class SizesTests(SynchronousTestCase):
    """What commands may say."""

    def test_sizes_and_files(self) -> None:
        found = sizes_of(
            Sizes(1, 2, 3, 4),
            [
                ("CONTAINER_LOGGER_MAX_STDOUT_SIZE", "5MB"),
                ("CONTAINER_LOGGER_LOGROTATE_STDERR_OPTIONS", "compress\nrotate 9\nmissingok"),
                ("OTHER", "x"),
            ],
        )
        self.assertEqual(found, Sizes(5 << 20, 2, 3, 9))
        options = [("CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS", "compress")]
        self.assertEqual(sizes_of(Sizes(), options).stdout_files, 0)

    def test_what_is_no_size_is_named(self) -> None:
        for value, why in (("10", "a size such as 10MB is wanted"), ("4095B", "at least 4096B")):
            name = "CONTAINER_LOGGER_MAX_STDERR_SIZE"
            error = self.assertRaises(LogSizeError, sizes_of, Sizes(), [(name, value)])
            self.assertIn(name, str(error))
            self.assertIn(why, str(error))


class RotationTests(SandboxTestCase):
    """When files are looked at."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.notes = os.path.join(self.sandbox, "notes")
        self.addCleanup(rmtree, self.notes, ignore_errors=True)

    def rotation(self) -> Rotation:
        return Rotation(self.clock, self.notes, Sizes(16 * KB, 16 * KB, 2, 2), at_once)

    def spec(self, name: str = "a", **variables: str) -> ContainerSpec:
        environment = tuple(variables.items())
        return ContainerSpec(ContainerId(name), ("true",), self.sandbox, environment)

    def count(self) -> list[str]:
        return [name for name in os.listdir(self.sandbox) if "." in name]

    def test_looked_at_each_second_while_it_runs(self) -> None:
        rotation = self.rotation()
        rotation.prepare(self.spec())()
        self.write(20 * KB)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.count(), ["stdout.1"])
        self.write(20 * KB)
        rotation.over(ContainerId("a"))
        self.clock.pump([HURRY] * 50)
        self.assertEqual(self.count(), ["stdout.1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(os.listdir(self.notes), [])

    def test_what_grows_fast_is_looked_at_more_often(self) -> None:
        rotation = self.rotation()
        rotation.prepare(self.spec())()
        self.write(16 * KB)
        self.clock.advance(INTERVAL)
        most = 0
        for _ in range(100):
            self.write(2 * KB)  # 40 KB a second
            self.clock.advance(HURRY)
            most = max(most, self.sizes()["stdout"])
        self.assertLess(most, 26 * KB)

    def test_what_grows_slowly_is_not(self) -> None:
        looked: list[str] = []

        def size_of(sandbox: str, name: str) -> int:
            looked.append(name)
            return len(looked)

        self.patch(logs, "size_of", size_of)
        rotation = self.rotation()
        rotation.prepare(self.spec())()
        self.clock.pump([HURRY] * 210)
        self.assertLessEqual(len(looked), 2 * 11)

    def test_the_next_agent_goes_on(self) -> None:
        first = self.rotation()
        first.prepare(self.spec(CONTAINER_LOGGER_MAX_STDOUT_SIZE="8KB"))()
        first.prepare(self.spec("gone"))()
        first.stop()
        self.write(12 * KB)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.count(), [])
        second = self.rotation()
        second.recover([ContainerId("a"), ContainerId("never-seen")])
        self.assertEqual(len(os.listdir(self.notes)), 1)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.count(), ["stdout.1"])

    def test_what_cannot_be_rotated_is_said_once(self) -> None:
        rotation = self.rotation()
        rotation.prepare(self.spec())()
        os.link(f"{self.sandbox}/stdout", f"{self.sandbox}/other")
        self.write(20 * KB)
        self.clock.pump([INTERVAL] * 5)
        self.assertEqual(self.sizes()["stdout"], 20 * KB)
        self.assertIn((ContainerId("a"), "stdout"), rotation._complained)
        os.unlink(f"{self.sandbox}/other")
        self.clock.pump([INTERVAL] * 2)
        self.assertEqual(self.count(), ["stdout.1"])

    def test_hands_launch_and_end_and_recover(self) -> None:
        launcher = MemoryLauncher()
        events: list[Any] = []
        users = Users(self.clock, at_once)
        hands = Hands(users, MemorySandboxes(), MemoryFetcher(), events.append)
        hands.containers = MemoryContainers(launcher, hands.exited)
        hands.logs = rotation = self.rotation()
        hands.start()
        hands.perform(Launch(self.spec()))
        self.assertEqual(len(os.listdir(self.notes)), 1)
        hands.perform(Launch(self.spec("b", CONTAINER_LOGGER_MAX_STDOUT_SIZE="1B")))
        self.assertIsInstance(events[-1], ContainerFailed)
        self.assertIn("CONTAINER_LOGGER_MAX_STDOUT_SIZE", events[-1].why)
        launcher.refusals[ContainerId("c")] = "no"
        hands.perform(Launch(self.spec("c")))
        self.assertEqual(list(rotation._logs), ["a"])
        hands.stop()
        again = Hands(users, MemorySandboxes(), MemoryFetcher(), events.append)
        again.containers = MemoryContainers(launcher, again.exited)
        again.logs = second = self.rotation()
        again.start()
        self.assertEqual(list(second._logs), ["a"])
        self.assertTrue(any(isinstance(each, RecoveredContainers) for each in events))
        launcher.finish(ContainerId("a"), 0)
        self.assertEqual(list(second._logs), [])

    def test_a_bad_size_is_an_error_of_the_container(self) -> None:
        spec = self.spec(CONTAINER_LOGGER_MAX_STDERR_SIZE="none")
        self.assertRaises(ContainerError, self.rotation().prepare, spec)


class RealLogTests(RealTestCase):
    """A container that writes, and its log."""

    async def test_a_container_writes_on_while_its_log_is_rotated(self):
        await self.writes_on(None)

    async def test_so_does_the_console_of_one_that_can_be_attached_to(self):
        await self.writes_on(Console(terminal=True))

    async def writes_on(self, console: Console | None) -> None:
        agent, ends = await self.started()
        rotation = Rotation(
            REACTOR, f"{self.directory}/notes", Sizes(64 * KB, 64 * KB, 400, 400), self.in_thread
        )
        self.addCleanup(rotation.stop)
        loop = (
            "i=10000; while test $i -lt 60000; do echo $i; i=$((i + 1)); done;"
            " while ! test -e stdout.1; do sleep 0.02; done"
        )
        spec = self.spec("a", loop, console=console)
        rotation.prepare(spec)()
        await agent.launch(spec)
        await ends.wait(1)
        # A console's process may have something to write yet.
        socket = Path(self.runtime, name_of(spec.id))
        await until(lambda: not socket.exists())
        rotation.over(ContainerId("a"))
        await until(lambda: not rotation._looking)
        names = sorted(
            (name for name in os.listdir(spec.sandbox) if re.match(r"stdout\.\d+$", name)),
            key=lambda name: -int(name[7:]),
        )
        text = b"".join(Path(spec.sandbox, name).read_bytes() for name in [*names, "stdout"])
        numbers = [int(line) for line in text.split()]
        self.assertEqual(numbers, list(range(10000, 60000)))
        self.assertGreater(len(names), 0)
