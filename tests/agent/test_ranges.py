"""Parts of files, for who asks for one with the header C{Range}."""

from __future__ import annotations

import os

from tests.agent import test_endpoints
from tests.web.asking import Answer, ask

_SIZE = 1000


class RangeTests(test_endpoints.Cluster):
    """RFC 9110, 14: one range is answered; what is not understood is not there."""

    def setUp(self) -> None:
        super().setUp()
        self.data = os.urandom(_SIZE)
        (self.sandbox / "data").write_bytes(self.data)

    def part(self, given: str, name: str = "data", method: str = "GET") -> Answer:
        request = f"{method} /files/download?path={self.sandbox}/{name}"
        return ask(self.service.port, request, self.world.turn, Range=given)

    def test_a_part(self) -> None:
        for given, begin, end in (
            ("bytes=0-0", 0, 1),
            ("bytes=10-19", 10, 20),
            ("bytes=990-", 990, 1000),
            ("bytes=990-5000", 990, 1000),
            ("bytes=-10", 990, 1000),
        ):
            answer = self.part(given)
            self.assertEqual((206, self.data[begin:end]), (answer.status, answer.body), given)
            self.assertEqual(f"bytes {begin}-{end - 1}/1000", answer.headers["content-range"])
            self.assertEqual(str(end - begin), answer.headers["content-length"])

    def test_all_of_it(self) -> None:
        for given in ("bytes=0-", "bytes=-1000", "bytes=-5000", "bytes=0-999"):
            answer = self.part(given)
            self.assertEqual((200, self.data), (answer.status, answer.body), given)
            self.assertEqual("bytes", answer.headers["accept-ranges"])

    def test_what_is_not_understood_is_ignored(self) -> None:
        for given in ("", "bytes=", "bytes=-", "lines=1-2", "bytes=5-2", "bytes=0-1,5-6", "x" * 99):
            answer = self.part(given)
            self.assertEqual((200, self.data), (answer.status, answer.body), given)

    def test_a_part_that_is_not_there(self) -> None:
        for given in ("bytes=1000-", "bytes=5000-6000", "bytes=-0"):
            answer = self.part(given)
            self.assertEqual((416, b""), (answer.status, answer.body), given)
            self.assertEqual("bytes */1000", answer.headers["content-range"])

    def test_only_the_head(self) -> None:
        answer = self.part("bytes=10-19", method="HEAD")
        self.assertEqual(
            (206, b"", "10"), (answer.status, answer.body, answer.headers["content-length"])
        )

    def test_no_descriptor_is_left_open(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for given in ("bytes=1-2", "bytes=5000-", "bytes=-0") * 3:
            for method in ("GET", "HEAD"):
                self.part(given, method=method)
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))
