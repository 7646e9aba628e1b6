"""Flags of isolators that few use."""

from __future__ import annotations

from typing import Any

from mesoskit.agent.subsystems import Subsystems
from mesoskit.app.daemon import StartError
from mesoskit.app.subsystems import FLAGS, settings
from mesoskit.flags import FlagError, Flags
from tests.base import SynchronousTestCase


class SubsystemFlagTests(SynchronousTestCase):
    """From words to values."""

    def read(self, *arguments: str) -> Subsystems:
        return settings(Flags("test", FLAGS).parse(arguments, {}))

    def refused(self, *arguments: str) -> str:
        errors: Any = (FlagError, StartError)
        try:
            self.read(*arguments)
        except errors as error:
            return str(error)
        raise AssertionError(f"{arguments} were taken")

    def test_defaults_are_those_of_mesos(self) -> None:
        self.assertEqual(self.read(), Subsystems())

    def test_values(self) -> None:
        read = self.read(
            "--cgroups_net_cls_primary_handle=0x12",
            "--cgroups_net_cls_secondary_handles=0x1,0xff",
            "--perf_events=cycles,Task-Clock,cycles",
            "--perf_interval=30secs",
            "--perf_duration=5secs",
            "--enforce_container_ports",
            "--container_ports_watch_interval=1secs",
            "--container_ports_isolated_range=[31000-31005, 80-80]",
        )
        expected = Subsystems(
            net_cls_primary=0x12,
            net_cls_secondaries=(1, 255),
            perf_events=("cycles", "task_clock"),
            perf_interval=30.0,
            perf_duration=5.0,
            enforce_ports=True,
            ports_interval=1.0,
            ports_isolated=((80, 80), (31000, 31005)),
        )
        self.assertEqual(read, expected)
        self.assertTrue(self.read("--check_agent_port_range_only").agent_ports_only)

    def test_what_cannot_be_is_refused_with_what_could(self) -> None:
        for argument, why in (
            ("--cgroups_net_cls_primary_handle=0", "from 0x1 to 0xffff"),
            ("--cgroups_net_cls_primary_handle=0x12345", "from 0x1 to 0xffff"),
            ("--cgroups_net_cls_secondary_handles=0x5", "0x1,0xffff"),
            ("--cgroups_net_cls_secondary_handles=9,0x5", "above the last"),
            ("--perf_events=,", "cycles,task_clock"),
            ("--container_ports_isolated_range=ports", "[31000-32000]"),
            ("--container_ports_isolated_range=[5-3]", "[31000-32000]"),
            ("--container_ports_isolated_range=[0-70000]", "[31000-32000]"),
            ("--container_ports_isolated_range=[", "[31000-32000]"),
            ("--perf_duration=2mins", "longer than --perf_interval"),
        ):
            self.assertIn(why, self.refused(argument), argument)
        both = "--check_agent_port_range_only", "--container_ports_isolated_range=[1-2]"
        self.assertIn("only one of", self.refused(*both))
