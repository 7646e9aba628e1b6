"""What runs beside a container of Docker, and who is attached to one."""

from __future__ import annotations

import os
from dataclasses import replace
from signal import SIGKILL
from typing import Any

from twisted.internet import task
from twisted.internet.task import deferLater

from mesoskit.agent.consoles import DISABLED, ConsoleError
from mesoskit.agent.container import (
    Console,
)
from mesoskit.agent.containers import ContainerError, docker_exec
from mesoskit.agent.launcher_console import STDERR, STDOUT
from mesoskit.model.ids import ContainerId
from tests.agent.real import REACTOR, until
from tests.agent.test_docker import TERMINAL, A, B, DockerTestCase, docker_info, until_async


class BesideTests(DockerTestCase):
    """Commands in the container of a task: what checks run."""

    async def test_they_run_inside_and_end_with_their_status(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "echo x >/inside; sleep 1000", info=docker_info()))
        await until_async(
            lambda: agent.launch(self.beside("ready", "until test -e /inside; do :; done")),
            lambda pid: pid is not None,
        )
        await ends.wait(1)
        command = "test -e /inside && test $A$B = 12 && exit 5"
        await agent.launch(self.beside("b", command))
        told = dict(await ends.wait(2))
        self.assertEqual(told, {"ready": 0, "b": 5 << 8})
        agent.forget(ContainerId("b"))

    async def test_they_are_killed_whole_and_alone(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info()))
        await agent.launch(self.beside("b", "sleep 1001 & sleep 1002"))
        await agent.destroy(ContainerId("b"))
        self.assertEqual(ends.told, [("b", SIGKILL)])
        await agent.launch(self.beside("c", "ps | grep -c 'sleep 100[12]' | grep -q '^[01]$'"))
        self.assertEqual((await ends.wait(2))[1], ("c", 0))
        self.assertEqual(list(await agent.usage()), ["a"])

    async def test_those_of_an_agent_that_is_gone_are_ended_and_others_are_not(self):
        first, _ = await self.started()
        await first.launch(self.spec("a", "sleep 1000", info=docker_info()))
        await first.launch(self.beside("b", "sleep 1001"))
        made = await first.engine.ask(
            "POST", "/containers/mesos-a/exec", body={"Cmd": ["sleep", "1003"]}
        )
        await first.engine.ask("POST", f"/exec/{made['Id']}/start", body={"Detach": True})
        # As after kill -9: nothing is ended in good order.
        self.patch(first._commands, "_kill", lambda command, signum: None)
        await first.stop()
        second, ends = await self.started()
        await second.launch(
            self.beside("c", "while ps | grep -q 'sleep 100[1]'; do sleep 0.1; done")
        )
        self.assertEqual(await ends.wait(1), [("c", 0)])
        await second.launch(self.beside("d", "ps | grep -q 'sleep 100[3]'"))
        self.assertEqual((await ends.wait(2))[1], ("d", 0))

    async def test_what_is_nested_in_one_runs_in_the_same_container(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "echo x >/inside; sleep 1000", info=docker_info()))
        await agent.launch(self.beside("b", "sleep 1000"))
        script = "while ! test -e /inside; do :; done; exit 3"
        inner = replace(self.beside("c", script), parent=ContainerId("b"))
        await agent.launch(inner)
        self.assertEqual(await ends.wait(1), [("c", 3 << 8)])
        await agent.destroy(ContainerId("b"))
        with self.assertRaises(ContainerError):
            await agent.launch(replace(self.beside("d", "true"), parent=ContainerId("b")))

    async def test_without_the_container_there_is_none(self):
        agent, _ = await self.started()
        with self.assertRaises(ContainerError) as raised:
            await agent.launch(self.beside("b", "true"))
        self.assertIn("does not run", str(raised.exception))

    async def test_what_a_check_writes_is_its_tasks_and_comes_once(self):
        first, ends = await self.started()
        script = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo $i; sleep 0.01; done"
        await first.launch(self.spec("a", script, info=docker_info()))
        for number in range(3):
            await first.launch(self.beside(f"b{number}", "echo checked; echo badly >&2"))
        await ends.wait(3)
        await first.stop()
        second = self.agent(ends)
        await second.start()
        await second.recover()
        self.assertEqual((await ends.wait(4))[3], ("a", 0))
        lines = self.output("a").splitlines()
        self.assertEqual(
            [line for line in lines if line != "checked"], list(map(str, range(1, 201)))
        )
        self.assertEqual(lines.count("checked"), 3)
        self.assertEqual(self.output("a", "stderr"), "badly\n" * 3)


