"""Bulk links: many answers in turn, none ahead of its credit, and an end to every wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from mesoskit.messages.bulk_pb2 import READ, Ask, Cancel, Chunk, Credit, Failure, Head
from mesoskit.wire.bulk_answers import Answers, Given
from mesoskit.wire.bulk_asks import Asks, Question
from mesoskit.wire.link import Hello
from mesoskit.wire.memory import MEMORY_SETTINGS, Pipe, connect
from mesoskit.wire.settings import BulkSettings
from tests.base import SynchronousTestCase
from tests.wire.ears import text

SETTINGS = BulkSettings(chunk=10, window=40, answers=4, patience=30.0, stalled=300.0)

MASTER = Hello(1, "test")
AGENT = Hello(2, "test", purpose=1)


def _ask(number: int, path: str, credit: int = 40) -> Ask:
    ask = Ask(transfer=number, operation=READ, credit=credit)
    ask.parameters.add(name="path", value=path)
    return ask


_small = st.integers(0, 4)
_messages = st.one_of(
    st.builds(lambda n, s: Head(transfer=n, status=200, length=s), _small, st.integers(0, 60)),
    st.builds(lambda n, s: Chunk(transfer=n, data=b"x" * s), _small, st.integers(0, 45)),
    st.builds(lambda n: Failure(transfer=n, why="no"), _small),
    st.builds(lambda n, s: Credit(transfer=n, bytes=s), _small, st.integers(0, 2**63)),
    st.builds(lambda n: Cancel(transfer=n), _small),
    st.builds(_ask, _small, st.sampled_from("gh"), st.integers(0, 99)),
)
"""What a peer might say at any time."""


class File:
    """A body that counts what was read of it; C{late} reads wait for L{go_on}."""

    def __init__(self, data: bytes, late: bool = False) -> None:
        self.data = data
        self.length = len(data)
        self.position = 0
        self.closed = 0
        self.late = late
        self.waiting: list[tuple[Deferred[bytes], bytes]] = []

    def read(self, most: int) -> Deferred[bytes]:
        assert not self.closed
        piece = self.data[self.position : self.position + most]
        self.position += len(piece)
        if not self.late:
            return succeed(piece)
        deferred: Deferred[bytes] = Deferred()
        self.waiting.append((deferred, piece))
        return deferred

    def go_on(self) -> None:
        deferred, piece = self.waiting.pop(0)
        deferred.callback(piece)

    def close(self) -> None:
        self.closed += 1


class Reader:
    """Remembers an answer; C{limit} is how many bytes it takes before it pauses."""

    def __init__(self, limit: int | None = None) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.length = -1
        self.body = b""
        self.over = ""
        self.limit = limit
        self.question: Question | None = None

    def head(self, status: int, headers: Mapping[str, str], length: int) -> None:
        assert not self.status
        assert not self.over
        self.status, self.headers, self.length = status, headers, length

    def data(self, data: bytes) -> None:
        assert self.status
        assert not self.over
        self.body += data
        if self.limit is not None and len(self.body) >= self.limit:
            assert self.question is not None
            self.question.pause()

    def ended(self) -> None:
        assert not self.over
        self.over = "ended"

    def failed(self, status: int, why: str) -> None:
        assert not self.over
        self.over = f"{status} {why}"


class Bench(SynchronousTestCase):
    """A master that asks and an agent that answers."""

    settings = SETTINGS

    def setUp(self) -> None:
        self.clock = Clock()
        self.given: dict[str, Any] = {}
        self.asked: list[Ask] = []
        self.ends: list[str] = []
        self.idle = 0
        self.asks = Asks(
            self.clock, lambda _, why: self.ends.append(why), self._idle, self.settings
        )
        self.answers = Answers(self.find, self.clock, settings=self.settings)
        self.pipe: Pipe = connect(
            self.asks, self.answers, MASTER, AGENT, settings=MEMORY_SETTINGS, bulk=True
        )
        self.pipe.pump()

    def _idle(self, _: Asks) -> None:
        self.idle += 1

    def find(self, ask: Ask) -> Deferred[Given]:
        self.asked.append(ask)
        found = self.given[ask.parameters[0].value]
        if isinstance(found, Exception):
            return fail(found)
        return found if isinstance(found, Deferred) else succeed(found)

    def ask(self, path: str, limit: int | None = None, head_only: bool = False) -> Reader:
        reader = Reader(limit)
        reader.question = self.asks.ask(READ, {"path": path}, "ops", reader, head_only)
        self.pipe.pump()
        return reader

    def from_agent(self, *messages: Message) -> None:
        """Say something that only a faulty agent would."""
        for message in messages:
            self.pipe.b.send(message)
        self.pipe.pump()

    def from_master(self, *messages: Message) -> None:
        for message in messages:
            self.pipe.a.send(message)
        self.pipe.pump()


class AnswerTests(Bench):
    """What is asked is answered whole."""

    def test_an_answer_in_one_piece_or_in_many(self) -> None:
        for size in (0, 1, 9, 10, 11, 40, 41, 1000):
            data = bytes(n % 251 for n in range(size))
            for body in (data, File(data)):
                self.given["f"] = Given(206, {"Content-Type": "x"}, body)
                reader = self.ask("f")
                self.assertEqual(
                    (206, {"Content-Type": "x"}, size, data, "ended"),
                    (reader.status, reader.headers, reader.length, reader.body, reader.over),
                )
                if isinstance(body, File):
                    self.assertEqual(1, body.closed)
        self.assertEqual((0, 0), (len(self.asks), len(self.answers)))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_what_was_asked_arrives_with_who_asked(self) -> None:
        self.given["a/ä"] = Given(200)
        self.ask("a/ä")
        (ask,) = self.asked
        self.assertEqual(
            (READ, "ops", "path"), (ask.operation, ask.principal, ask.parameters[0].name)
        )

    def test_only_the_head(self) -> None:
        file = File(b"x" * 100)
        self.given["f"] = Given(200, {}, file)
        reader = self.ask("f", head_only=True)
        self.assertEqual((100, b"", "ended"), (reader.length, reader.body, reader.over))
        self.assertEqual((0, 1), (file.position, file.closed))

    def test_answers_take_turns(self) -> None:
        files = {name: File(name.encode() * 300, late=True) for name in "abc"}
        readers = {}
        for name, file in files.items():
            self.given[name] = Given(200, {}, file)
            readers[name] = self.ask(name)
        order = ""
        for _ in range(30):
            for name, file in files.items():
                if file.waiting:
                    order += name
                    file.go_on()
                    self.pipe.pump()
                    break
        self.assertEqual("abc" * 10, order)

    def test_one_question_has_no_answer(self) -> None:
        self.given["f"] = ValueError("unheard of")
        reader = self.ask("f")
        self.assertEqual("503 the agent could not answer", reader.over)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.given["g"] = Given(200, {}, b"fine")
        self.assertEqual(b"fine", self.ask("g").body)

    def test_a_file_that_becomes_shorter_breaks_off(self) -> None:
        file = File(b"x" * 25)
        file.length = 60
        self.given["f"] = Given(200, {}, file)
        reader = self.ask("f")
        self.assertEqual(25, len(reader.body))
        self.assertIn("became shorter", reader.over)
        self.assertEqual(1, file.closed)

    def test_idle_is_told_after_the_last_answer(self) -> None:
        late: Deferred[Given] = Deferred()
        self.given.update(f=Given(200), late=late)
        self.ask("late")
        self.ask("f")
        self.assertEqual(0, self.idle)
        late.callback(Given(200))
        self.pipe.pump()
        self.assertEqual(1, self.idle)


class CreditTests(Bench):
    """Nothing is read that may not be sent, nor sent that nobody takes."""

    def test_a_reader_that_pauses_stops_the_reading(self) -> None:
        file = File(b"x" * 1000)
        self.given["f"] = Given(200, {}, file)
        reader = self.ask("f", limit=10)
        self.assertEqual(SETTINGS.window, file.position)
        self.assertEqual(SETTINGS.window, self.asks.waiting)
        reader.limit = None
        assert reader.question is not None
        reader.question.resume()
        self.pipe.pump()
        self.assertEqual((b"x" * 1000, "ended"), (reader.body, reader.over))

    def test_one_slow_reader_does_not_hold_up_the_others(self) -> None:
        self.given["f"] = Given(200, {}, b"f" * 1000)
        self.given["g"] = Given(200, {}, b"g" * 1000)
        slow, quick = self.ask("f", limit=10), self.ask("g")
        self.assertEqual((40, 1000), (len(slow.body), len(quick.body)))

    def test_a_link_that_takes_nothing_stops_the_reading(self) -> None:
        file = File(b"x" * 1000, late=True)
        self.given["f"] = Given(200, {}, file)
        reader = self.ask("f")
        self.pipe.stall(True, self.pipe.b)
        file.go_on()
        self.pipe.pump()
        self.assertEqual([], file.waiting)
        self.pipe.stall(False, self.pipe.b)
        while not reader.over:
            if file.waiting:
                file.go_on()
            self.pipe.pump()
        self.assertEqual(1000, len(reader.body))

    def test_more_credit_than_a_window_is_not_believed(self) -> None:
        file = File(b"x" * 1000)
        self.given["f"] = Given(200, {}, file)
        self.ask("f", limit=1)
        self.from_master(Credit(transfer=1, bytes=10**9))
        self.assertEqual(2 * SETTINGS.window, file.position)

    def test_a_cancelled_answer_is_let_go(self) -> None:
        file = File(b"x" * 1000, late=True)
        late: Deferred[Given] = Deferred()
        self.given.update(f=Given(200, {}, file), late=late)
        reader = self.ask("f")
        file.go_on()
        self.pipe.pump()
        unfound = self.ask("late")
        for one in (reader, unfound):
            assert one.question is not None
            one.question.cancel()
            one.question.cancel()
        self.pipe.pump()
        self.assertEqual((0, 0), (len(self.asks), len(self.answers)))
        self.assertEqual(1, file.closed)
        file.go_on()
        second = File(b"y")
        late.callback(Given(200, {}, second))
        self.pipe.pump()
        self.assertEqual(1, second.closed)
        self.assertEqual((10, ""), (len(reader.body), reader.over))
        self.assertEqual([], self.clock.getDelayedCalls())

    @given(st.data())
    @limits(max_examples=60, deadline=None)
    def test_whatever_readers_do_each_gets_his_bytes_and_memory_is_bounded(self, data: Any) -> None:
        self.setUp()
        sizes = data.draw(st.lists(st.integers(0, 400), min_size=1, max_size=4))
        files = [File(bytes([n]) * size) for n, size in enumerate(sizes)]
        readers = []
        for n, file in enumerate(files):
            self.given[str(n)] = Given(200, {}, file)
            readers.append(self.ask(str(n)))
        for _ in range(30):
            n = data.draw(st.integers(0, len(sizes) - 1))
            question = readers[n].question
            assert question is not None
            data.draw(st.sampled_from([question.pause, question.resume]))()
            self.pipe.pump()
            self.assertLessEqual(self.asks.waiting, SETTINGS.window * len(sizes))
            for file, reader in zip(files, readers, strict=True):
                self.assertLessEqual(file.position - len(reader.body), SETTINGS.window)
        for reader in readers:
            assert reader.question is not None
            reader.question.resume()
            self.pipe.pump()
        for n, (size, reader, file) in enumerate(zip(sizes, readers, files, strict=True)):
            self.assertEqual((bytes([n]) * size, "ended"), (reader.body, reader.over))
            self.assertEqual(1, file.closed)


class TimeTests(Bench):
    """Every wait ends."""

    def test_an_agent_that_finds_nothing_in_time(self) -> None:
        late: Deferred[Given] = Deferred()
        self.given["f"] = late
        reader = self.ask("f")
        self.clock.advance(29)
        self.assertEqual("", reader.over)
        self.clock.advance(1)
        self.assertEqual("504 the agent has not gone on for 30 s", reader.over)
        self.pipe.pump()
        self.assertEqual(0, len(self.answers))
        late.callback(Given(200))

    def test_an_agent_that_stops_in_the_middle(self) -> None:
        file = File(b"x" * 1000, late=True)
        self.given["f"] = Given(200, {}, file)
        reader = self.ask("f")
        for _ in range(5):
            self.clock.advance(20)
            file.go_on()
            self.pipe.pump()
        self.clock.advance(30)
        self.assertEqual("504 the agent has not gone on for 30 s", reader.over)
        self.pipe.pump()
        file.go_on()
        self.assertEqual(1, file.closed)

    def test_a_reader_that_takes_nothing_any_more(self) -> None:
        file = File(b"x" * 1000)
        self.given["f"] = Given(200, {}, file)
        reader = self.ask("f", limit=1)
        self.clock.advance(299)
        self.assertEqual("", reader.over)
        self.clock.advance(1)
        self.pipe.pump()
        self.assertEqual("504 nothing was taken for 300 s", reader.over)
        self.assertEqual((1, 0), (file.closed, len(self.answers)))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_master_that_gives_no_credit_any_more(self) -> None:
        file = File(b"x" * 1000)
        self.given["f"] = Given(200, {}, file)
        self.from_master(_ask(1, "f", credit=5))
        self.assertEqual(5, file.position)
        self.clock.advance(300)
        self.assertEqual((1, 0), (file.closed, len(self.answers)))


class EndTests(Bench):
    """A lost link is the end of all answers; nonsense is the end of the link."""

    def test_a_link_that_is_lost(self) -> None:
        file = File(b"x" * 1000)
        self.given["f"] = Given(200, {}, file)
        late: Deferred[Given] = Deferred()
        self.given["late"] = late
        readers = [self.ask("f", limit=1), self.ask("late")]
        self.pipe.cut("unplugged")
        for reader in readers:
            self.assertEqual("503 the agent's bulk link was lost: unplugged", reader.over)
        self.assertEqual((1, ["unplugged"]), (file.closed, self.ends))
        second = File(b"y")
        late.callback(Given(200, {}, second))
        self.assertEqual(1, second.closed)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_too_many_questions_are_refused(self) -> None:
        self.given["late"] = Deferred()
        for _ in range(4):
            self.ask("late")
        self.assertEqual("503 4 files are being read here already", self.ask("late").over)

    def test_what_a_master_must_not_say(self) -> None:
        for messages in (
            [text("hello")],
            [_ask(0, "f")],
            [_ask(2, "f"), _ask(2, "f")],
            [_ask(2, "f"), _ask(1, "f")],
            [Head(transfer=1, status=200, length=0)],
        ):
            self.setUp()
            self.given["f"] = Given(200)
            self.from_master(*messages)
            self.assertIsNone(self.answers.link, messages)

    def test_what_an_agent_must_not_say(self) -> None:
        head = Head(transfer=1, status=200, length=20)
        for messages in (
            [text("hello")],
            [_ask(1, "f")],
            [Head(transfer=2, status=200, length=0)],
            [Chunk(transfer=1, data=b"x")],
            [head, head],
            [head, Chunk(transfer=1, data=b"")],
            [head, Chunk(transfer=1, data=b"x" * 21)],
            [Head(transfer=1, status=200, length=100), Chunk(transfer=1, data=b"x" * 41)],
            [head, Chunk(transfer=1, data=b"x" * 15), Chunk(transfer=1, data=b"x" * 15)],
        ):
            self.setUp()
            self.given["late"] = Deferred()
            reader = self.ask("late")
            self.from_agent(*messages)
            self.assertTrue(self.ends, messages)
            self.assertTrue(reader.over.startswith("503"), messages)

    def test_what_comes_after_the_end_of_an_answer_is_passed_over(self) -> None:
        self.given["f"] = Given(200, {}, b"x")
        self.ask("f")
        self.from_agent(Chunk(transfer=1, data=b"x"), Failure(transfer=1, why="late"))
        self.from_master(Credit(transfer=1, bytes=5), Cancel(transfer=1), Cancel(transfer=77))
        self.assertEqual([], self.ends)

    @given(st.booleans(), st.lists(_messages, max_size=12))
    @limits(max_examples=200, deadline=None)
    def test_whatever_is_said_the_link_ends_or_all_is_in_order(
        self, to_master: bool, messages: list[Message]
    ) -> None:
        self.setUp()
        files = [File(b"x" * 100), File(b"y" * 5), File(b"")]
        self.given = {"f": Given(200, {}, files[0]), "g": Given(404, {}, files[1])}
        self.given["h"] = Given(200, {}, files[2])
        reader = self.ask("f", limit=1)
        for message in messages:
            (self.pipe.b if to_master else self.pipe.a).send(message)
            self.pipe.pump()
        for _ in range(3):
            self.clock.advance(300)
            self.pipe.pump()
        self.assertTrue(reader.over)
        self.assertEqual((0, 0), (len(self.asks), len(self.answers)))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(1, files[0].closed)


class SettingsTests(SynchronousTestCase):
    """Limits that cannot work are refused."""

    def test_what_cannot_work(self) -> None:
        for wrong in (
            {"chunk": 0},
            {"chunk": 1024 * 1024},
            {"window": 1},
            {"answers": 0},
            {"answers": 64},
            {"patience": 0.0},
            {"stalled": -1.0},
        ):
            with self.assertRaises(ValueError):
                BulkSettings(**wrong)
