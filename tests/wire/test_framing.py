"""Frames: any fragmentation, limits, and time in proportion to the bytes."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.wire.framing import LONGEST, Decoder, FrameTooLong, NotFramed, encode
from tests.base import SynchronousTestCase


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut the data at these places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


class FramingTests(SynchronousTestCase):
    """What goes in comes out."""

    def test_the_layout(self) -> None:
        self.assertEqual(encode(b"abc"), b"\x00\x00\x00\x03abc")
        self.assertEqual(encode(b""), b"\x00\x00\x00\x00")

    @given(st.lists(st.binary(max_size=40), max_size=20), st.lists(st.integers(0, 2000)))
    def test_any_fragmentation_gives_the_same_payloads(
        self, payloads: list[bytes], cuts: list[int]
    ) -> None:
        decoder = Decoder()
        out: list[bytes] = []
        for piece in pieces(b"".join(map(encode, payloads)), cuts):
            out += decoder.feed(piece)
        self.assertEqual(out, payloads)
        self.assertEqual((decoder.buffered, decoder.error), (0, None))

    @given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
    def test_noise_in_any_fragmentation_gives_the_same_and_holds_no_more_than_the_limit(
        self, noise: bytes, cuts: list[int]
    ) -> None:
        whole = Decoder(60)
        expected = list(whole.feed(noise))
        decoder = Decoder(60)
        out: list[bytes] = []
        for piece in pieces(noise, cuts):
            out += decoder.feed(piece)
            self.assertLessEqual(decoder.buffered, 64)
        self.assertEqual(out, expected)
        self.assertEqual(str(decoder.error), str(whole.error))
        self.assertEqual(decoder.buffered, whole.buffered)

    def test_a_frame_over_the_limit_is_an_error_after_those_before_it(self) -> None:
        for size in (1, 100):
            decoder = Decoder(10)
            stream = encode(b"one") + encode(b"x" * 10) + encode(b"x" * 11) + encode(b"two")
            out: list[bytes] = []
            for start in range(0, len(stream), size):
                out += decoder.feed(stream[start : start + size])
            self.assertEqual(out, [b"one", b"x" * 10])
            error = decoder.error
            assert isinstance(error, FrameTooLong)
            self.assertEqual((error.length, error.limit), (11, 10))
            self.assertEqual(decoder.buffered, 0)
            self.assertEqual(list(decoder.feed(encode(b"more"))), [])

    def test_a_frame_over_the_limit_is_known_by_its_header(self) -> None:
        decoder = Decoder(10)
        self.assertEqual(list(decoder.feed(b"\x00\x00\x00\x0b")), [])
        self.assertIsInstance(decoder.error, FrameTooLong)

    def test_something_else_is_told_from_a_frame(self) -> None:
        decoder = Decoder()
        self.assertEqual(list(decoder.feed(b"GET / HTTP/1.1")), [])
        self.assertIsInstance(decoder.error, NotFramed)
        self.assertIn("47 45 54 20", str(decoder.error))

    def test_the_limit_may_change_between_two_frames_of_one_piece(self) -> None:
        decoder = Decoder(5)
        out = []
        for payload in decoder.feed(encode(b"hello") + encode(b"x" * 50)):
            out.append(payload)
            decoder.limit = 100
        self.assertEqual(out, [b"hello", b"x" * 50])

    def test_what_is_too_long_is_not_encoded(self) -> None:
        self.assertEqual(len(encode(b"x" * LONGEST)), LONGEST + 4)
        self.assertRaises(FrameTooLong, encode, b"x" * (LONGEST + 1))
        self.assertRaises(FrameTooLong, encode, b"12345", 4)

    def test_an_announced_length_reserves_nothing(self) -> None:
        decoder = Decoder()
        list(decoder.feed(b"\x00\xff\xff\xff"))
        self.assertEqual(decoder.buffered, 4)


class TimeTests(SynchronousTestCase):
    """Twice as much takes about twice as long, not four times."""

    def seconds(self, data: bytes, size: int) -> float:
        best = 1e9
        for _ in range(3):
            decoder = Decoder()
            begin = time.process_time()
            for start in range(0, len(data), size):
                for _ in decoder.feed(data[start : start + size]):
                    pass
            best = min(best, time.process_time() - begin)
        return best

    def check(self, small: bytes, large: bytes, size: int) -> None:
        """C{large} is eight times C{small}; the square of that would be 64."""
        self.assertLess(self.seconds(large, size), 32 * self.seconds(small, size) + 0.02)

    def test_one_big_frame_in_small_pieces(self) -> None:
        self.check(encode(b"x" * 200_000), encode(b"x" * 1_600_000), 50)

    def test_many_small_frames_in_one_piece(self) -> None:
        frame = encode(b"x" * 10)
        self.check(frame * 5_000, frame * 40_000, 1 << 30)

    def test_many_small_frames_across_pieces(self) -> None:
        frame = encode(b"x" * 10)
        self.check(frame * 5_000, frame * 40_000, 13)
