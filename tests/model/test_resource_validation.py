"""Every text that Mesos has for resources that cannot be."""

from pathlib import Path

from mesoskit.messages.mesos_pb2 import Resource
from mesoskit.model.resource_validation import validate_resource, validate_resources
from mesoskit.model.resources import InvalidResources, Resources
from tests.base import SynchronousTestCase
from tests.model.resource_texts import COMMAND_LINE, FORM, RIGHT, TOGETHER

TEXTS = Path(__file__).parent.parent / "data" / "texts_resources.txt"


def says(text: str, pattern: str) -> bool:
    """Tell whether a text is what a line of the list describes."""
    at = 0
    for fragment in pattern.split("…"):
        found = text.find(fragment, at)
        if found < 0 or (not at and found):
            return False
        at = found + len(fragment)
    return pattern.endswith("…") or at == len(text)


class ResourceValidationTests(SynchronousTestCase):
    """What frameworks, agents and operators are told."""

    def test_wrong_form_is_told_in_mesos_words(self):
        for fields, text in FORM:
            self.assertEqual(validate_resource(Resource(**fields)), text, fields)

    def test_right_resources_pass(self):
        for fields in RIGHT:
            resource = Resource(**fields)
            self.assertIsNone(validate_resource(resource), fields)
            self.assertIsNone(validate_resources([resource]), fields)

    def test_lists_are_refused_for_the_first_wrong_resource(self):
        for resources, text in TOGETHER:
            self.assertEqual(validate_resources([Resource(**r) for r in resources]), text)

    def test_command_line_errors_name_the_bad_part(self):
        for text, error in COMMAND_LINE:
            raised = self.assertRaises(InvalidResources, Resources.parse, text)
            self.assertTrue(str(raised).startswith(error), f"{text}: {raised}")

    def test_labels_of_both_formats_may_differ_in_order(self):
        labels = [{"key": "b"}, {"key": "a", "value": "1"}]
        resource = Resource(
            name="cpus",
            type="SCALAR",
            scalar={"value": 1},
            role="web",
            reservation={"labels": {"labels": labels}},
            reservations=[
                {"type": "DYNAMIC", "role": "web", "labels": {"labels": labels[::-1]}},
            ],
        )
        self.assertIsNone(validate_resource(resource))

    def test_unknown_number_of_a_type_is_no_type(self):
        resource = Resource.FromString(b"\x0a\x04cpus\x10\x63")
        self.assertEqual(validate_resource(resource), "Invalid resource type")

    def test_every_text_has_a_row(self):
        rows = [text for table in (FORM, TOGETHER, COMMAND_LINE) for _, text in table]
        # Rows of the command line hold beginnings; what follows them is not listed.
        patterns = [
            line
            for line in TEXTS.read_text(encoding="utf-8").splitlines()
            if line and not line.startswith("#")
        ]
        missing = [p for p in patterns if not any(says(row, p) for row in rows)]
        self.assertEqual(missing, [])
        self.assertGreater(len(patterns), 50)
