"""RecordIO: any fragmentation gives the same records, and limits hold."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.wire import recordio
from mesoskit.wire.recordio import Decoder
from tests.base import SynchronousTestCase


def decode(decoder: Decoder, data: bytes, cuts: list[int]) -> list[bytes]:
    """Feed the data cut at these places."""
    records: list[bytes] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in pairwise(edges):
        records += decoder.feed(data[begin:end])
    return records


class RecordIOTests(SynchronousTestCase):
    """Encoder and decoder."""

    def test_record_has_its_length_before_it(self) -> None:
        self.assertEqual(b"20\n" + b"x" * 20, recordio.encode(b"x" * 20))
        self.assertEqual(b"0\n", recordio.encode(b""))

    @given(st.lists(st.binary(max_size=50), max_size=10), st.lists(st.integers(0), max_size=20))
    def test_any_fragmentation_gives_the_same(self, records: list[bytes], cuts: list[int]) -> None:
        decoder = Decoder()
        data = b"".join(map(recordio.encode, records))
        self.assertEqual(records, decode(decoder, data, cuts))
        self.assertEqual((0, None), (decoder.buffered, decoder.error))

    def test_incomplete_record_is_held(self) -> None:
        decoder = Decoder()
        self.assertEqual([], list(decoder.feed(b"10\nabc")))
        self.assertEqual(3, decoder.buffered)
        self.assertEqual([b"abcdefghij"], list(decoder.feed(b"defghij")))

    def test_record_over_the_limit_ends_the_stream(self) -> None:
        decoder = Decoder(limit=10)
        self.assertEqual([b"ok"], list(decoder.feed(b"2\nok11\nabc")))
        self.assertIn("11 bytes is over the limit of 10", str(decoder.error))
        self.assertEqual([], list(decoder.feed(b"2\nok")))
        self.assertEqual(0, decoder.buffered)

    @given(st.lists(st.integers(0), max_size=20))
    def test_what_is_no_length_ends_the_stream(self, cuts: list[int]) -> None:
        for wrong in (b"x\n", b"-1\n", b"\n", b" 1\nx", b"1 \nx", b"0x1\n", b"9" * 40):
            decoder = Decoder()
            self.assertEqual([], decode(decoder, wrong, cuts))
            self.assertIn("expected the length of a record", str(decoder.error))
            self.assertEqual(0, decoder.buffered)
