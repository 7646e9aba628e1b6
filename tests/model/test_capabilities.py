"""Capabilities as sets of flags."""

from enum import IntFlag

from mesoskit.messages.mesos_pb2 import AgentInfo, FrameworkInfo, MasterInfo
from mesoskit.model.capabilities import (
    AGENT_CAPABILITIES,
    MASTER_CAPABILITIES,
    AgentCapability,
    FrameworkCapability,
    MasterCapability,
)
from tests.base import SynchronousTestCase


class CapabilityTests(SynchronousTestCase):
    """All three kinds."""

    def test_each_type_of_the_messages_is_a_flag_with_a_property(self):
        for ours, theirs in (
            (FrameworkCapability, FrameworkInfo.Capability),
            (AgentCapability, AgentInfo.Capability),
            (MasterCapability, MasterInfo.Capability),
        ):
            types = {name: number for name, number in theirs.Type.items() if number}
            self.assertEqual({one.name: one.types for one in ours}, _numbers(types))
            for name in types:
                self.assertIs(getattr(ours[name], name.lower()), True, name)
                others: IntFlag = ours(0)
                for other in types.keys() - {name}:
                    others |= ours[other]
                self.assertIs(getattr(others, name.lower()), False, name)

    def test_messages_are_read_and_written(self):
        info = FrameworkInfo(
            user="u",
            name="n",
            capabilities=[{"type": "PARTITION_AWARE"}, {"type": "UNKNOWN"}, {"type": "MULTI_ROLE"}],
        )
        capabilities = FrameworkCapability.from_messages(info.capabilities)
        self.assertEqual(capabilities.names, ("PARTITION_AWARE", "MULTI_ROLE"))
        self.assertEqual(capabilities.types, (5, 6))
        self.assertEqual(
            list(capabilities.types), [info.capabilities[0].type, info.capabilities[2].type]
        )
        self.assertEqual(FrameworkCapability.from_messages([]), FrameworkCapability(0))

    def test_we_announce_what_mesos_announces(self):
        # As recorded of a real cluster.
        self.assertEqual(
            AGENT_CAPABILITIES.names,
            (
                "MULTI_ROLE",
                "HIERARCHICAL_ROLE",
                "RESERVATION_REFINEMENT",
                "RESOURCE_PROVIDER",
                "RESIZE_VOLUME",
                "AGENT_OPERATION_FEEDBACK",
                "AGENT_DRAINING",
                "TASK_RESOURCE_LIMITS",
            ),
        )
        self.assertEqual(MASTER_CAPABILITIES.names, ("AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2"))


def _numbers(types: dict[str, int]) -> dict[str, tuple[int, ...]]:
    return {name: (number,) for name, number in types.items()}
