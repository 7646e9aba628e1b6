"""What an agent says of its machine."""

from mesoskit.messages.mesos_pb2 import Attribute as AttributeMessage
from mesoskit.model.attributes import Attributes, InvalidAttributes, parse_attributes
from mesoskit.model.values import RANGES, SCALAR, TEXT
from tests.base import SynchronousTestCase


class AttributesTests(SynchronousTestCase):
    """The value of C{--attributes}, and messages."""

    def test_text(self):
        attributes = parse_attributes(
            "cpus:45.55;ports:[10000-20000, 30000-50000];rack:rack1,rack2\nattr:baz:qux:"
        )
        self.assertEqual(
            [(a.name, a.kind, a.value) for a in attributes],
            [
                ("cpus", SCALAR, 45.55),
                ("ports", RANGES, ((10000, 20000), (30000, 50000))),
                ("rack", TEXT, "rack1,rack2"),
                ("attr", TEXT, "baz:qux:"),
            ],
        )

    def test_text_is_printed_as_mesos_does(self):
        self.assertEqual(
            str(parse_attributes("rack:2;os:linux;ports:[1-5,7-8]")),
            "rack=2; os=linux; ports=[1-5, 7-8]",
        )

    def test_wrong_texts_are_told_in_mesos_words(self):
        for text, error in (
            ("rack", "Invalid attribute key:value pair 'rack'"),
            ("rack:", "Invalid attribute key:value pair 'rack:'"),
            (":2", "Invalid attribute key:value pair ':2'"),
            ("a:{b,c}", "Bad type for attribute a text {b,c} type SET"),
            ("a:[1", "Failed to parse attribute a text [1 error Mismatched brackets"),
        ):
            raised = self.assertRaises(InvalidAttributes, Attributes.parse, text)
            self.assertEqual(str(raised), error)

    def test_order_does_not_matter_but_number_does(self):
        one = Attributes.parse("rack:r1;dedicated:c1;dedicated:c2")
        self.assertEqual(one, Attributes.parse("dedicated:c2;dedicated:c1;rack:r1"))
        self.assertEqual(hash(one), hash(Attributes.parse("dedicated:c2;dedicated:c1;rack:r1")))
        self.assertNotEqual(one, Attributes.parse("rack:r1;dedicated:c1"))
        self.assertNotEqual(one, Attributes.EMPTY)
        self.assertEqual(Attributes.parse(""), Attributes.EMPTY)

    def test_scalars_are_compared_by_thousandths_and_kept_in_full(self):
        one = Attributes.parse("version:1.12345")
        self.assertEqual(one, Attributes.parse("version:1.1234"))
        self.assertNotEqual(one, Attributes.parse("version:1.124"))
        self.assertEqual(one.as_json(), {"version": 1.12345})
        self.assertEqual(one.to_message()[0].scalar.value, 1.12345)

    def test_messages_come_back_the_same(self):
        attributes = Attributes.parse("rack:2;os:linux;ports:[1-5]")
        messages = attributes.to_message()
        self.assertTrue(all(message.IsInitialized() for message in messages))
        self.assertEqual(Attributes.from_message(messages), attributes)
        with_set = [AttributeMessage(name="a", type="SET", set={"item": ["x", "y"]})]
        self.assertEqual(Attributes.from_message(with_set).to_message(), with_set)

    def test_a_scalar_that_is_no_number_is_refused(self):
        wrong = AttributeMessage(name="a", type="SCALAR", scalar={"value": float("nan")})
        self.assertRaises(InvalidAttributes, Attributes.from_message, [wrong])

    def test_lookup_and_json(self):
        attributes = Attributes.parse("rack:2;os:linux;ports:[1-5];os:other")
        self.assertEqual(str(attributes.get("os")), "os=linux")
        self.assertIsNone(attributes.get("none"))
        self.assertIn(attributes.get("rack"), attributes)
        self.assertEqual(attributes.as_json(), {"rack": 2.0, "os": "other", "ports": "[1-5]"})
