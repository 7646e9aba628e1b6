"""Consoles of real containers: terminals and pipes, listeners and speakers, restarts."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.internet.task import deferLater

from mesoskit.agent.consoles import DISABLED, ConsoleError, Consoles
from mesoskit.agent.container import Console, ContainerSpec
from mesoskit.agent.launcher_console import LOOK, STDERR, STDOUT, name_of
from mesoskit.agent.launcher_proc import processes
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import Ends
from tests.agent.real import REACTOR, RealTestCase, until

SESSION = Console(session=True)


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.ended = False

    def heard(self, kind: int, data: bytes) -> None:
        if kind == STDOUT:
            self.stdout += data
        else:
            assert kind == STDERR
            self.stderr += data

    def over(self) -> None:
        self.ended = True


class ConsoleTests(RealTestCase):
    """Somebody attaches to a container."""

    def setUp(self) -> None:
        super().setUp()
        self.ends = Ends()
        self.containers = self.agent(self.ends)
        self.consoles = Consoles(REACTOR, self.runtime)
        self.full: list[bool] = []

    async def launch(self, command: str, console: Console | None, **more: Any) -> ContainerId:
        name = ContainerId("c")
        spec = ContainerSpec(
            id=name,
            argv=("sh", "-c", command),
            file="/bin/sh",
            environment=(("PATH", os.defpath), ("TERM", "xterm")),
            sandbox=self.sandbox("c"),
            console=console,
            **more,
        )
        await self.containers.launch(spec)
        return name

    async def listen(self, name: ContainerId) -> Heard:
        heard = Heard()
        self.connection = await self.consoles.listen(name, heard)
        self.addCleanup(self.connection.stop)
        return heard

    async def speak(self, name: ContainerId) -> Any:
        speaker = await self.consoles.speak(name, self.full.append, lambda: None)
        self.addCleanup(speaker.stop)
        return speaker

    async def status(self) -> int | None:
        await until(lambda: self.ends.told)
        return self.ends.told[0][1]

    async def test_what_is_put_in_comes_out_until_its_end(self) -> None:
        name = await self.launch("echo begun >&2; cat; exit 3", SESSION)
        heard = await self.listen(name)
        speaker = await self.speak(name)
        speaker.put(b"hello ")
        speaker.put(b"world")
        speaker.put(b"")
        await until(lambda: heard.ended)
        self.assertEqual((heard.stdout, heard.stderr), (b"hello world", b"begun\n"))
        self.assertEqual(await self.status(), 3 << 8)
        self.assertEqual(self.output("c"), "hello world")
        self.assertEqual(self.output("c", "stderr"), "begun\n")
        await until(lambda: not os.path.lexists(os.path.join(self.runtime, name_of(name))))

    async def test_output_of_a_session_waits_for_its_listener(self) -> None:
        name = await self.launch("echo early", SESSION)
        await self.status()
        heard = await self.listen(name)
        await until(lambda: heard.ended)
        self.assertEqual(heard.stdout, b"early\n")

    @skipIf(os.geteuid() != 0, "only root has CAP_SYS_NICE to give up")
    @skipIf(shutil.which("setpriv") is None, "setpriv is not there")
    async def test_so_it_does_where_the_agent_is_not_root(self) -> None:
        # Without CAP_SYS_NICE: there containers are marked in another way.
        python = Path(self.directory, "python")
        few = "setpriv --bounding-set=-sys_nice"
        python.write_text(f'#!/bin/sh\nexec {few} {sys.executable} "$@"\n')
        python.chmod(0o755)
        self.patch(sys, "executable", str(python))
        await self.test_output_of_a_session_waits_for_its_listener()

    async def test_megabytes_go_through_unharmed(self) -> None:
        name = await self.launch("sha256sum", SESSION)
        heard = await self.listen(name)
        speaker = await self.speak(name)
        speaker.put(b"x" * 5_000_000)
        speaker.put(b"")
        await until(lambda: heard.ended)

        self.assertEqual(heard.stdout[:64].decode(), hashlib.sha256(b"x" * 5_000_000).hexdigest())

    async def test_a_session_waits_for_a_listener_who_does_not_listen(self) -> None:
        name = await self.launch("head -c 30000000 /dev/zero; echo done >&2", SESSION)
        heard = await self.listen(name)
        self.connection.pause(True)
        await until(lambda: os.path.getsize(self.sandbox("c") + "/stdout") > 1 << 20)
        self.assertEqual(heard.stderr, b"")
        self.connection.pause(False)
        await until(lambda: heard.ended)
        self.assertEqual((len(heard.stdout), heard.stderr), (30_000_000, b"done\n"))

    async def test_a_terminal_has_a_size_that_changes(self) -> None:
        console = Console(terminal=True, session=True, rows=30, columns=100)
        command = "test -t 0 && test -t 2 && tty >/dev/tty; stty size; read line; stty size"
        name = await self.launch(command, console)
        heard = await self.listen(name)
        await until(lambda: b"30 100\r\n" in heard.stdout)
        speaker = await self.speak(name)
        speaker.resize(50, 132)
        speaker.put(b"go on\n")
        await until(lambda: heard.ended)
        self.assertIn(b"/dev/pts/", heard.stdout)
        self.assertIn(b"50 132\r\n", heard.stdout)
        self.assertEqual(await self.status(), 0)

    async def test_a_terminal_interrupts_what_runs_there(self) -> None:
        name = await self.launch("exec sleep 1000", Console(terminal=True, session=True))
        await self.listen(name)
        speaker = await self.speak(name)
        speaker.put(b"\x03")
        self.assertEqual(await self.status(), signal.SIGINT)

    async def test_only_one_speaks_at_a_time(self) -> None:
        name = await self.launch("cat", SESSION)
        await self.listen(name)
        first = await self.speak(name)
        second: Any = self.consoles.speak(name, self.full.append, lambda: None)
        error: Any = await self.assertFailure(second, ConsoleError)
        self.assertEqual(
            (str(error), error.status), ("Multiple input connections are not allowed", 409)
        )
        first.stop()

        async def again() -> bool:
            try:
                await self.speak(name)
            except ConsoleError:
                return False
            return True

        while not await again():
            pass
        await self.containers.destroy(name)

    async def test_without_a_console_nobody_attaches(self) -> None:
        name = await self.launch("sleep 1000", None)
        error = await self.assertFailure(self.consoles.listen(name, Heard()), ConsoleError)
        self.assertEqual(str(error), DISABLED)
        await self.containers.destroy(name)

    async def test_a_task_goes_on_without_listeners_and_without_its_agent(self) -> None:
        name = await self.launch("while sleep 0.02; do echo .; done", Console(terminal=True))
        await until(lambda: self.output("c").count(".") > 2)
        await self.containers.stop()
        before = self.output("c").count(".")
        await until(lambda: self.output("c").count(".") > before + 2)
        again = self.agent(Ends())
        await again.recover()
        heard = await self.listen(name)
        await until(lambda: b"." in heard.stdout)
        await again.destroy(name)
        await until(lambda: heard.ended)

    async def test_a_log_that_was_renamed_or_emptied_is_written_anew(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.sandbox("c"), 65534, 65534)
        name = await self.launch(
            "while read line; do echo out $line; echo no $line >&2; done",
            SESSION,
            user="nobody" if os.geteuid() == 0 else None,
        )
        heard = await self.listen(name)
        speaker = await self.speak(name)
        stdout, stderr = (os.path.join(self.sandbox("c"), one) for one in ("stdout", "stderr"))

        async def say(word: str) -> None:
            await deferLater(REACTOR, LOOK)
            speaker.put(word.encode() + b"\n")
            await until(lambda: f"no {word}\n".encode() in heard.stderr)

        await say("first")
        os.rename(stdout, stdout + ".1")
        os.rename(stderr, stderr + ".1")
        await say("second")
        await until(lambda: os.path.exists(stderr))
        self.assertEqual(self.output("c", "stdout.1"), "out first\n")
        self.assertEqual(self.output("c"), "out second\n")
        self.assertEqual(self.output("c", "stderr"), "no second\n")
        self.assertEqual(os.stat(stdout).st_uid, os.stat(stdout + ".1").st_uid)
        os.truncate(stdout, 0)
        await say("third")
        self.assertEqual(self.output("c"), "out third\n")
        os.unlink(stderr)
        os.symlink("/etc/hosts", stderr)
        await say("fourth")
        self.assertEqual(self.output("c"), "out third\nout fourth\n")
        speaker.put(b"")
        await until(lambda: heard.ended)
        self.assertEqual(heard.stdout, b"out first\nout second\nout third\nout fourth\n")

    async def test_sockets_of_consoles_that_were_killed_go(self) -> None:
        name = await self.launch("exec sleep 1000", Console())
        path = os.path.join(self.runtime, name_of(name))
        (relay,) = (
            found.pid
            for found in processes().values()
            if found.parent == self.launcher()
            and found.session == found.pid
            and os.readlink(f"/proc/{found.pid}/exe") == os.readlink(f"/proc/{os.getpid()}/exe")
        )
        os.kill(relay, signal.SIGKILL)
        await until(lambda: not os.path.exists(f"/proc/{relay}"))
        await self.containers.destroy(name)
        self.assertTrue(os.path.lexists(path))
        self.containers.forget(name)
        await until(lambda: not os.path.lexists(path))

    async def test_a_new_launcher_removes_them_too_and_leaves_others_alone(self) -> None:
        name = await self.launch("while sleep 0.02; do echo .; done", Console())
        stale = os.path.join(self.runtime, name_of(ContainerId("another")))
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(stale)
        os.kill(self.launcher(), signal.SIGKILL)
        await until(lambda: not os.path.lexists(stale))
        heard = await self.listen(name)
        await until(lambda: heard.stdout)
        await self.containers.destroy(name)
        await until(lambda: heard.ended)

    async def test_who_hears_slowly_hears_all_of_it(self) -> None:
        name = await self.launch("head -c 3000000 /dev/zero; echo done >&2", SESSION)
        heard = await self.listen(name)
        while not heard.ended:
            self.connection.pause(True)
            await deferLater(REACTOR, 0.02)
            self.connection.pause(False)
            await deferLater(REACTOR, 0)
        self.assertEqual((len(heard.stdout), heard.stderr), (3_000_000, b"done\n"))

    async def test_a_task_is_not_held_back_by_who_does_not_listen_and_he_is_cut_off(self) -> None:
        wait = "until test -e go; do sleep 0.02; done"
        name = await self.launch(f"{wait}; head -c 30000000 /dev/zero; exec sleep 1000", Console())
        heard = await self.listen(name)
        self.connection.pause(True)
        Path(self.sandbox("c"), "go").touch()
        await until(lambda: os.path.getsize(self.sandbox("c") + "/stdout") == 30_000_000)
        self.connection.pause(False)
        await until(lambda: heard.ended)
        self.assertLess(len(heard.stdout), 30_000_000)
        await self.containers.destroy(name)

    async def test_several_listen(self) -> None:
        name = await self.launch("cat", Console(terminal=True))
        listeners = [await self.listen(name) for _ in range(3)]
        speaker = await self.speak(name)
        speaker.put(b"hello\n\x04")
        for heard in listeners:
            await until(lambda heard=heard: heard.ended)  # type: ignore[misc]
            self.assertEqual(heard.stdout, b"hello\r\nhello\r\n")
        self.assertEqual(await self.status(), 0)

    async def test_a_container_that_cannot_be_started_leaves_no_console(self) -> None:
        spec = ContainerSpec(
            id=ContainerId("c"),
            argv=("./nothing",),
            sandbox=self.sandbox("c"),
            console=SESSION,
        )
        with self.assertRaises(Exception) as caught:
            await self.containers.launch(spec)
        self.assertIn("cannot execute './nothing'", str(caught.exception))
        error = await self.assertFailure(self.consoles.listen(spec.id, Heard()), ConsoleError)
        self.assertEqual(str(error), DISABLED)

    async def test_a_terminal_belongs_to_the_user_of_its_container(self) -> None:
        os.chown(self.sandbox("c"), 65534, 65534)
        name = await self.launch(
            "stat -c '%u %a' $(tty); echo out >$(tty)",
            Console(terminal=True, session=True),
            user="nobody",
        )
        heard = await self.listen(name)
        await until(lambda: heard.ended)
        self.assertEqual(heard.stdout, b"65534 600\r\nout\r\n")

    if os.geteuid() != 0:
        test_a_terminal_belongs_to_the_user_of_its_container.skip = "needs root"  # type: ignore[attr-defined]
