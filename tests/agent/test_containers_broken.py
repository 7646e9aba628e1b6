"""Containers whose launcher or agent is killed, or stays away."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from mesoskit.agent import launcher
from mesoskit.agent.container import RecoveredContainers
from mesoskit.agent.containers import ContainerError, launched
from mesoskit.agent.containers.launched import LaunchedContainers
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import Ends, NestingContract
from tests.agent.real import REACTOR, RealTestCase, alive, until
from tests.agent.test_containers import A, arguments_of


class BreakTests(RealTestCase):
    """Launchers and connections break; ends are told once nevertheless."""

    async def test_a_killed_launcher_leaves_ends_of_unknown_status(self):
        agent, ends = await self.started()
        pid = await agent.launch(self.spec("a", "sleep 1000 & sleep 1000"))
        await agent.launch(self.spec("known", "exit 7"))
        self.assertEqual(await ends.wait(1), [("known", 7 << 8)])
        first = self.launcher()
        os.kill(first, signal.SIGKILL)
        await until(lambda: not alive(first))
        await agent.usage()  # waits for a new one
        self.assertNotEqual(self.launcher(), first)
        self.assertTrue(alive(pid))
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(await ends.wait(2), [("known", 7 << 8), ("a", None)])
        self.assertEqual([p for p in self.below() if p != self.launcher()], [])

    async def test_containers_of_a_killed_launcher_can_be_signalled_and_destroyed(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "setsid sleep 1000 & sleep 1000"))
        await agent.launch(self.spec("b", "exec sleep 1000"))
        os.kill(self.launcher(), signal.SIGKILL)
        await agent.usage()
        agent.signal(ContainerId("b"), signal.SIGTERM)
        self.assertEqual(await ends.wait(1), [("b", None)])
        await agent.destroy(A)
        self.assertEqual(ends.told, [("b", None), ("a", None)])
        self.assertEqual([p for p in self.below() if p != self.launcher()], [])

    async def test_containers_of_another_launcher_with_the_same_names_are_left_alone(self):
        # So they may have where users name them: those that stand alone, of two agents.
        def others(word: str) -> list[int]:
            return [p for p in self.below() if word.encode() in arguments_of(p)]

        daemon = "setsid sleep {0} & exec sleep {0}"
        first, ends = await self.started()
        await first.launch(self.spec("a", daemon.format(1001)))
        one = self.launcher()
        self.runtime = os.path.join(self.directory, "another")
        second, other_ends = await self.started()
        pid = await second.launch(self.spec("a", daemon.format(1002)))
        await until(lambda: len(others("1001")) == len(others("1002")) == 2)
        for launcher_pid in (one, self.launcher()):
            os.kill(launcher_pid, signal.SIGKILL)
        await first.usage()
        await second.usage()
        await first.destroy(A)
        self.assertEqual(ends.told, [("a", None)])
        self.assertEqual((len(others("1001")), len(others("1002"))), (0, 2))
        self.assertTrue(alive(pid))
        await second.destroy(A)
        self.assertEqual(other_ends.told, [("a", None)])
        self.assertEqual(others("1002"), [])
        for agent in (first, second):
            agent.forget(A)
            await agent.usage()

    async def test_what_ended_while_nobody_watched_is_told_by_the_journal(self):
        agent, ends = await self.started()
        pid = await agent.launch(self.spec("a", "sleep 1000"))
        await agent.launch(self.spec("b", "exit 9"))
        await ends.wait(1)
        await agent.stop()
        os.kill(self.launcher(), signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid))
        later, ends = self.agent(Ends()), Ends()
        await later.start()
        found = await later.recover()
        self.assertEqual(found, RecoveredContainers({}, {A: None, ContainerId("b"): 9 << 8}))

    async def test_ends_during_a_broken_connection_are_told_once(self):
        agent, ends = await self.started()
        pids = [await agent.launch(self.spec(f"c{number}", "sleep 1000")) for number in range(5)]
        for round_ in range(2):
            connection = agent._connection
            assert connection is not None
            assert connection.transport is not None
            connection.transport.abortConnection()  # type: ignore[attr-defined]
            if not round_:
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
        expected = sorted((f"c{number}", int(signal.SIGKILL)) for number in range(5))
        self.assertEqual(sorted(await ends.wait(5)), expected)
        await agent.usage()
        self.assertEqual(len(ends.told), 5)

    async def test_a_launch_under_way_when_the_connection_breaks_happens_once(self):
        agent, ends = await self.started()
        launching = [agent.launch(self.spec(f"c{n}", "echo >> runs")) for n in range(20)]
        connection = agent._connection
        assert connection is not None
        REACTOR.callLater(0, connection.transport.abortConnection)  # type: ignore[union-attr]
        await gatherResults(launching)
        await ends.wait(20)
        self.assertEqual([self.output(f"c{n}", "runs") for n in range(20)], ["\n"] * 20)

    async def test_a_launch_under_way_when_the_launcher_is_killed_runs_at_most_once(self):
        agent, ends = await self.started()
        launching = [agent.launch(self.spec(f"c{n}", "echo >> runs")) for n in range(50)]
        first = self.launcher()
        REACTOR.callLater(0.004, os.kill, first, signal.SIGKILL)
        outcomes = []
        for launch in launching:
            launch.addCallbacks(lambda _: outcomes.append(True), lambda _: outcomes.append(False))
        await until(lambda: len(outcomes) == 50)
        await ends.wait(sum(outcomes))
        for number in range(50):
            runs = Path(self.sandbox(f"c{number}"), "runs")
            self.assertIn(runs.read_text() if runs.exists() else "", ("", "\n"))

    async def test_a_launcher_whose_socket_was_swept_away_is_found_again(self):
        first, _ = await self.started()
        await first.launch(self.spec("a", "sleep 1000"))
        await first.stop()
        os.unlink(os.path.join(self.runtime, "socket"))
        before = self.launcher()
        second = self.agent(Ends())
        await second.start()
        self.assertEqual(list((await second.recover()).running), ["a"])
        self.assertEqual(self.launcher(), before)

    async def test_two_agents_do_not_start_two_launchers(self):
        agents = [self.agent(Ends()) for _ in range(3)]
        await gatherResults([agent.start() for agent in agents])
        launchers = [pid for pid in self.below() if alive(pid)]
        self.assertEqual(launchers, [self.launcher()])

    async def test_a_long_path_is_no_obstacle(self):
        self.runtime = os.path.join(self.directory, "r" * 120, "launcher")
        os.makedirs(os.path.dirname(self.runtime))
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "exit 0"))
        self.assertEqual(await ends.wait(1), [("a", 0)])

    async def test_an_idle_launcher_ends_by_itself(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "exit 0"))
        await ends.wait(1)
        pid = self.launcher()
        agent.forget(A)
        await agent.usage()
        await agent.stop()
        await until(lambda: not alive(pid))
        self.assertFalse(os.path.exists(os.path.join(self.runtime, "launcher.json")))

    async def test_a_launcher_that_nobody_can_find_ends_with_its_last_container(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "exit 0"))
        pid = await agent.launch(self.spec("b", "sleep 1000"))
        await ends.wait(1)
        first = self.launcher()
        await agent.stop()
        shutil.rmtree(self.runtime)
        other, _ = await self.started()
        await until(lambda: self.launcher() != first)
        self.assertTrue(alive(first))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(first))
        await other.usage()  # the other one was left alone
        self.assertTrue(alive(self.launcher()))

    async def assert_does_not_start(self, agent: LaunchedContainers, why: str) -> None:
        try:
            await agent.start()
        except ContainerError as error:
            self.assertIn(why, str(error))
        else:
            self.fail("it has started")

    async def test_a_directory_open_to_others_is_refused(self):
        os.mkdir(self.runtime)
        os.chmod(self.runtime, 0o755)
        await self.assert_does_not_start(self.agent(Ends()), "mode 0700")

    async def test_a_launcher_of_another_version_is_refused(self):
        await self.started()
        speaks = f"speaks version {launcher.VERSION}, this agent up to 99"
        self.patch(launcher, "VERSION", 99)
        self.patch(launched, "_VERSIONS", (99,))
        await self.assert_does_not_start(self.agent(Ends()), speaks)

    async def test_a_launcher_of_before_an_upgrade_keeps_its_containers(self):
        first, _ = await self.started()
        connected = LaunchedContainers._compare

        def old(self: LaunchedContainers, rows: list[Any]) -> None:
            self._version = 1
            connected(self, [row[:4] for row in rows])

        self.patch(LaunchedContainers, "_compare", old)
        pid = await first.launch(self.spec("a", "sleep 1000"))
        await first.stop()
        second = self.agent(Ends())
        await second.start()
        self.assertEqual(await second.recover(), RecoveredContainers({A: pid}))
        await second.launch(self.spec("b", "sleep 1000", patience=0.0))
        await second.stop()
        third = self.agent(Ends())
        await third.start()
        self.assertEqual(set((await third.recover()).running), {"a", "b"})

    async def test_why_there_is_no_launcher_is_told(self):
        self.patch(launched, "CONNECT_TIMEOUT", 0.01)
        self.runtime = os.path.join(self.directory, "file", "launcher")
        Path(self.directory, "file").touch()
        await self.assert_does_not_start(self.agent(Ends()), "Not a directory")

    async def test_stopping_ends_the_search_for_a_launcher(self):
        agent = self.agent(Ends())
        starting = agent.start()
        launching = agent.launch(self.spec("a", "exit 0"))
        await agent.stop()
        for waiting in (starting, launching):
            try:
                await waiting
            except ContainerError as error:
                self.assertIn("stopping", str(error))
            else:
                self.fail("it was not told")

    async def test_stopping_gives_up_a_connection_under_way(self) -> None:
        await self.started()
        agent = self.agent(Ends())
        starting = agent.start()
        await agent.stop()
        error: Any = await self.assertFailure(starting, ContainerError)
        self.assertIn("stopping", str(error))

    async def test_what_is_not_answered_is_given_up_and_does_not_run_later(self):
        agent, ends = await self.started()
        pid = self.launcher()
        self.patch(launched, "TIMEOUT", 0.5)
        os.kill(pid, signal.SIGSTOP)
        try:
            refused = Deferred.fromCoroutine(
                NestingContract().refused(agent, self.spec("b", "sleep 1000"))
            )
            self.patch(launched, "TIMEOUT", 60.0)  # for all that is asked from now on
            why = await refused
        finally:
            os.kill(pid, signal.SIGCONT)
        self.assertIn("has not answered", why)
        await agent.destroy(ContainerId("b"))
        await agent.usage()
        self.assertEqual(self.below(), [pid])
        self.assertEqual(ends.told, [])
        journal = Path(self.runtime, "journal")
        await until(lambda: "forget b" in journal.read_text())


class AbandonedTests(RealTestCase):
    """Containers whose agent goes away, and comes back or not; here a second is a tenth."""

    async def test_what_may_not_outlive_its_agent_is_asked_to_end(self):
        agent, _ = await self.started()
        gentle = "trap 'echo asked; exit 7' TERM; touch ready; sleep 1000 & wait"
        pids = {
            name: await agent.launch(self.spec(name, command, patience=patience))
            for name, command, patience in (
                ("gentle", gentle, 0.0),
                ("patient", gentle, 1000.0),
                ("eternal", gentle, None),
            )
        }
        await until(lambda: all(Path(self.sandbox(name), "ready").exists() for name in pids))
        await agent.stop()
        await self.written_down("gentle")
        self.assertFalse(alive(pids["gentle"]))
        self.assertEqual(self.output("gentle"), "asked\n")
        back = self.agent(Ends())
        await back.start()
        found = await back.recover()
        gentle_id = ContainerId("gentle")
        self.assertEqual(found.abandoned, {gentle_id})
        self.assertEqual(found.exited, {gentle_id: 7 << 8})
        self.assertEqual(set(found.running), {"patient", "eternal"})

    async def test_what_does_not_listen_is_killed(self):
        agent, _ = await self.started()
        command = "trap '' TERM; touch ready; while :; do sleep 0.01; done"
        pid = await agent.launch(self.spec("a", command, patience=0.0))
        await until(Path(self.sandbox("a"), "ready").exists)
        await agent.stop()
        await self.written_down("a")
        self.assertFalse(alive(pid))
        back = self.agent(Ends())
        await back.start()
        self.assertEqual((await back.recover()).exited, {A: signal.SIGKILL})

    async def test_nothing_is_abandoned_while_an_agent_is_there_or_comes_back_in_time(self):
        agent, _ = await self.started()
        pid = await agent.launch(self.spec("a", "sleep 1000", patience=0.0))
        other = await agent.launch(self.spec("b", "sleep 1000", patience=30.0))
        second = self.agent(Ends())
        await second.start()
        await agent.stop()
        await second.usage()
        self.assertTrue(alive(pid))
        await second.stop()
        await self.written_down("a")
        self.assertFalse(alive(pid))
        third = self.agent(Ends())
        await third.start()
        found = await third.recover()
        self.assertEqual(found.running, {ContainerId("b"): other})
        self.assertEqual(found.abandoned, {A})

    async def test_a_second_launcher_knows_how_patient_containers_are(self):
        agent, _ = await self.started()
        pid = await agent.launch(self.spec("a", "sleep 1000", patience=0.0))
        os.kill(self.launcher(), signal.SIGKILL)
        await agent.usage()
        self.assertTrue(alive(pid))
        await agent.stop()
        await self.written_down("a")
        self.assertFalse(alive(pid))
        back = self.agent(Ends())
        await back.start()
        found = await back.recover()
        self.assertEqual((found.abandoned, found.exited), ({A}, {A: None}))
