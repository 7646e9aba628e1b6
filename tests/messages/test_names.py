"""Wire names."""

from __future__ import annotations

from mesoskit.messages import internal_pb2, mesos_pb2, scheduler_pb2, stream_pb2
from mesoskit.messages.names import UnknownMessage, message_class, wire_name, wire_names
from tests.base import SynchronousTestCase


class NameTests(SynchronousTestCase):
    """L{message_class} and L{wire_name} are each other's inverse."""

    def test_class_of_a_name(self) -> None:
        self.assertIs(message_class("mesos.v1.scheduler.Call"), scheduler_pb2.Call)
        self.assertIs(message_class("mesos.internal.RunTaskMessage"), internal_pb2.RunTaskMessage)

    def test_name_of_a_message(self) -> None:
        self.assertEqual(wire_name(scheduler_pb2.Call()), "mesos.v1.scheduler.Call")

    def test_there_and_back(self) -> None:
        for name in wire_names():
            self.assertEqual(wire_name(message_class(name)()), name)

    def test_every_protocol_is_there(self) -> None:
        self.assertLessEqual(
            {
                "mesos.v1.scheduler.Event",
                "mesos.v1.executor.Call",
                "mesos.v1.executor.Event",
                "mesos.v1.master.Call",
                "mesos.v1.agent.Call",
                "mesos.v1.agent.ProcessIO",
                "mesos.v1.resource_provider.Call",
                "mesos.internal.AuthenticateMessage",
                "mesos.internal.RegisterSlaveMessage",
            },
            wire_names(),
        )

    def test_unknown_name(self) -> None:
        with self.assertRaises(UnknownMessage) as caught:
            message_class("mesos.v1.scheduler.Cell")
        self.assertEqual(caught.exception.name, "mesos.v1.scheduler.Cell")
        self.assertIn("'mesos.v1.scheduler.Cell'", str(caught.exception))

    def test_parts_of_messages_do_not_travel(self) -> None:
        for message in (mesos_pb2.TaskInfo(), scheduler_pb2.Call.Accept(), stream_pb2.Frame()):
            with self.assertRaises(UnknownMessage):
                wire_name(message)
            with self.assertRaises(UnknownMessage):
                message_class(message.DESCRIPTOR.full_name)
