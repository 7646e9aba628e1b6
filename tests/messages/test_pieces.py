"""Big messages in pieces: the same as if they had been written whole."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from google.protobuf.message import Message

from mesoskit.messages.codec import from_json
from mesoskit.messages.master_pb2 import Event, Response
from mesoskit.messages.mesos_pb2 import Role
from mesoskit.messages.pieces import Form, Many, Tree, Written, byte_pieces, json_pieces, written
from tests.base import SynchronousTestCase


def _role(name: str) -> Message:
    return Role(name=name, weight=1.0)


def _whole(names: list[str]) -> Response:
    whole = Response(type=Response.GET_ROLES)
    whole.get_roles.SetInParent()
    for name in names:
        whole.get_roles.roles.add(name=name, weight=1.0)
    return whole


class PiecesTests(SynchronousTestCase):
    """Trees with lists of all lengths."""

    def trees(self) -> list[tuple[Response, dict[str, Any]]]:
        found = []
        for count in (0, 1, 7, 8, 9, 100):
            names = [f"r\u00e9{number}" * (number + 1) for number in range(count)]
            tree = {"type": "GET_ROLES", "get_roles": {"roles": Many(_role, names)}}
            found.append((_whole(names), tree))
        return found

    def test_bytes_are_those_of_the_whole_message(self) -> None:
        for whole, tree in self.trees():
            self.assertEqual(whole.SerializeToString(), b"".join(byte_pieces(Response, tree)))

    def test_json_is_that_of_the_whole_message(self) -> None:
        for whole, tree in self.trees():
            self.assertEqual(whole, from_json(Response, b"".join(json_pieces(tree))))

    def test_empty_lists_and_messages_are_written_in_json(self) -> None:
        tree = {"type": "GET_ROLES", "get_roles": {"roles": Many(_role, ())}, "get_weights": {}}
        self.assertEqual(
            {"type": "GET_ROLES", "get_roles": {"roles": []}, "get_weights": {}},
            json.loads(b"".join(json_pieces(tree))),
        )

    def test_long_lists_come_in_many_pieces(self) -> None:
        tree = self.trees()[-1][1]
        self.assertGreater(len(list(json_pieces(tree))), 10)
        self.assertGreater(len(list(byte_pieces(Response, tree))), 10)

    def test_members_that_are_written_elsewhere_come_with_their_breaks(self) -> None:
        def later(name: str, form: Form) -> Generator[bytes, None, bytes]:
            yield b""
            yield b""
            return written(_role(name), form)

        def at_once(name: str, form: Form) -> bytes:
            return written(_role(name), form)

        for whole, tree in self.trees():
            items = tree["get_roles"]["roles"].items
            for write in (later, at_once):
                again: Tree = {**tree, "get_roles": {"roles": Written(write, items)}}
                self.assertEqual(b"".join(json_pieces(tree)), b"".join(json_pieces(again)))
                self.assertEqual(whole.SerializeToString(), b"".join(byte_pieces(Response, again)))

    def test_everything_can_be_written_in_ascii(self) -> None:
        whole, tree = self.trees()[-1]
        shown = b"".join(json_pieces(tree, ascii_only=True))
        self.assertTrue(shown.isascii())
        self.assertEqual(whole, from_json(Response, shown))

    def test_numbers_stand_beside_messages(self) -> None:
        tree = {
            "type": "SUBSCRIBED",
            "subscribed": {"get_state": {}, "heartbeat_interval_seconds": 15.0},
        }
        event = Event(type=Event.SUBSCRIBED)
        event.subscribed.get_state.SetInParent()
        event.subscribed.heartbeat_interval_seconds = 15.0
        self.assertEqual(event, Event.FromString(b"".join(byte_pieces(Event, tree))))
        self.assertEqual(event, from_json(Event, b"".join(json_pieces(tree))))
