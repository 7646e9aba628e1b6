"""What a v1 client understands of answers to it, and of the places that it is given."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.wire.endpoints import EndpointError
from mesoskit.wire.v1_client_answers import Decoder, Head, parse_head
from mesoskit.wire.v1_client_place import HttpPlace
from tests.base import SynchronousTestCase
from tests.wire.test_v1_client import ACCEPTED, OK_STREAM, answer, chunk


class Hears:
    """Remembers what a decoder tells it."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def began(self, head: Head) -> None:
        self.heard.append([head.status, b"", False])

    def more(self, data: bytes) -> None:
        self.heard[-1][1] += data

    def ended(self) -> None:
        self.heard[-1][2] = True


class AnswerTests(SynchronousTestCase):
    """Bytes in, answers out."""

    def decode(self, *pieces: bytes, closed: bool = False) -> Any:
        hears = Hears()
        decoder = Decoder(hears)
        for piece in pieces:
            decoder.feed(piece)
        if closed:
            decoder.closed()
        return str(decoder.error) if decoder.error else [tuple(each) for each in hears.heard]

    ANSWERS = (
        ACCEPTED
        + answer(400, b"not so")
        + b"HTTP/1.1 100 Continue\r\n\r\n"
        + answer(204)
        + OK_STREAM
        + chunk(b"one")
        + b"5;like=this\r\ntwo22\r\n0\r\nTrailer: x\r\n\r\n"
        + answer(503, b"")
    )
    EXPECTED = (
        (202, b"", True),
        (400, b"not so", True),
        (204, b"", True),
        (200, b"onetwo22", True),
        (503, b"", True),
    )

    def test_answers_one_after_the_other(self) -> None:
        self.assertEqual(list(self.EXPECTED), self.decode(self.ANSWERS))

    @given(st.lists(st.integers(0, len(ANSWERS)), max_size=30))
    def test_any_fragmentation_gives_the_same(self, cuts: list[int]) -> None:
        edges = [0, *sorted(cuts), len(self.ANSWERS)]
        pieces = [self.ANSWERS[a:b] for a, b in pairwise(edges)]
        self.assertEqual(list(self.EXPECTED), self.decode(*pieces))

    @given(st.binary(max_size=200), st.booleans())
    def test_nothing_that_comes_raises(self, noise: bytes, begun: bool) -> None:
        self.decode((OK_STREAM if begun else b"HTTP/1.1 200 OK\r\n") + noise, closed=True)

    def test_an_answer_without_a_length_ends_with_the_connection(self) -> None:
        data = b"HTTP/1.1 200 OK\r\n\r\nthe rest"
        self.assertEqual([(200, b"the rest", False)], self.decode(data))
        self.assertEqual([(200, b"the rest", True)], self.decode(data, closed=True))

    def test_what_is_no_answer(self) -> None:
        for data, why in (
            (b"SSH-2.0-x\r\n", "expected an HTTP/1.1 answer, got b'SSH-2.0-x"),
            (b"HTTP/2 200 OK\r\n\r\n", "expected an HTTP/1.1 answer"),
            (b"HTTP/1.1 abc\r\n\r\n", "expected an HTTP/1.1 answer"),
            (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "expected a header"),
            (b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", "expected a header"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no length"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999\r\n\r\n", "no length"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                "is there twice",
            ),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "only chunked is known"),
            (OK_STREAM + b"xyz\r\n", "expected the length of a chunk"),
            (OK_STREAM + b"\r\n", "expected the length of a chunk"),
            (OK_STREAM + b"1\r\nabc\r\n", "longer than it said"),
            (OK_STREAM + b"1" * 2000, "too long"),
            (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40_000, "the head of an answer is longer"),
            (OK_STREAM + b"0\r\nx: " + b"y" * 40_000, "a trailer is longer"),
        ):
            self.assertIn(why, self.decode(data))

    def test_what_closes_the_connection(self) -> None:
        for raw, closes in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0", False),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close", True),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 0", True),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", False),
        ):
            self.assertEqual(closes, parse_head(raw).closes)


class PlaceTests(SynchronousTestCase):
    """Addresses, and where redirects lead."""

    def test_addresses(self) -> None:
        for given_, expected in (
            ("http://m1:5050", HttpPlace(False, "m1", 5050)),
            ("http://m1:5050/", HttpPlace(False, "m1", 5050)),
            ("https://m1", HttpPlace(True, "m1", 443)),
            ("http://127.0.0.1", HttpPlace(False, "127.0.0.1", 80)),
            ("http://[::1]:5050/api", HttpPlace(False, "::1", 5050, "/api")),
        ):
            self.assertEqual(expected, HttpPlace.parse(given_))
        self.assertEqual("http://[::1]:5050", str(HttpPlace.parse("http://[::1]:5050/api")))

    def test_what_is_no_address(self) -> None:
        for wrong, why in (
            ("http://", "the host is missing"),
            ("http://m1:0", "port 0"),
            ("http://m1:99999", "[Pp]ort"),
            ("http://m1:x", "[Pp]ort"),
            ("ftp://m1", "must begin with http"),
            ("http://m1/?a=b", "query"),
            ("http://m\x9c1", "no name"),
            ("http://a b", "no name"),
            ("http://" + "a" * 80, "no name"),
            ("http://m1/a b", "no path"),
            ("http://ops:s3cret@m1:5050", "credential="),
        ):
            with self.assertRaisesRegex(EndpointError, why) as caught:
                HttpPlace.parse(wrong)
            self.assertNotIn("s3cret", str(caught.exception))

    def test_redirects(self) -> None:
        here = HttpPlace.parse("https://m1:5050")
        path = "/master/api/v1/scheduler"
        self.assertEqual(HttpPlace(True, "m2", 5051, path), here.follow(f"//m2:5051{path}"))
        self.assertEqual(HttpPlace(True, "m1", 5050, path), here.follow(path))
        self.assertEqual(HttpPlace(True, "m2", 443), here.follow("https://m2"))
        with self.assertRaisesRegex(EndpointError, "it is not https"):
            here.follow("http://m2:5050")
        for nonsense in ("m2", "", "/a\r\nb", "//u:p@m2/"):
            self.assertRaises(EndpointError, here.follow, nonsense)
