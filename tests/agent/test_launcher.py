"""The launcher at its own door, with clients of every kind, and what it writes down."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.agent import launcher, launcher_proc, launcher_spawn
from mesoskit.agent.launcher_journal import Entry, Journal
from mesoskit.agent.launcher_server import MAX_CLIENTS, MAX_LINE
from tests.base import SynchronousTestCase

BECOMING = "becoming user" if os.geteuid() == 0 else "not permitted"


class Raw:
    """A client that sends what it likes."""

    def __init__(self, directory: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(os.path.join(directory, "socket"))
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Any:
        return json.loads(self.file.readline())

    def ask(self, *words: Any) -> Any:
        self.send(json.dumps([1, *words]).encode() + b"\n")
        return self.read()

    def at_end(self) -> bool:
        try:
            return self.file.readline() == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.file.close()
        self.socket.close()


class LauncherTests(SynchronousTestCase):
    """One launcher, from outside."""

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="mesoskit-launcher-")
        self.addCleanup(subprocess.run, ["rm", "-rf", self.directory], check=True)
        self.start()
        record = json.loads(Path(self.directory, "launcher.json").read_text())
        self.pid = record["pid"]
        self.addCleanup(self.end)

    def start(self, linger: str = "60") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-S", launcher.__file__, self.directory, linger],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def end(self) -> None:
        pidfd = os.pidfd_open(self.pid)
        self.addCleanup(os.close, pidfd)
        os.kill(self.pid, signal.SIGKILL)

    def client(self) -> Raw:
        client = Raw(self.directory)
        self.addCleanup(client.close)
        return client

    def launch(self, client: Raw, name: str, *argv: str) -> Any:
        arguments: list[Any] = [argv[0], list(argv), {}, self.directory, None, []]
        return client.ask("launch", name, *arguments)

    def test_it_is_recorded_and_private(self):
        record = json.loads(Path(self.directory, "launcher.json").read_text())
        found = launcher_proc.process(record["pid"])
        assert found is not None
        self.assertEqual(record["start"], found.start)
        self.assertEqual(record["socket"], os.path.join(self.directory, "socket"))
        for name in os.listdir(self.directory):
            mode = stat.S_IMODE(os.stat(os.path.join(self.directory, name)).st_mode)
            self.assertEqual(mode, 0o600, name)

    def test_it_left_whoever_started_it(self):
        found = launcher_proc.process(self.pid)
        assert found is not None
        self.assertNotEqual(found.session, os.getsid(0))
        self.assertNotEqual(found.parent, os.getpid())
        for number in range(2):
            self.assertEqual(os.readlink(f"/proc/{self.pid}/fd/{number}"), "/dev/null")

    def test_it_imports_no_more_than_it_says(self):
        modules = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "importtime", launcher.__file__, "/dev/null"],
            capture_output=True,
            text=True,
            check=False,
        ).stderr
        self.assertIn("mesoskit.agent.launcher_spawn", modules)
        for heavy in ("twisted", "google", "orjson", "asyncio", "subprocess", "threading"):
            self.assertNotIn(f" {heavy}", modules)

    def test_a_second_one_for_the_directory_does_not_start(self):
        outcome = self.start()
        self.assertEqual(outcome.returncode, 1)
        self.assertIn("another launcher serves", outcome.stderr)
        self.assertEqual(self.client().ask("hello")[2]["pid"], self.pid)

    def test_what_it_cannot_understand_is_answered(self):
        client = self.client()
        for bad, why in {
            b"nonsense": "cannot be carried out: JSONDecodeError",
            b"\xff\xfe": "cannot be carried out",
            b"": "cannot be carried out",
            b"7": "a list of number, verb and arguments is wanted",
            b"[]": "a list of number",
            b'[1, "dance"]': "unknown verb 'dance': hello, launch",
            b'[1, ["launch"]]': "unknown verb",
            b'["x", "hello"]': "unknown verb",
            b'[1, "launch"]': "TypeError",
            b'[1, "launch", 1, 2, 3, 4, 5, 6, 7]': "cannot be carried out",
            b'[1, "launch", "a b", "true", ["true"], {}, "@", null, []]': "container id 'a b'",
            b'[1, "launch", "", "true", ["true"], {}, "@", null, []]': "container id ''",
            b'[1, "launch", "a", "true", [7], {}, "@", null, []]': "TypeError",
            b'[1, "launch", "a", "true", ["true"], [], "@", null, []]': "AttributeError",
            b'[1, "launch", "a", "true", ["true"], {"A": 1}, "@", null, []]': "TypeError",
            b'[1, "launch", "a", "true", ["true"], {"": "1"}, "@", null, []]': "named ''",
            b'[1, "launch", "a", "true", ["true"], {"A=": ""}, "@", null, []]': "named 'A='",
            b'[1, "launch", "a", "true", ["true"], {"A": "\\u0000"}, "@", null, []]': "has a NUL",
            b'[1, "launch", "a", "true", ["true"], {}, 7, null, []]': "AttributeError",
            b'[1, "launch", "a", "true", ["true"], {}, "@", ["x", 1, []], []]': BECOMING,
            b'[1, "launch", "a", "true", ["true"], {}, "@", [1], []]': "IndexError",
            b'[1, "launch", "a", "true", ["true"], {}, "@", null, [["RLMT_CPU"]]]': "ValueError",
            b'[1, "launch", "a", "true", ["true"], {}, "@", null, [["RLMT_CPU", 2, 1]]]': "2, hard",
            b'[1, "signal", ["a"], 9]': "TypeError",
            b'[1, "destroy"]': "TypeError",
        }.items():
            client.send(bad.replace(b"@", self.directory.encode()) + b"\n")
            _, told, result = client.read()
            self.assertIn(why, told, bad)
            self.assertIsNone(result)
        self.assertEqual(client.ask("hello")[2]["containers"], [])

    def test_what_cannot_be_says_what_can(self):
        client = self.client()
        long = ["true", "x" * (1 << 18)]
        for limits in ([], [["RLMT_CORE", 0, 0]]):  # it starts it in two ways
            _, why, _ = client.ask("launch", "a", "true", long, {}, self.directory, None, limits)
            self.assertIn("list too long: an argument or a variable may have 128 KiB", why)
        limits = [["RLMT_NOFILE", 1 << 40, 1 << 40]]
        _, why, _ = client.ask("launch", "a", "true", ["true"], {}, self.directory, None, limits)
        self.assertIn("resource limit RLMT_NOFILE, 1099511627776 to 1099511627776: not al", why)
        self.assertEqual(client.ask("hello")[2]["containers"], [])

    def test_all_bits_are_no_limit(self):
        client = self.client()
        client.ask("hello")
        most = (1 << 64) - 1
        given = [["RLMT_FSIZE", most, most], ["RLMT_CORE", 0, 0]]
        argv = ["sh", "-c", "ulimit -f; ulimit -c"]
        client.ask("launch", "a", "/bin/sh", argv, {}, self.directory, None, given)
        self.assertEqual(client.read(), [0, "exited", "a", 0])
        self.assertEqual(Path(self.directory, "stdout").read_text(), "unlimited\n0\n")

    def test_a_signal_that_is_none_is_answered(self):
        client = self.client()
        self.launch(client, "a", "/bin/sleep", "1000")
        for number in (0, 65, -1, "x"):
            client.ask("signal", "a", number)
        self.assertEqual(client.ask("hello")[2]["containers"][0][2], False)
        self.assertIsNone(client.ask("destroy", "a")[0] or None)

    def test_a_line_too_long_ends_the_connection_only(self):
        client = self.client()
        try:
            client.send(b"x" * (MAX_LINE + (1 << 20)))
        except OSError:
            pass
        told = client.file.readline()
        self.assertTrue(told == b"" or b"more than" in told)
        self.assertTrue(client.at_end())
        self.assertEqual(self.client().ask("hello")[2]["pid"], self.pid)

    def test_requests_in_pieces_and_many_at_once(self):
        client = self.client()
        lines = b"".join(b'[%d, "destroy", "x"]\n' % number for number in range(5000))
        client.send(lines[:100])
        client.send(lines[100:])
        for number in range(5000):
            self.assertEqual(client.read(), [number, None, None])

    def test_clients_are_limited(self):
        clients = [self.client() for _ in range(MAX_CLIENTS)]
        for client in clients:
            client.ask("hello")
        self.assertTrue(self.client().at_end())
        clients[0].close()
        clients[1].ask("hello")
        self.assertEqual(self.client().ask("hello")[2]["pid"], self.pid)

    def test_a_client_that_never_reads_harms_nobody(self):
        lazy = self.client()
        lazy.socket.settimeout(0.2)
        try:
            while True:
                lazy.send(b'[1, "dance"]\n' * 10_000)
        except OSError:
            pass
        self.assertEqual(self.client().ask("hello")[2]["pid"], self.pid)

    def test_every_client_hears_of_ends(self):
        one, other, silent = self.client(), self.client(), self.client()
        one.ask("hello")
        other.ask("hello")
        self.launch(silent, "a", "/bin/false")
        self.assertEqual(one.read(), [0, "exited", "a", 256])
        self.assertEqual(other.read(), [0, "exited", "a", 256])
        self.assertEqual(silent.ask("forget", "a"), [1, None, None])
        self.assertEqual(one.ask("hello")[2]["containers"], [])

    def test_what_runs_is_not_forgotten(self):
        client = self.client()
        pid = self.launch(client, "a", "/bin/sleep", "1000")[2]
        client.ask("forget", "a")
        self.assertEqual(client.ask("hello")[2]["containers"], [["a", pid, False, None, False]])
        client.ask("destroy", "a")

    def test_the_journal_says_what_happened(self):
        client = self.client()
        client.ask("hello")
        pid = self.launch(client, "a", "/bin/false")[2]
        client.read()
        self.launch(client, "b", "/nonexistent")
        client.ask("forget", "a")
        lines = Path(self.directory, "journal").read_text().splitlines()
        self.assertTrue(lines[0].startswith("boot "))
        self.assertRegex(lines[2], rf"started a {pid} \d+ \d+")
        self.assertEqual(
            [line for line in lines[1:] if not line.startswith("started")],
            ["launch a", "exited a 256", "launch b", "failed b", "forget a"],
        )

    def test_hang_up_makes_it_listen_anew(self):
        os.unlink(os.path.join(self.directory, "socket"))
        os.kill(self.pid, signal.SIGHUP)
        for _ in range(1000):
            try:
                client = self.client()
            except OSError:
                os.sched_yield()
                continue
            break
        self.assertEqual(client.ask("hello")[2]["pid"], self.pid)

    def test_peers_are_asked_for_their_user(self):
        if os.geteuid() != 0:
            return
        os.chmod(self.directory, 0o711)
        os.chmod(os.path.join(self.directory, "socket"), 0o666)
        script = (
            "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
            "s.connect(sys.argv[1]); s.sendall(b'[1, \"hello\"]\\n'); print(s.recv(100))"
        )
        path = os.path.join(self.directory, "socket")
        outcome = subprocess.run(
            [sys.executable, "-I", "-S", "-c", script, path],
            capture_output=True,
            text=True,
            check=False,
        )
        # It is hung up on before or while it speaks.
        self.assertTrue(outcome.stdout == "b''\n" or "Error" in outcome.stderr, outcome)


class JournalTests(SynchronousTestCase):
    """What is written is read again, whatever happens to the file."""

    def setUp(self) -> None:
        self.path = self.mktemp()

    def journal(self, boot: str = "now") -> Journal:
        return Journal(self.path, boot)

    def loaded(self, boot: str = "now") -> dict[str, tuple[int, int, int, bool, int | None]]:
        entries = self.journal(boot).load()
        return {
            name: (e.pid, e.earliest, e.latest, e.over, e.status) for name, e in entries.items()
        }

    def test_containers_are_found_as_they_were_left(self):
        journal = self.journal()
        journal.load()
        journal.write(["launch a", "started a 5 77 78", "launch b", "failed b", "launch c"])
        journal.write(["exited a 256", "launch d", "started d 6 78 78", "exited d -"])
        journal.write(["launch e", "started e 7 79 80", "exited e 0", "forget e"])
        expected = {
            "a": (5, 77, 78, True, 256),
            "c": (0, 0, 0, False, None),
            "d": (6, 78, 78, True, None),
        }
        self.assertEqual(self.loaded(), expected)
        self.assertEqual(self.loaded(), expected)

    def test_after_a_boot_nothing_runs(self):
        journal = self.journal()
        journal.load()
        journal.write(
            ["launch a", "started a 5 77 78", "launch b", "started b 6 77 77", "exited b 3"]
        )
        expected = {"a": (5, 77, 78, True, None), "b": (6, 77, 77, True, 3)}
        self.assertEqual(self.loaded("later"), expected)
        self.assertEqual(self.loaded("later"), expected)

    @given(st.integers(0, 60), st.binary(max_size=20))
    def test_a_torn_end_costs_the_torn_line_only(self, length, garbage):
        self.path = self.mktemp()
        lines = ["launch a", "started a 5 77 78", "exited a 256", "launch b", "started b 6 78 78"]
        text = "".join(f"{line}\n" for line in ["boot now", *lines]).encode()
        Path(self.path).write_bytes(text[:length] + garbage)
        entries = self.loaded()
        complete = text[:length].count(b"\n")
        if complete > 3 and b"\n" not in garbage:
            self.assertEqual(entries["a"], (5, 77, 78, True, 256))
        if b"\n" not in garbage:
            self.assertLessEqual(set(entries), {"a", "b"})

    def test_it_does_not_grow_for_ever(self):
        journal = self.journal()
        journal.load()
        kept = {"keep": Entry(1, 2, 3)}
        journal.write(["launch keep", "started keep 1 2 3"])
        for number in range(5000):
            journal.write([f"launch c{number}", f"failed c{number}"])
            journal.compact(1, lambda: kept)
        self.assertLess(os.path.getsize(self.path), 200_000)
        self.assertEqual(self.loaded(), {"keep": (1, 2, 3, False, None)})

    def test_how_long_a_container_outlives_its_agent_is_kept_and_that_it_was_abandoned(self):
        journal = self.journal()
        journal.load()
        journal.write(["launch a 900", "started a 5 77 78 900", "launch b 0", "launch c"])
        journal.write(["abandoned a", "abandoned nobody", "exited a 15"])
        for _ in range(2):
            entries = self.journal().load()
            found = {name: (e.patience, e.abandoned) for name, e in entries.items()}
            self.assertEqual(found, {"a": (900.0, True), "b": (0.0, False), "c": (None, False)})

    def test_a_full_disk_leaves_whole_lines(self):
        journal = self.journal()
        journal.load()
        journal.write(["launch a"])
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(self.path) + 12, hard))
        try:
            self.assertRaises(OSError, journal.write, ["started a 123456 7890123 7890124"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)
        journal.write(["started a 5 6 7"])
        self.assertEqual(self.loaded(), {"a": (5, 6, 7, False, None)})


class ProcTests(SynchronousTestCase):
    """What /proc says."""

    def test_ourselves(self):
        found = launcher_proc.process(os.getpid())
        assert found is not None
        self.assertEqual(
            (found.pid, found.parent, found.group, found.session, found.alive),
            (os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0), True),
        )
        self.assertEqual(launcher_proc.processes()[os.getpid()].start, found.start)
        self.assertGreater(found.rss, 1000)

    def test_nobody(self):
        self.assertIsNone(launcher_proc.process(1 << 22))
        self.assertEqual(launcher_proc.first_variables(1 << 22), {})
        self.assertIsNone(launcher_proc.timer_slack(1 << 22))

    def test_a_name_with_parentheses_and_blanks(self):
        path = os.path.join(tempfile.mkdtemp(), "a) S 1 (b")
        self.addCleanup(subprocess.run, ["rm", "-rf", os.path.dirname(path)], check=True)
        os.symlink("/bin/sleep", path)
        with subprocess.Popen([path, "1000"], executable=path) as child:
            found = launcher_proc.process(child.pid)
            children = launcher_proc.children(os.getpid())
            child.kill()
        assert found is not None
        self.assertEqual(found.parent, os.getpid())
        self.assertIn(child.pid, children)

    def test_a_tree(self):
        def one(pid: int, parent: int) -> launcher_proc.Process:
            return launcher_proc.Process(pid, "S", parent, 1, 1, 0, 0, 0, 0)

        pairs = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 5)]
        table = {pid: one(pid, parent) for pid, parent in pairs}
        self.assertEqual(launcher_proc.tree([2, 9], table), {2, 3, 4})
        self.assertEqual(launcher_proc.tree([], table), set())


class SpawnTests(SynchronousTestCase):
    """The parts of starting that need no launcher."""

    def test_all_of_mesos_limits_have_numbers(self):
        names = (
            "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS"
            " RTPRIO RTTIME SIGPENDING STACK"
        )
        numbers = {launcher_spawn.limit_number(f"RLMT_{name}") for name in names.split()}
        self.assertEqual(numbers, set(range(16)))
        for bad in ("NOFILE", "RLMT_", "RLMT_INFINITY", "RLIMIT_NOFILE"):
            self.assertRaises(launcher_spawn.SpawnError, launcher_spawn.limit_number, bad)

    def test_a_directory_behind_a_link_is_not_opened(self):
        path = tempfile.mkdtemp()
        self.addCleanup(subprocess.run, ["rm", "-rf", path], check=True)
        os.makedirs(f"{path}/real/inner")
        os.symlink("real", f"{path}/link")
        os.close(launcher_spawn.open_directory(f"{path}/real//inner/."))
        before = len(os.listdir("/proc/self/fd"))
        for bad in ("link/inner", "link", "real/../real", "none"):
            self.assertRaises(OSError, launcher_spawn.open_directory, f"{path}/{bad}")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
