"""The numbers of the native stream that an operator may want to turn."""

from dataclasses import dataclass

from mesoskit.wire.framing import LONGEST


@dataclass(slots=True, frozen=True)
class StreamSettings:
    """
    Limits and times of native links. Raises L{ValueError} for what cannot work.

    @ivar record_limit: the longest frame sent or taken, in bytes; at most 16 MiB - 1.
    @ivar early_limit: the same before a peer is settled, so that strangers cost little.
    @ivar batch: what is sent within a turn is cut into frames of about so many bytes,
        where single messages are not longer.
    @ivar high_water: from so many bytes that the transport does not take on, a link is
        congested.
    @ivar low_water: below so many bytes it is not any more.
    @ivar outbound_cap: a peer for which more bytes than this wait is disconnected.
    @ivar hello_timeout: seconds within which a peer must have said hello.
    @ivar settle_timeout: seconds within which it must have proved after that who it is,
        where that is asked.
    @ivar dial_timeout: seconds that dialling may take, hello included.
    @ivar heartbeat: at least one frame is sent in each such span of seconds.
    @ivar missed_heartbeats: a peer that was silent for so many of the spans that it
        announced itself is lost.
    @ivar longest_heartbeat: the longest span that a peer may announce, in seconds.
    @ivar linger: seconds that a peer has to take what was sent before the link was
        closed; then it is cut.
    @ivar maximum_calls: calls that may wait for their answers, in each direction.
    @ivar maximum_unsettled: connections that one factory holds whose peers have not said, or not
        proved, who they are; one more takes the place of the oldest.
    @ivar unfinished_limit: bytes of frames that are not complete, of all links of a factory
        together; those of up to 64 KiB do not count.
    @ivar waiting_limit: bytes that wait for peers which do not read, of all links of a factory,
        or streams of a v1 API, together; up to 64 KiB of one do not count.
    @ivar maximum_links: connections that one factory holds at a time.
    """

    record_limit: int = LONGEST
    early_limit: int = 64 * 1024
    batch: int = 256 * 1024
    high_water: int = 1024 * 1024
    low_water: int = 256 * 1024
    outbound_cap: int = 32 * 1024 * 1024
    hello_timeout: float = 5.0
    settle_timeout: float = 15.0
    dial_timeout: float = 15.0
    heartbeat: float = 5.0
    missed_heartbeats: int = 3
    longest_heartbeat: float = 60.0
    linger: float = 5.0
    maximum_calls: int = 10_000
    maximum_unsettled: int = 4096
    maximum_links: int = 65_536
    unfinished_limit: int = 256 * 1024 * 1024
    waiting_limit: int = 512 * 1024 * 1024

    def __post_init__(self) -> None:
        if not 1024 <= self.record_limit <= LONGEST:
            raise ValueError(
                f"record_limit is {self.record_limit}; it must be from 1024 to {LONGEST}"
            )
        if not 0 <= self.low_water <= self.high_water <= self.outbound_cap:
            raise ValueError(
                f"low_water {self.low_water}, high_water {self.high_water} and outbound_cap"
                f" {self.outbound_cap} must not fall"
            )
        for name in (
            "early_limit",
            "batch",
            "outbound_cap",
            "hello_timeout",
            "settle_timeout",
            "dial_timeout",
            "linger",
            "missed_heartbeats",
            "maximum_calls",
            "maximum_unsettled",
            "maximum_links",
            "unfinished_limit",
            "waiting_limit",
        ):
            value = getattr(self, name)
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be more than 0")
        # Milliseconds are what a hello counts in.
        if not 0.001 <= self.heartbeat <= self.longest_heartbeat:
            raise ValueError(
                f"heartbeat is {self.heartbeat} s; it must be from 0.001 to longest_heartbeat,"
                f" {self.longest_heartbeat} s"
            )


@dataclass(slots=True, frozen=True)
class BulkSettings:
    """
    Limits and times of bulk links. Raises L{ValueError} for what cannot work.

    @ivar chunk: bytes that are read and sent at a time.
    @ivar window: bytes of an answer that may be under way, or wait for who reads it.
    @ivar answers: answers that one link carries at a time.
    @ivar patience: seconds within which the asked side must go on.
    @ivar stalled: seconds within which who reads an answer must go on.
    """

    chunk: int = 64 * 1024
    window: int = 512 * 1024
    answers: int = 32
    patience: float = 30.0
    stalled: float = 300.0

    def __post_init__(self) -> None:
        if not 1 <= self.chunk <= self.window:
            raise ValueError(
                f"chunk is {self.chunk}; it must be from 1 to window, which is {self.window}"
            )
        under_way, cap = self.window * self.answers, StreamSettings().outbound_cap
        if not self.window <= under_way < cap:
            raise ValueError(
                f"{self.answers} answers of {self.window} bytes under way are more than the"
                f" {cap} at which a link is cut off"
            )
        for name in ("patience", "stalled"):
            value = getattr(self, name)
            if value <= 0:
                raise ValueError(f"{name} is {value} s; it must be more than 0")
