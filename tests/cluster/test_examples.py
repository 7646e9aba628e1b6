"""The examples as a newcomer runs them: scripts, against real processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import SkipTest

try:
    from PIL import Image
except ImportError:
    raise SkipTest("Pillow is not installed: pip install 'mesoskit[examples]'") from None

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.cluster import processes
from tests.cluster.harness import CHECKOUT, SharedCluster, free_port
from tests.cluster.waiting import until

EXAMPLES = CHECKOUT / "examples"


class Script:
    """One run of an example."""

    def __init__(self, directory: Path, name: str, *arguments: str) -> None:
        self._out = directory / f"out-{Path(name).name}"
        variables = {key: text for key, text in os.environ.items() if key[:6] != "MESOS_"}
        # What a run finds must not hang on where it was started, so it is started elsewhere.
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(EXAMPLES / name), *arguments],
                cwd=directory,
                env={**variables, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(directory)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._out.read_text()

    async def said(self, words: str) -> None:
        """Wait until it has printed this."""
        await until(f"{words!r}", lambda: words in self.output, 120, seen=lambda: self.output)

    async def ended(self, patience: float = 120.0) -> int:
        """Wait for its end; returns the exit status."""
        await until(
            "its end", lambda: self.process.poll() is not None, patience, seen=lambda: self.output
        )
        status: int = self.process.returncode
        return status

    async def interrupted(self) -> int:
        """Press Ctrl-C, and wait for the end."""
        self.process.send_signal(signal.SIGINT)
        return await self.ended()


class ScriptCase(TestCase):
    """Has a directory of its own, of which no process is left."""

    timeout = 900

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mk-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.addCleanup(processes.sweep, self.directory)

    def run_script(self, name: str, *arguments: str) -> Script:
        """Begin a run."""
        return Script(self.directory, name, *arguments)

    def assert_nothing_left(self) -> None:
        """No process, and no directory of a cluster."""
        left = processes.below(self.directory)
        self.assertEqual(left, [], processes.described(left))
        self.assertEqual(list(self.directory.glob("mesoskit-*")), [])


class DemoTests(ScriptCase):
    """C{make demo}."""

    async def test_inverts_all_photographs_and_leaves_only_them(self) -> None:
        for _ in range(2):
            demo = self.run_script("images/demo.py")
            self.assertEqual(await demo.ended(180), 0, demo.output)
            self.assertIn("9 of 9 images inverted on 3 agents", demo.output)
            self.assert_nothing_left()
        pictures = self.directory / "demo-pictures"
        with Image.open(pictures / "before-and-after.png") as sheet:
            self.assertEqual(sheet.size, (1206, 480))
        for path in (EXAMPLES / "images" / "photographs").iterdir():
            result = pictures / f"{path.stem}_inverted{path.suffix}"
            with Image.open(path) as before, Image.open(result) as after:
                self.assertEqual(before.size, after.size)
                middle = before.width // 2, before.height // 2
                one = before.convert("RGBA").getpixel(middle)
                other = after.convert("RGBA").getpixel(middle)
                assert isinstance(one, tuple)
                assert isinstance(other, tuple)
                for a, b in zip(one[:3], other[:3], strict=True):
                    self.assertTrue(abs(255 - a - b) < 24, (path, one, other))

    async def test_pictures_of_ones_own_and_one_that_is_none(self) -> None:
        good, bad = self.directory / "my picture.png", self.directory / "broken.jpg"
        Image.new("RGB", (40, 30), (255, 0, 0)).save(good)
        bad.write_text("no image")
        demo = self.run_script(
            "images/demo.py", "--agents=1", "--pictures=out", str(good), str(bad)
        )
        self.assertEqual(await demo.ended(180), 1, demo.output)
        self.assertRegex(demo.output, r"broken\.jpg .*TASK_FAILED: .*cannot identify image file")
        self.assertIn("1 of 2 images inverted on 1 agent in", demo.output)
        with Image.open(self.directory / "out" / "my picture_inverted.png") as image:
            self.assertEqual(image.getpixel((1, 1)), (0, 255, 255))
        self.assert_nothing_left()

    async def test_interrupted_at_any_time(self) -> None:
        for words in ("Starting a master", "Inverting 9 images", "9 of 9 tasks finished"):
            demo = self.run_script("images/demo.py")
            await demo.said(words)
            status = await demo.interrupted()
            # Whoever is late meets a demo that has ended, or is about to.
            self.assertIn(status, (0, 130), demo.output)
            self.assert_nothing_left()

    async def test_terminal_that_is_closed(self) -> None:
        """Nothing can be printed any more; all is stopped nevertheless."""
        ours, theirs = os.openpty()
        os.set_blocking(ours, False)
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "images/demo.py")],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(self.directory)},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        said = b""

        def inverting() -> bool:
            nonlocal said
            with contextlib.suppress(BlockingIOError):
                said += os.read(ours, 4096)
            return b"Inverting" in said

        await until("it is at work", inverting, 120, seen=lambda: said)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        await until("its end", lambda: process.poll() is not None)
        self.assert_nothing_left()

    async def test_part_that_cannot_start_says_why(self) -> None:
        """An agent's resources that cannot be: it ends at once, and its last words are shown."""
        program = (
            "import sys; sys.path.insert(0, sys.argv[1]); sys.argv = ['demo']; import demo;"
            " demo.RESOURCES = 'cpus:many'; demo.react(demo.main)"
        )
        done = await deferToThread(
            subprocess.run,
            [sys.executable, "-c", program, str(EXAMPLES / "images")],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(self.directory)},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stderr, r"^demo: agent-\d ended with 1; the end of its log:\n")
        self.assertIn("mesos-agent: --resources: Bad type", done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assert_nothing_left()


class FrameworkTests(SharedCluster):
    """Frameworks on a cluster that is there."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mk-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.addCleanup(processes.sweep, self.directory)

    async def script(self, name: str, *arguments: str) -> Script:
        """Begin a run against the shared cluster's master."""
        address = (await self.shared()).master.address
        return Script(self.directory, name, *(each.format(master=address) for each in arguments))

    async def test_thirty_lines(self) -> None:
        run = await self.script("thirty_lines.py", "{master}", "true", "exit 3")
        self.assertEqual(await run.ended(), 0, run.output)
        self.assertEqual(
            sorted(run.output.splitlines()),
            [
                "exit 3: TASK_FAILED, Command exited with status 3",
                "true: Command exited with status 0",
            ],
        )

    async def test_embedded_framework(self) -> None:
        run = await self.script("embed_framework.py", "{master}")
        self.assertEqual(await run.ended(), 0, run.output)
        self.assertEqual(run.output, "Command exited with status 0\n")

    async def test_tasks_are_watched(self) -> None:
        watch = await self.script("watch_tasks.py", "{master}")
        await watch.said(" tasks\n")
        run = await self.script("thirty_lines.py", "{master}", "true")
        self.assertEqual(await run.ended(), 0, run.output)
        await watch.said(": TASK_STAGING\n")
        await watch.said(": TASK_FINISHED\n")
        await watch.interrupted()

    async def test_framework_inside_a_web_server(self) -> None:
        port = free_port()
        run = await self.script("run_over_http.py", "{master}", str(port))
        await until("the web server listens", lambda: listens(port), seen=lambda: run.output)
        said = await deferToThread(post, port, "exit 4")
        self.assertEqual(said, "TASK_FAILED: Command exited with status 4\n")
        self.assertEqual(await run.interrupted(), 0, run.output)

    async def test_tutorial_stage_one(self) -> None:
        run = await self.script("tutorial/1_empty_template.py", "--master={master}")
        await run.said("Received Offer")
        self.assertIn("Framework registered with ID=", run.output)
        await run.interrupted()
        self.assertNotIn("Traceback", run.output)

    async def test_tutorial_stage_two(self) -> None:
        run = await self.script("tutorial/2_empty_tasks.py", "--master={master}")
        await run.said("task 20 is in state TASK_FINISHED")
        await run.interrupted()
        self.assertNotIn("Traceback", run.output)
        self.assertNotIn("TASK_FAILED", run.output)

    async def test_image_framework_alone(self) -> None:
        photograph = str(EXAMPLES / "images" / "photographs" / "moon.png")
        run = await self.script("images/framework.py", "--master={master}", photograph)
        self.assertEqual(await run.ended(), 0, run.output)
        self.assertTrue((self.directory / "inverted" / "moon_inverted.png").exists())


class EmbeddedTests(ScriptCase):
    """A master and an agent inside programs of one's own."""

    async def test_they_make_a_cluster(self) -> None:
        port = free_port()
        master = self.run_script("embed_master.py", f"--port={port}")
        await until("the master listens", lambda: listens(port), seen=lambda: master.output)
        agent = self.run_script(
            "embed_agent.py",
            f"--master=127.0.0.1:{port}",
            f"--port={free_port()}",
            "--runtime_dir=r",
        )
        framework = self.run_script("embed_framework.py", f"127.0.0.1:{port}")
        self.assertEqual(await framework.ended(), 0, framework.output + agent.output)
        self.assertEqual(framework.output, "Command exited with status 0\n")
        for program in (agent, master):
            self.assertEqual(await program.interrupted(), 0, program.output)
            self.assertEqual(program.output, "")


def listens(port: int) -> bool:
    """Tell whether somebody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def post(port: int, command: str) -> str:
    """POST a command to C{run_over_http.py}."""
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/", command.encode(), timeout=90) as answer:
        said: str = answer.read().decode()
    return said