class Listener:
    """Hears what comes out."""

    def __init__(self) -> None:
        self.out = {STDOUT: b"", STDERR: b""}
        self.ended = False

    def heard(self, kind: int, data: bytes) -> None:
        self.out[kind] += data

    def over(self) -> None:
        self.ended = True

    async def hears(self, what: bytes) -> None:
        """Wait until something has come out."""
        await until(lambda: what in self.out[STDOUT])


class AttachedTests(DockerTestCase):
    """Who is attached to a container of Docker, or to a command beside it."""

    SESSION = Console(session=True)

    async def attached(self, command: str, console: Console = SESSION) -> Any:
        """Return consoles, ends and the id of a session beside a task that runs."""
        agent, ends = await self.started()
        consoles = agent.consoles(None)
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info()))
        sandbox = self.sandbox("session")
        spec = replace(self.beside("session", command, console=console), sandbox=sandbox)
        await agent.launch(spec)
        return agent, consoles, ends

    async def test_a_session_says_what_it_hears_until_there_is_no_more(self):
        _, consoles, ends = await self.attached("echo no >&2; cat; exit 6")
        listener = Listener()
        await consoles.listen(B, listener)
        mouth = await consoles.speak(B, lambda full: None, lambda: None)
        mouth.put(b"one ")
        mouth.put(b"two")
        mouth.put(b"")
        self.assertEqual(await ends.wait(1), [("session", 6 << 8)])
        await until(lambda: listener.ended)
        self.assertEqual(listener.out, {STDOUT: b"one two", STDERR: b"no\n"})
        self.assertEqual(self.output("session"), "one two")
        with self.assertRaises(ConsoleError) as raised:
            await consoles.listen(B, Listener())
        self.assertIn("shutdown", str(raised.exception))

    async def test_what_a_session_says_waits_for_its_listener_and_with_him(self):
        _, consoles, ends = await self.attached("seq 1 3000000; echo end >&2")
        await deferLater(REACTOR, 0.3)
        listener = Listener()
        ear = await consoles.listen(B, listener)
        await until(lambda: len(listener.out[STDOUT]) > 0)
        ear.pause(True)
        await deferLater(REACTOR, 0.3)
        self.assertLess(len(listener.out[STDOUT]), 20_000_000)  # of nearly 23
        self.assertEqual(ends.told, [])
        ear.pause(False)
        await until(lambda: listener.ended)
        expected = "".join(f"{number}\n" for number in range(1, 3000001)).encode()
        self.assertEqual(listener.out, {STDOUT: expected, STDERR: b"end\n"})
        self.assertEqual(await ends.wait(1), [("session", 0)])

    async def test_what_a_session_has_said_before_its_end_is_heard_after_it(self):
        _, consoles, ends = await self.attached("echo said; exit 2")
        await deferLater(REACTOR, 0.5)
        listener = Listener()
        await consoles.listen(B, listener)
        await until(lambda: listener.ended)
        self.assertEqual(listener.out, {STDOUT: b"said\n", STDERR: b""})
        self.assertEqual(await ends.wait(1), [("session", 2 << 8)])

    async def test_a_session_that_cannot_begin_is_refused_whoever_destroys_it(self):
        agent, _ = await self.started()
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info()))
        spec = self.beside("session", "true", console=self.SESSION)
        launching = agent.launch(replace(spec, sandbox=os.path.join(self.directory, "nowhere")))
        destroyed = agent.destroy(B)
        with self.assertRaises(ContainerError):
            await launching
        await destroyed

    async def test_a_session_that_is_destroyed_ends_whoever_is_attached(self):
        agent, consoles, ends = await self.attached("yes")
        listener = Listener()
        ear = await consoles.listen(B, listener)
        await until(lambda: len(listener.out[STDOUT]) > 0)
        ear.pause(True)
        await agent.destroy(B)
        self.assertEqual(ends.told, [("session", SIGKILL)])
        ear.pause(False)
        await until(lambda: listener.ended)

    async def test_a_session_without_a_listener_is_destroyed_like_any_other(self):
        agent, _, ends = await self.attached("yes")
        await agent.destroy(B)
        self.assertEqual(ends.told, [("session", SIGKILL)])

    async def test_a_session_nobody_listens_to_is_given_up(self):
        self.patch(docker_exec, "UNWANTED", 0.1)
        _, _, ends = await self.attached("sleep 1000")
        self.assertEqual(await ends.wait(1), [("session", SIGKILL)])

    async def test_a_terminal_has_the_size_that_it_was_given_last(self):
        terminal = Console(True, True, 33, 77)
        _, consoles, ends = await self.attached("while read x; do stty size; done", terminal)
        listener = Listener()
        await consoles.listen(B, listener)
        mouth = await consoles.speak(B, lambda full: None, lambda: None)
        ask = task.LoopingCall(mouth.put, b"\n")
        ask.start(0.1)
        await listener.hears(b"33 77")
        for rows in range(10, 50):
            mouth.resize(rows, 90)
        await listener.hears(b"49 90")
        ask.stop()
        mouth.put(b"\x04")
        self.assertEqual(await ends.wait(1), [("session", 0)])

    async def test_the_keys_by_which_docker_detaches_are_the_programs(self):
        _, consoles, ends = await self.attached("stty raw -echo; echo go; head -c 2", TERMINAL)
        listener = Listener()
        await consoles.listen(B, listener)
        mouth = await consoles.speak(B, lambda full: None, lambda: None)
        await listener.hears(b"go")
        mouth.put(b"\x10\x11")
        await until(lambda: listener.ended)
        self.assertTrue(listener.out[STDOUT].endswith(b"\x10\x11"), listener.out)
        self.assertEqual(await ends.wait(1), [("session", 0)])

    async def test_one_speaks_and_another_may_when_he_has_left(self):
        agent, consoles, _ = await self.attached("cat")
        listener = Listener()
        await consoles.listen(B, listener)
        mouth = await consoles.speak(B, lambda full: None, lambda: None)
        with self.assertRaises(ConsoleError) as raised:
            await consoles.speak(B, lambda full: None, lambda: None)
        self.assertEqual(raised.exception.status, 409)
        mouth.stop()
        over: list[None] = []
        mouth = await consoles.speak(B, lambda full: None, lambda: over.append(None))
        mouth.put(b"x")
        await until(lambda: listener.out[STDOUT] == b"x")
        await agent.destroy(B)
        await until(lambda: over == [None])

    async def test_a_task_with_a_terminal_is_attached_to_and_left(self):
        agent, ends = await self.started()
        consoles = agent.consoles(None)
        info = docker_info()
        info.tty_info.window_size.rows, info.tty_info.window_size.columns = 21, 43
        script = "sleep 0.5; stty size; while read x; do stty size; echo got $x; done"
        console = Console(True, False, 21, 43)
        await agent.launch(self.spec("a", script, info=info, console=console))
        first, second = Listener(), Listener()
        ear = await consoles.listen(A, first)
        await consoles.listen(A, second)
        mouth = await consoles.speak(A, lambda full: None, lambda: None)
        with self.assertRaises(ConsoleError) as raised:
            await consoles.speak(A, lambda full: None, lambda: None)
        self.assertEqual(raised.exception.status, 409)
        mouth.put(b"1\n")
        for listener in (first, second):
            await listener.hears(b"got 1\r\n")
        ear.stop()
        mouth.stop()
        mouth = await consoles.speak(A, lambda full: None, lambda: None)
        mouth.resize(44, 55)
        await until(lambda: b"44 55" in self.output("a").encode() or mouth.put(b"\n"))
        mouth.put(b"2\n\x04")
        self.assertEqual(await ends.wait(1), [("a", 0)])
        await until(lambda: second.ended)
        self.assertIn(b"got 2\r\n", second.out[STDOUT])
        self.assertNotIn(b"got 2\r\n", first.out[STDOUT])
        self.assertIn("21 43\r\n", self.output("a"))

    async def test_who_is_far_behind_a_task_is_cut_off_and_it_goes_on(self):
        agent, ends = await self.started()
        consoles = agent.consoles(None)
        info = docker_info()
        info.tty_info.SetInParent()
        script = "read x; dd if=/dev/zero bs=10000 count=500 2>/dev/null; read y"
        await agent.launch(self.spec("a", script, info=info))
        listener = Listener()
        ear = await consoles.listen(A, listener)
        mouth = await consoles.speak(A, lambda full: None, lambda: None)
        await deferLater(REACTOR, 0.1)
        ear.pause(True)
        mouth.put(b"\n")
        await until(lambda: listener.ended)
        mouth.put(b"\n")
        self.assertEqual(await ends.wait(1), [("a", 0)])

    async def test_what_has_no_console_cannot_be_attached_to(self):
        agent, _ = await self.started()
        consoles = agent.consoles(None)
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info()))
        await agent.launch(self.beside("session", "sleep 1000"))
        for name in (A, B):
            with self.assertRaises(ConsoleError) as raised:
                await consoles.listen(name, Listener())
            self.assertEqual(str(raised.exception), DISABLED)
            with self.assertRaises(ConsoleError):
                await consoles.speak(name, lambda full: None, lambda: None)

    async def test_a_command_runs_as_whom_the_image_knows(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep 1000", info=docker_info()))
        spec = self.beside("b", "test $(id -u) = 65534", image_user="65534")
        await agent.launch(spec)
        self.assertEqual(await ends.wait(1), [("b", 0)])
        await agent.launch(self.beside("c", "true", image_user="nobody-there"))
        self.assertEqual((await ends.wait(2))[1], ("c", 126 << 8))
        self.assertIn("unable to find user nobody-there", self.output("a"))
