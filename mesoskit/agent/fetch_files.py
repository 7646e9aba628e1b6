"""What every part of the fetching program stands on: files in the sandbox, limits, names of URIs.

The standard library alone, as all of L{mesoskit.agent.fetch}.
"""

import os
import re
import time
from collections.abc import Callable
from typing import IO, NamedTuple, Protocol

CHUNK = 1 << 18

TOLD = 16 << 20
"""Bytes between two words on how far a transfer is."""

PAUSE = 10.0
"""Seconds between two lines in the log on how far a transfer is."""


class FetchFailed(Exception):
    """A URI cannot be fetched; the message says why, without naming it."""


class TooMuch(FetchFailed):
    """More would be written than may be."""


class Budget:
    """
    How much may yet be written, and whether somebody still waits for it.

    @ivar bytes: how many bytes; C{files}: how many files, directories and links.
    """

    def __init__(self, max_bytes: int, max_files: int) -> None:
        self.bytes = self._max_bytes = max_bytes
        self.files = self._max_files = max_files
        self._parent = os.getppid()

    def spend(self, count: int) -> None:
        """Pay for bytes. Raises L{FetchFailed} where there are not enough."""
        self.bytes -= count
        if self.bytes < 0:
            raise TooMuch(f"more than {self._max_bytes} bytes would be written")
        if os.getppid() != self._parent:
            raise FetchFailed("the agent is gone")

    def spend_file(self) -> None:
        """Pay for an entry of a directory."""
        self.files -= 1
        if self.files < 0:
            raise TooMuch(f"more than {self._max_files} files would be written")


def name_of(uri: str) -> str:
    """Return the file name under which a URI is fetched, as Mesos' C{Fetcher::basename} does."""
    if set("\\'\0") & set(uri):
        raise FetchFailed("illegal characters in it")
    scheme, found, rest = uri.partition("://")
    if found and len(scheme) > 1:
        if "/" not in rest or rest.index("/") + 1 >= len(rest):
            raise FetchFailed("malformed URI (missing path)")
        name = rest.rpartition("/")[2]
    else:
        name = uri.rstrip("/").rpartition("/")[2]
    if name in ("", ".", ".."):
        raise FetchFailed("malformed URI (no file name at its end)")
    return name


def create(name: str, mode: int = 0o644) -> IO[bytes]:
    """Create a file of the sandbox anew, in the place of whatever had its name."""
    try:
        os.unlink(name)
    except FileNotFoundError:
        pass
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(name, flags, mode), "r+b", buffering=0)


class Readable(Protocol):
    """What can be read piece by piece."""

    def read(self, size: int, /) -> bytes:
        """Return at most C{size} bytes, none at the end."""
        ...


def copy(source: Readable, target: IO[bytes], budget: Budget) -> int:
    """Copy a stream to its end; return how many bytes it had."""
    total = 0
    while data := source.read(CHUNK):
        budget.spend(len(data))
        write_all(target, data)
        total += len(data)
    return total


def write_all(target: IO[bytes], data: bytes) -> None:
    """Write to an unbuffered file, all of it."""
    view = memoryview(data)
    while view:
        view = view[target.write(view) :]


class Transfer:
    """
    One thing on its way here: what it may take, how far it is, whether it goes on at all.

    @ivar stall: seconds in which at least as many bytes have to come.
    @ivar total: how many bytes have come.
    @ivar expected: how many there will be, where somebody has said so.
    """

    def __init__(
        self,
        budget: Budget,
        stall: float,
        told: Callable[[int, int | None], None],
        log: Callable[[str], None],
    ) -> None:
        """
        @param told: is given C{total} and C{expected} now and then.
        @param log: takes a line.
        """
        self.stall = stall
        self.total = 0
        self.expected: int | None = None
        self._budget = budget
        self._told = told
        self._log = log
        self._untold = 0
        self._window = 0
        self._since = self._logged = time.monotonic()

    def expect(self, size: int | None) -> None:
        """Hear how big it is."""
        self.expected = size
        self._told(self.total, size)

    def took(self, count: int) -> None:
        """
        Hear that something came. Raises L{FetchFailed} where it is too much.

        Nothing may be told too: where somebody else does the work, it shows that he stalls.
        """
        self._budget.spend(count)
        self.total += count
        self._window += count
        self._untold += count
        if self._untold >= TOLD:
            self._untold = 0
            self._told(self.total, self.expected)
        now = time.monotonic()
        if now - self._logged >= PAUSE:
            self._logged = now
            of = "" if self.expected is None else f" of {self.expected}"
            self._log(f"{self.total}{of} bytes have come")
        if now - self._since >= self.stall:
            if self._window < now - self._since:
                raise FetchFailed(f"it stalled: {self._window} bytes in {self.stall:g} seconds")
            self._since, self._window = now, 0

    def finish(self) -> None:
        """Raise L{FetchFailed} where less has come than there was to be."""
        if self.expected is not None and self.total < self.expected:
            raise FetchFailed(f"it ended after {self.total} of {self.expected} bytes")


DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
"""Checksums that may follow a URI, and how many hexadecimal digits they have."""

_CHECKSUM = re.compile(r"#(sha\d+|md5)=([^#]*)\Z")


class Address(NamedTuple):
    """
    A URI, taken apart.

    @ivar uri: it, without its checksum.
    @ivar algorithm: of the checksum; empty where there is none.
    @ivar digest: in lower case.
    """

    uri: str
    algorithm: str = ""
    digest: str = ""


def address_of(value: str) -> Address:
    """
    Take the checksum off a URI: C{https://host/a.tgz#sha256=9f86d0...}, as pip writes it.

    Raises L{FetchFailed} where what stands there can be none.
    """
    uri = value.lstrip()
    found = _CHECKSUM.search(uri)
    if found is None:
        return Address(uri)
    algorithm, digest = found[1], found[2].lower()
    digits = DIGITS.get(algorithm)
    if digits is None:
        known = ", ".join(DIGITS)
        raise FetchFailed(f"checksum {algorithm!r} cannot be checked: {known} can")
    if len(digest) != digits or set(digest) - set("0123456789abcdef"):
        raise FetchFailed(f"{found[2]!r} is no {algorithm}: {digits} hexadecimal digits are wanted")
    return Address(uri[: found.start()], algorithm, digest)


def verify(file: IO[bytes], address: Address) -> None:
    """Compare a file with the checksum of its URI, if it has one. Raises L{FetchFailed}."""
    if not address.algorithm:
        return
    import hashlib

    file.seek(0)
    digest = hashlib.file_digest(file, address.algorithm).hexdigest()  # type: ignore[arg-type]
    if digest != address.digest:
        wanted = f"{address.algorithm} {address.digest} was wanted"
        raise FetchFailed(f"what came has {address.algorithm} {digest}, and {wanted}")
