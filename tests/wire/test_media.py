"""Media types: what is read, what is accepted, how it is written."""

from __future__ import annotations

import json

from mesoskit.messages.codec import from_json
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.wire import media
from mesoskit.wire.media import JSON, PROTOBUF, Unreadable, accepts, preferred, read
from tests.base import SynchronousTestCase


class AcceptTests(SynchronousTestCase):
    """The header as libprocess reads it."""

    def test_what_is_accepted(self) -> None:
        for header in (
            None,
            "*/*",
            "application/json",
            "APPLICATION/JSON",
            "application/*",
            "text/html, application/json",
            " application / json ;q=0.1",
            "application/json;charset=utf-8",
            "application/json;q=",
            "*/*;q=0, application/json",
        ):
            self.assertEqual(header != "application/json;q=", accepts(header, JSON), header)

    def test_what_is_not(self) -> None:
        for header in ("", "text/*", "application/x-protobuf", "application/json;q=0", "*/*;q=0.0"):
            self.assertFalse(accepts(header, JSON), header)

    def test_json_is_preferred(self) -> None:
        self.assertEqual(JSON, preferred(f"{PROTOBUF}, {JSON}"))
        self.assertEqual(PROTOBUF, preferred(f"{PROTOBUF}, {JSON};q=0"))
        self.assertIsNone(preferred("text/html"))


class BodyTests(SynchronousTestCase):
    """Bodies become messages, and messages bodies."""

    def test_both_types_say_the_same(self) -> None:
        call = Call(type=Call.REVIVE)
        call.framework_id.value = "f"
        for kind in (JSON, PROTOBUF):
            self.assertEqual(call, read(Call, kind, media.WRITERS[kind](call)))

    def test_the_name_of_the_message_is_told(self) -> None:
        error = self.assertRaises(Unreadable, read, Event, PROTOBUF, b"\xff")
        self.assertEqual(
            (400, "Failed to parse body into Event protobuf"), (error.status, error.why)
        )

    def test_json_is_ascii_and_means_the_same(self) -> None:
        event = Event(type=Event.ERROR)
        event.error.message = "\u00e4 \U0001f600 \u2028"
        text = media.to_ascii_json(event)
        self.assertTrue(text.isascii())
        self.assertEqual(event, from_json(Event, text))
        self.assertEqual("\u00e4 \U0001f600 \u2028", json.loads(text)["error"]["message"])
