"""The agent's hands: effects in, one event for each launch out, whatever fails on the way."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from mesoskit.agent.container import (
    ContainerExited,
    ContainerFacts,
    ContainerFailed,
    ContainerSpec,
    ContainerStarted,
    Destroy,
    DiskRead,
    Forget,
    Launch,
    RecoveredContainers,
    Remove,
    Removed,
    SandboxesFound,
    Signal,
    Uri,
    UsageRead,
)
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.launched import LaunchedContainers
from mesoskit.agent.containers.memory import (
    MemoryContainers,
    MemoryFetcher,
    MemoryLauncher,
    MemorySandboxes,
)
from mesoskit.agent.fetcher import Fetcher
from mesoskit.agent.hands import Hands
from mesoskit.agent.sandboxes import Sandboxes
from mesoskit.agent.users import Credentials, UserError
from mesoskit.model.ids import ContainerId
from tests.agent.real import REACTOR, RealTestCase, until
from tests.base import SynchronousTestCase

A = ContainerId("a")


class _Users:
    def __init__(self) -> None:
        self.pending: Deferred[Credentials | None] | None = None

    def find(self, name: str | None) -> Deferred[Credentials | None]:
        if name == "nobody-at-all":
            return fail(UserError(f"there is no user {name!r} on this machine"))
        return self.pending or succeed(None)


class HandsTests(SynchronousTestCase):
    """On doubles."""

    def setUp(self) -> None:
        self.events: list[Any] = []
        self.launcher = MemoryLauncher()
        self.sandboxes = MemorySandboxes()
        self.fetcher = MemoryFetcher()
        self.users = _Users()
        self.hands = Hands(self.users, self.sandboxes, self.fetcher, self.events.append)
        self.hands.containers = MemoryContainers(self.launcher, self.hands.exited)
        self.successResultOf(self.hands.start())
        self.assertEqual(self.told(), [RecoveredContainers(), SandboxesFound()])

    def told(self) -> list[Any]:
        events, self.events[:] = list(self.events), []
        return events

    def launch(self, **more: Any) -> None:
        self.hands.perform(Launch(ContainerSpec(A, ("sleep",), "/nowhere/a", **more)))

    def test_a_life(self):
        self.launch()
        self.assertEqual(self.told(), [ContainerStarted(A, 1001)])
        self.assertEqual([spec.id for spec in self.sandboxes.made], ["a"])
        self.hands.perform(Signal(A, SIGTERM))
        self.assertEqual(self.told(), [ContainerExited(A, SIGTERM)])
        self.hands.perform(Forget(A))
        self.assertEqual(self.launcher.ended, {})

    def test_destroying(self):
        self.launch()
        self.hands.perform(Destroy(A))
        self.assertEqual(self.told(), [ContainerStarted(A, 1001), ContainerExited(A, SIGKILL)])

    def test_every_stage_may_fail(self):
        self.launch(user="nobody-at-all")
        why = "there is no user 'nobody-at-all' on this machine"
        self.assertEqual(self.told(), [ContainerFailed(A, "sandbox", why)])
        self.sandboxes.full = "No space left on device"
        self.launch()
        self.assertEqual(self.told(), [ContainerFailed(A, "sandbox", "No space left on device")])
        self.sandboxes.full = ""
        self.launcher.refusals[A] = "no such file"
        self.launch()
        self.assertEqual(self.told(), [ContainerFailed(A, "launch", "no such file")])
        del self.launcher.refusals[A]
        self.launch()
        self.assertEqual(self.told(), [ContainerStarted(A, 1001)])

    def test_fetching_comes_before_the_start(self):
        self.launch(uris=(Uri("/x"),))
        self.assertEqual(self.told(), [])
        self.fetcher.fetching[A].callback(None)
        self.assertEqual(self.told(), [ContainerStarted(A, 1001)])

    def test_what_is_being_done_can_be_asked(self):
        self.users.pending = Deferred()
        self.launch(uris=(Uri("file:///x"),))
        self.assertEqual(self.hands.pending(), [(A, "user")])
        self.users.pending.callback(None)
        self.assertEqual(self.hands.pending(), [(A, "fetch")])
        self.hands.perform(Destroy(A))
        self.assertEqual(self.hands.pending(), [])
        destroyed: Deferred[None] = Deferred()
        self.patch(self.hands.containers, "destroy", lambda container: destroyed)
        for _ in range(2):
            self.hands.perform(Destroy(A))
        self.assertEqual(self.hands.pending(), [(A, "destroy")])
        destroyed.errback(ContainerError("it hangs"))
        self.assertEqual(self.hands.pending(), [])

    def test_destroyed_while_it_is_fetched(self):
        self.launch(uris=(Uri("/x"),))
        self.hands.perform(Destroy(A))
        expected = ContainerFailed(A, "fetch", "the fetching was cancelled")
        self.assertEqual(self.told(), [expected])
        self.assertEqual(self.launcher.running, {})

    def test_destroyed_while_its_user_is_looked_up(self):
        pending = self.users.pending = Deferred()
        self.launch()
        self.hands.perform(Destroy(A))
        pending.callback(None)
        why = "it was destroyed before it was started"
        self.assertEqual(self.told(), [ContainerFailed(A, "launch", why)])

    def test_destroyed_while_the_launcher_starts_it(self):
        starting: Deferred[int] = Deferred()
        real = self.hands.containers.launch
        self.patch(self.hands.containers, "launch", lambda spec: starting)
        self.launch()
        self.hands.perform(Destroy(A))
        self.assertEqual(self.told(), [])
        real(ContainerSpec(A, ("sleep",), "/nowhere/a")).addCallback(starting.callback)
        self.assertEqual(self.told(), [ContainerStarted(A, 1001), ContainerExited(A, SIGKILL)])

    def test_what_waits_for_an_image_hears_of_its_destruction(self):
        starting: Deferred[int] = Deferred()
        self.patch(self.hands.containers, "launch", lambda spec: starting)

        def destroy(container: ContainerId) -> Deferred[None]:
            starting.errback(ContainerError("it was destroyed before it was started"))
            return succeed(None)

        self.patch(self.hands.containers, "destroy", destroy)
        self.events.clear()
        self.hands.perform(Launch(ContainerSpec(A, ("x",), "/s")))
        self.hands.perform(Destroy(A))
        why = "it was destroyed before it was started"
        self.assertEqual(self.events, [ContainerFailed(A, "launch", why)])

    def test_what_there_is_to_say_of_a_container_is_told_with_its_start(self):
        facts = ContainerFacts(b"[]", ("10.0.0.2",))
        launch = self.hands.containers.launch

        def describe(spec: ContainerSpec) -> Deferred[int]:
            self.hands.described(spec.id, facts)
            return launch(spec)

        self.patch(self.hands.containers, "launch", describe)
        self.events.clear()
        self.hands.perform(Launch(ContainerSpec(A, ("x",), "/s")))
        self.assertEqual([event.facts for event in self.events], [facts])
        self.hands.described(ContainerId("late"), facts)  # it is not being started

    def test_what_nobody_expected_is_a_failure_of_the_container(self):
        self.patch(self.sandboxes, "make", lambda *_: 1 / 0)
        self.launch()
        self.assertEqual(
            self.told(), [ContainerFailed(A, "sandbox", "ZeroDivisionError: division by zero")]
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_removing(self):
        self.hands.perform(Remove("/nowhere/a"))
        self.assertEqual(self.told(), [Removed("/nowhere/a")])
        self.patch(self.sandboxes, "remove", lambda path: fail(OSError("no")))
        self.hands.perform(Remove("/nowhere/a"))
        self.assertEqual(self.told(), [Removed("/nowhere/a", "no")])

    def test_reading(self):
        self.launch()
        self.told()
        self.successResultOf(self.hands.read_usage())
        [usage] = self.told()
        self.assertIsInstance(usage, UsageRead)
        self.assertEqual(list(usage.usage), ["a"])
        self.sandboxes.work_dir = "/"
        self.hands.read_disk()
        [disk] = self.told()
        self.assertIsInstance(disk, DiskRead)
        self.assertTrue(0.0 <= disk.used <= 1.0)
        self.sandboxes.work_dir = "/nonexistent"
        self.hands.read_disk()
        self.assertEqual(self.told(), [])

    def test_containers_live_on_without_hands(self):
        self.launch(uris=(Uri("/x"),))
        self.hands.perform(Launch(ContainerSpec(ContainerId("b"), ("sleep",), "/nowhere/b")))
        self.successResultOf(self.hands.stop())
        self.assertEqual(list(self.launcher.running), ["b"])
        self.assertEqual(self.fetcher.fetching, {})


class RealHandsTests(RealTestCase):
    """All of it on this machine."""

    def hands(self, work: str) -> tuple[Hands, list[Any]]:
        events: list[Any] = []
        fetcher = Fetcher(REACTOR)
        hands = Hands(self.users, Sandboxes(work, self.in_thread), fetcher, events.append)
        containers = LaunchedContainers(
            REACTOR, self.runtime, self.users, self.in_thread, hands.exited, linger=0.1
        )
        hands.containers = containers
        self.agents.append(containers)
        self.addCleanup(fetcher.stop)
        return hands, events

    def container(self, work: str, *uris: str) -> ContainerSpec:
        return ContainerSpec(
            A,
            ("sh", "-c", "cat fetched; exit 3"),
            f"{work}/slaves/s/frameworks/f/executors/e/runs/a",
            (("PATH", "/usr/bin:/bin"),),
            file="/bin/sh",
            user="nobody" if os.geteuid() == 0 else None,
            uris=tuple(Uri(uri) for uri in uris),
        )

    async def test_a_life(self):
        work = os.path.join(self.directory, "work")
        os.mkdir(work)
        source = Path(self.directory, "fetched")
        source.write_text("text")
        hands, events = self.hands(work)
        await hands.start()
        spec = self.container(work, str(source))
        hands.perform(Launch(spec))
        await until(lambda: len(events) == 4)
        self.assertIsInstance(events[2], ContainerStarted)
        self.assertEqual(events[3], ContainerExited(A, 3 << 8))
        self.assertEqual(Path(spec.sandbox, "stdout").read_text(), "text")
        hands.perform(Forget(A))
        hands.perform(Remove(spec.sandbox))
        await until(lambda: len(events) == 5)
        self.assertEqual(events[4], Removed(spec.sandbox))
        self.assertFalse(os.path.exists(spec.sandbox))

    async def test_a_full_disk_and_a_read_only_one(self):
        if os.geteuid() != 0:
            return
        work = os.path.realpath(tempfile.mkdtemp(prefix="mesoskit-full-"))
        self.addCleanup(os.rmdir, work)
        options = "size=64k,nr_inodes=40,mode=755"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", work], check=False)
        if mounted.returncode:
            return
        self.addCleanup(subprocess.run, ["umount", "-l", work], check=True)
        hands, events = self.hands(work)
        await hands.start()
        del events[:]
        source = Path(self.directory, "big")
        source.write_bytes(b"x" * 100_000)
        hands.perform(Launch(self.container(work, str(source))))
        await until(lambda: events)
        self.assertEqual(events[0].stage, "fetch")
        self.assertIn(f"cannot fetch '{source}': No space left", events.pop().why)
        for number in range(40):  # until there is no inode left
            try:
                Path(work, f"x{number}").touch()
            except OSError:
                break
        hands.perform(Launch(self.container(work + "", "x")))
        spec = self.container(work)
        other = ContainerSpec(ContainerId("b"), spec.argv, spec.sandbox[:-1] + "b")
        hands.perform(Launch(other))
        await until(lambda: any(event.container == "b" for event in events))
        failed = next(event for event in events if event.container == "b")
        self.assertEqual(failed.stage, "sandbox")
        self.assertIn("No space left on device", failed.why)
        subprocess.run(["mount", "-o", "remount,ro", work], check=True)
        hands.perform(Launch(ContainerSpec(ContainerId("c"), spec.argv, spec.sandbox[:-1] + "c")))
        await until(lambda: any(event.container == "c" for event in events))
        self.assertIn("Read-only file system", events[-1].why)
