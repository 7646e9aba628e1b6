"""C{mesoskit task} against real agents: lists, commands beside tasks, terminals."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import tty
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.internet.threads import deferToThread

from mesoskit.driver import executor_info
from mesoskit.messages.mesos_pb2 import ContainerInfo
from tests.cluster import asking, processes
from tests.cluster.harness import CHECKOUT, Cluster, ClusterTestCase, SharedCluster
from tests.cluster.waiting import until

Done = subprocess.CompletedProcess[bytes]


def command(cluster: Cluster, *arguments: str) -> list[str]:
    """Return a command line of C{mesoskit task}."""
    verb, *rest = arguments
    return [sys.executable, "-m", "mesoskit.cli", "task", verb, f"--master={cluster.where}", *rest]


def variables() -> dict[str, str]:
    """Return an environment for it."""
    kept = {name: text for name, text in os.environ.items() if name[:6] != "MESOS_"}
    return {**kept, "PYTHONPATH": str(CHECKOUT)}


async def run(cluster: Cluster, *arguments: str, given: bytes = b"") -> Done:
    """Run it to its end."""
    found: Done = await deferToThread(
        subprocess.run,
        command(cluster, *arguments),
        input=given,
        capture_output=True,
        timeout=120,
        env=variables(),
        cwd="/",
    )
    return found


class Terminal:
    """
    It at a terminal.

    @ivar seen: what is on the screen.
    """

    def __init__(self, cluster: Cluster, *arguments: str, rows: int = 40, columns: int = 120):
        self.master, slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command(cluster, *arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=variables(),
            cwd="/",
        )
        self.slave = slave
        self.seen = b""
        os.set_blocking(self.master, False)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self.master, text.encode())

    async def shows(self, text: str) -> None:
        """Wait until something is to be seen."""

        def there() -> bool:
            try:
                self.seen += os.read(self.master, 1 << 16)
            except OSError:
                pass
            return text.encode() in self.seen

        await until(f"{text!r} on the screen", there, seen=self.text)

    def text(self) -> str:
        """Return what is on the screen."""
        return self.seen.decode(errors="replace")

    async def ended(self) -> int:
        """Wait for its end; return the exit status."""
        await self.shows("")
        await until("the end of the command", lambda: self.process.poll() is not None)
        return int(self.process.returncode)

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal is what it was at the beginning."""
        return termios.tcgetattr(self.slave) == self.before

    @property
    def is_raw(self) -> bool:
        """Whether keys are passed on as they are."""
        return not termios.tcgetattr(self.slave)[tty.LFLAG] & termios.ICANON


