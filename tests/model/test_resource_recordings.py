"""Resources as a real cluster sent them."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from mesoskit.messages.mesos_pb2 import Resource
from mesoskit.model.resource_validation import validate_resources
from mesoskit.model.resources import ENDPOINT, POST, PRE, Resources
from tests.base import SynchronousTestCase
from tests.messages import golden


def lists_of_resources(message: Message) -> Iterator[list[Resource]]:
    """Give every list of resources in a message, however deep."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        values: list[Any] = list(value) if field.is_repeated else [value]
        if field.message_type is Resource.DESCRIPTOR:
            yield values
        else:
            for inner in values:
                yield from lists_of_resources(inner)


class RecordingTests(SynchronousTestCase):
    """What Mesos sends is read, found right and written again byte for byte."""

    def test_recorded_resources_are_written_as_they_came(self):
        found = 0
        for recorded in golden.bodies():
            for resources in lists_of_resources(recorded.message()):
                found += 1
                self.assertIsNone(validate_resources(resources), recorded.where)
                read = Resources.from_message(resources)
                sent = [resource.SerializeToString() for resource in resources]
                written = [
                    [resource.SerializeToString() for resource in read.to_message(form)]
                    for form in (PRE, POST, ENDPOINT)
                ]
                self.assertIn(sent, written, recorded.where)
        self.assertGreater(found, 100)
