"""The command itself: what it knows, what it says of what it does not, how soon it is there."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO

from mesoskit import __version__, cli
from tests.base import SynchronousTestCase


class Case(SynchronousTestCase):
    """Runs the command in this process."""

    def run_command(self, *arguments: str) -> int:
        """Run it; what it prints is in C{self.out} and C{self.err}."""
        self.patch(sys, "stdout", StringIO())
        self.patch(sys, "stderr", StringIO())
        try:
            return cli.main(arguments)
        finally:
            assert isinstance(sys.stdout, StringIO)
            assert isinstance(sys.stderr, StringIO)
            self.out, self.err = sys.stdout.getvalue(), sys.stderr.getvalue()

    def assert_refused(self, error: str, *arguments: str) -> None:
        """Exit status 1, and this one line."""
        self.assertEqual(self.run_command(*arguments), 1)
        self.assertEqual(self.err, error + "\n")
        self.assertEqual(self.out, "")


class MainTests(Case):
    """Before any command."""

    def test_help_names_every_command(self) -> None:
        for arguments in (["--help"], ["-h"], ["help"]):
            self.assertEqual(self.run_command(*arguments), 0)
            for name in cli.COMMANDS:
                self.assertIn(f"  {name} ", self.out)

    def test_nothing_is_answered_with_help_and_a_failure(self) -> None:
        self.assertEqual(self.run_command(), 1)
        self.assertIn("Usage: mesoskit COMMAND", self.out)

    def test_version(self) -> None:
        for name in ("version", "--version"):
            self.assertEqual(self.run_command(name), 0)
            self.assertEqual(self.out, f"mesoskit {__version__}\n")

    def test_unknown_command_is_one_line(self) -> None:
        self.assert_refused("mesoskit: unknown command 'frob': see mesoskit --help", "frob")
        self.assert_refused("mesoskit: unknown command 'locl': did you mean local?", "locl")

    def test_unknown_flag_is_one_line(self) -> None:
        self.assert_refused(
            "mesoskit execute: unknown flag --nmae: did you mean --name?", "execute", "--nmae=x"
        )
        self.assert_refused(
            "mesoskit local: unknown flag --agnets: did you mean --agents?", "local", "--agnets=x"
        )

    def test_bad_value_is_one_line(self) -> None:
        self.assert_refused(
            "mesoskit local: --agents: cannot use '0': expected a number from 1 to 100",
            "local",
            "--agents=0",
        )

    def test_each_command_lists_its_flags(self) -> None:
        for name, flag in (("execute", "--task_group=VALUE"), ("local", "--agents=VALUE")):
            self.assertEqual(self.run_command(name, "--help"), 0)
            self.assertIn(flag, self.out)

    def test_help_and_mistakes_wait_for_no_imports(self) -> None:
        program = (
            "import sys; from mesoskit.cli import main; main(['--help']); main(['frob']);"
            " heavy = {'twisted', 'google.protobuf', 'orjson'} & set(sys.modules);"
            " sys.exit(f'imported {heavy}' if heavy else 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_mistake_in_a_command_waits_for_no_reactor(self) -> None:
        program = (
            "import sys; from mesoskit.cli import main; main(['execute', '--master=m:1']);"
            " main(['local', '--agents=0']);"
            " sys.exit('twisted was imported' if 'twisted' in sys.modules else 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
