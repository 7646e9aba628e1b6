"""Flags of the agent that hold logs of containers to a size."""

from __future__ import annotations

from mesoskit.agent.log_sizes import Sizes
from mesoskit.app import container_logger
from mesoskit.flags import FlagError, Flags
from tests.base import SynchronousTestCase

FLAGS = Flags("test", container_logger.FLAGS)


class FlagTests(SynchronousTestCase):
    """From text to sizes."""

    def sizes(self, *arguments: str) -> Sizes | None:
        return container_logger.log_sizes(FLAGS.parse(arguments, {}))

    def test_nothing_is_rotated_by_default(self) -> None:
        self.assertIsNone(self.sizes())
        self.assertIsNone(self.sizes("--container_logger=sandbox"))

    def test_logrotate_by_both_names(self) -> None:
        for name in ("logrotate", "org_apache_mesos_LogrotateContainerLogger"):
            self.assertEqual(self.sizes(f"--container_logger={name}"), Sizes())

    def test_sizes(self) -> None:
        found = self.sizes(
            "--container_logger=logrotate",
            "--container_logger_max_stdout_size=4KB",
            "--container_logger_max_stderr_size=1MB",
            "--container_logger_max_files=0",
        )
        self.assertEqual(found, Sizes(4096, 1 << 20, 0, 0))

    def test_what_cannot_be(self) -> None:
        for argument, why in {
            "--container_logger=syslog": "expected one of sandbox, logrotate",
            "--container_logger_max_stdout_size=4095B": "at least 4096B",
            "--container_logger_max_files=-1": "whole number",
        }.items():
            error = self.assertRaises(FlagError, self.sizes, argument)
            self.assertIn(why, str(error))