class TaskCommandTests(SharedCluster):
    """What an operator does at his terminal."""

    async def terminal(self, *arguments: str) -> Terminal:
        terminal = Terminal(await self.shared(), *arguments)
        self.addCleanup(terminal.close)
        return terminal

    async def test_tasks_are_listed(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.run("listed", "sleep 1000")
        await ledger.running("listed")
        done = await run(cluster, "list")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [line.split() for line in done.stdout.decode().splitlines()]
        self.assertEqual(rows[0], ["TASK", "STATE", "FRAMEWORK", "AGENT"])
        self.assertIn(["listed", "TASK_RUNNING", ledger.id, "127.0.0.1"], rows)

    async def test_a_command_runs_beside_a_task_and_tells_how_it_ended(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.run(
            "beside", "echo mine >file; export A=1; sleep 1000", environment={"B": "2"}
        )
        await ledger.running("beside")
        script = "echo $B; echo wrong >&2; read line; echo got $line; exit 7"
        done = await run(cluster, "exec", "-i", "besid", "sh", "-c", script, given=b"hello\n")
        self.assertEqual((done.stdout, done.stderr), (b"2\ngot hello\n", b"wrong\n"))
        self.assertEqual(done.returncode, 7)
        killed = await run(cluster, "exec", "beside", "sh", "-c", "kill -9 $$")
        self.assertEqual(killed.returncode, 128 + 9)
        piped = await run(cluster, "exec", "-i", "beside", "cat", given=b"x" * 300_000)
        self.assertEqual(len(piped.stdout), 300_000)

    async def test_closed_streams_harm_nothing(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.run("streams", "sleep 1000")
        await ledger.running("streams")

        async def shell(script: str, *arguments: str) -> Done:
            words = ["bash", "-c", script, "-", *command(cluster, "exec", *arguments)]
            done: Done = await deferToThread(
                subprocess.run, words, capture_output=True, timeout=120, env=variables(), cwd="/"
            )
            return done

        done = await shell('"$@" <&-', "-i", "streams", "sh", "-c", "cat; exit 6")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (6, b"", b""))
        done = await shell('"$@" | head -n 1; echo ${PIPESTATUS[0]}', "streams", "yes")
        self.assertEqual((done.stdout, done.stderr), (b"y\n141\n", b""))

    async def test_a_signal_leaves_the_terminal_as_it_was(self) -> None:
        ledger = (await self.shared()).framework()
        await ledger.run("signalled", "sleep 1000")
        await ledger.running("signalled")
        for number in (signal.SIGTERM, signal.SIGHUP):
            terminal = await self.terminal("exec", "-it", "signalled", "sh")
            await terminal.shows("$ " if os.geteuid() else "# ")
            self.assertTrue(terminal.is_raw)
            terminal.process.send_signal(number)
            self.assertEqual(await terminal.ended(), 128 + number)
            self.assertTrue(terminal.is_as_before)

    async def test_a_shell_at_a_terminal(self) -> None:
        ledger = (await self.shared()).framework()
        tasks = [ledger.task("web", "sleep 1000"), ledger.task("db", "sleep 1000")]
        await ledger.group(executor_info("pod"), tasks)
        await ledger.running("web")
        terminal = await self.terminal("exec", "-it", "web", "sh")
        terminal.type("echo typed ear''ly\n")
        await terminal.shows("$ " if os.geteuid() else "# ")
        self.assertTrue(terminal.is_raw)
        await terminal.shows("typed early\r\n")
        terminal.type("stty size\n")
        await terminal.shows("40 120\r\n")
        for columns in range(101, 151):
            terminal.resize(50, columns)
            terminal.process.send_signal(signal.SIGWINCH)
        terminal.type(
            "while test \"$(stty size)\" != '50 150'; do sleep 0.02; done; echo re''sized\n"
        )
        await terminal.shows("resized\r\n")
        # As an editor has it: each key as it is.
        terminal.type("stty raw -echo; echo ra''w; head -c 4 | od -An -tx1; stty sane\n")
        await terminal.shows("raw")
        terminal.type("\x03\x04\x1a\x1b")
        await terminal.shows("03 04 1a 1b")
        terminal.type("echo wai''ting; sleep 1000\n")
        await terminal.shows("waiting\r\n")
        terminal.type("\x03")
        await terminal.shows("^C")
        terminal.type("echo inter''rupted; exit 5\n")
        await terminal.shows("interrupted\r\n")
        self.assertEqual(await terminal.ended(), 5)
        self.assertTrue(terminal.is_as_before)

    async def test_a_session_ends_with_its_terminal(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.run("left", "sleep 1000")
        await ledger.running("left")
        terminal = await self.terminal("exec", "-it", "left", "sh", "-c", "echo $$ >&2; sleep 1234")
        await terminal.shows("\r\n")
        pid = int(terminal.seen.split()[0])
        self.assertTrue(Path(f"/proc/{pid}").exists())
        terminal.process.kill()
        await until("the end of the session", lambda: not Path(f"/proc/{pid}").exists())

    async def test_a_task_with_a_terminal_is_attached_to_left_and_attached_to_again(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        info = ledger.task("game", "stty -echo; while read line; do echo you said $line; done")
        info.container.type = ContainerInfo.MESOS
        info.container.tty_info.window_size.rows = 20
        info.container.tty_info.window_size.columns = 70
        await ledger.launch(info)
        await ledger.running("game")
        first = await self.terminal("attach", "game")
        await until("raw keys", lambda: first.is_raw)
        first.type("one\n")
        await first.shows("you said one\r\n")
        second = await run(cluster, "attach", "game")
        self.assertEqual(second.returncode, 1)
        self.assertIn(b"Multiple input connections are not allowed", second.stderr)
        first.type("\x10\x11")
        self.assertEqual(await first.ended(), 0)
        self.assertTrue(first.is_as_before)
        again = await self.terminal("attach", "game")
        await until("raw keys", lambda: again.is_raw)
        again.type("two\n")
        await again.shows("you said two\r\n")
        again.type("\x04")
        self.assertEqual(await again.ended(), 0)
        await ledger.over("game")

    async def test_what_cannot_be_done_is_said_in_one_line(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.run("plain", "sleep 1000")
        await ledger.running("plain")
        for arguments, why in (
            (("exec", "nobody", "true"), "no task runs whose id is or begins with 'nobody'"),
            (("attach", "plain"), "task plain has no terminal"),
            (("exec", "plain", "/no/such"), "cannot execute '/no/such'"),
            (("exec", "--user=no-such-user", "plain", "true"), "no-such-user"),
        ):
            done = await run(cluster, *arguments)
            self.assertEqual((done.returncode, done.stdout), (1, b""))
            self.assertIn(why, done.stderr.decode())
            self.assertEqual(done.stderr.count(b"\n"), 1)

    async def test_a_container_that_stands_alone(self) -> None:
        cluster = await self.shared()
        port = cluster.agent.port

        def request(name: str, **fields: Any) -> bytes:
            body = {"type": name, name.lower(): {"container_id": {"value": "alone"}, **fields}}
            content = json.dumps(body)
            heads = (
                "POST /api/v1 HTTP/1.1",
                "Host: agent",
                "Content-Type: application/json",
                "Connection: close",
                f"Content-Length: {len(content)}",
            )
            return "\r\n".join([*heads, "", content]).encode()

        async def call(name: str, **fields: Any) -> tuple[int, bytes]:
            said = await asking.exchange(port, request(name, **fields))
            head, _, answer = said.partition(b"\r\n\r\n")
            return int(head.split()[1]), answer

        shell = {"value": "echo $MESOS_SANDBOX; sleep 1000; true", "shell": True}
        self.assertEqual(await call("LAUNCH_CONTAINER", command=shell), (200, b""))
        self.assertEqual((await call("LAUNCH_CONTAINER", command=shell))[0], 202)
        home = cluster.agent.work_dir / "containers" / "alone"
        await until("its output", lambda: (home / "stdout").read_text() == f"{home}\n")
        waiting = await asking.converse(port, request("WAIT_CONTAINER"))
        for _ in range(3):  # when those who came later are answered, it has been heard
            await asking.get(port, "/health")
        self.assertEqual((await call("KILL_CONTAINER", signal=15))[0], 200)
        _, _, answer = (await waiting.over).partition(b"\r\n\r\n")
        self.assertEqual(json.loads(answer)["wait_container"]["exit_status"], 15)
        self.assertEqual((await call("REMOVE_CONTAINER"))[0], 200)
        await until("the end of its sandbox", lambda: not home.exists())


class RestartTests(ClusterTestCase):
    """The same where the agent is killed and comes back."""

    async def test_terminals_of_tasks_survive_and_sessions_do_not(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework(fields={"checkpoint": True})
        info = ledger.task("game", "stty -echo; while read line; do echo you said $line; done")
        info.container.type = ContainerInfo.MESOS
        info.container.tty_info.SetInParent()
        await ledger.launch(info)
        await ledger.running("game")
        session = Terminal(cluster, "exec", "-t", "game", "sh", "-c", "echo $$; sleep 1234")
        self.addCleanup(session.close)
        await session.shows("\r\n")
        pid = int(session.seen.split()[0])
        await cluster.agent.kill()
        cluster.agent.start()
        await cluster.agent.ready()
        await until("the end of the session", lambda: not Path(f"/proc/{pid}").exists())
        self.assertEqual(await session.ended(), 1)
        await cluster.registered()
        after = Terminal(cluster, "attach", "game")
        self.addCleanup(after.close)
        await until("raw keys", lambda: after.is_raw, seen=after.text)
        after.type("still here\n")
        await after.shows("you said still here\r\n")
        after.type("\x04")
        self.assertEqual(await after.ended(), 0)
        await ledger.over("game")


class IsolatedTests(ClusterTestCase):
    """The same where containers are kept apart."""

    @skipIf(os.geteuid() != 0, "only root can isolate")
    async def test_a_shell_sees_what_its_task_sees(self) -> None:
        root = f"mesoskit-test-exec-{os.getpid()}"
        isolation = "cgroups/cpu,cgroups/mem,namespaces/pid,filesystem/linux"
        self.addCleanup(processes.sweep_cgroups, root)  # the last of all
        cluster = self.cluster()
        await cluster.start(agent={"isolation": isolation, "cgroups_root": root})
        ledger = cluster.framework()
        handle = await ledger.run("boxed", "exec sleep 1000")
        await ledger.running("boxed")
        script = "cat /proc/1/cmdline | tr '\\0' ' '; echo; test $$ -lt 1000 && echo few; exit 4"
        done = await run(cluster, "exec", "boxed", "sh", "-c", script)
        self.assertIn(b"few", done.stdout, done)
        self.assertEqual(done.returncode, 4)
        terminal = Terminal(cluster, "exec", "-it", "boxed", "sh")
        self.addCleanup(terminal.close)
        await terminal.shows("# ")
        terminal.type("sleep 1000\n")
        await terminal.shows("sleep 1000\r\n")
        terminal.type("\x03")
        await terminal.shows("^C")
        terminal.type("stty size; exit 6\n")
        await terminal.shows("40 120\r\n")
        self.assertEqual(await terminal.ended(), 6)
        handle.kill()
        await ledger.over("boxed")
