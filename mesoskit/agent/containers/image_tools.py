"""Programs of others that the agent runs for a moment: skopeo and umoci."""

import os
import shutil
import signal
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mesoskit.agent.containers.image_names import ImageError

PACKAGES: Final = {name: name for name in ("skopeo", "umoci", "crun", "runc", "zstd")}
"""The Debian package that a program is in."""

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_MAX_OUTPUT: Final = 1 << 16
_PASSED: Final = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)


def find_tool(*names: str) -> str:
    """Return where the first of some programs is that is there. Raises L{ImageError}."""
    for name in names:
        path = shutil.which(name, path=PATH)
        if path is not None:
            return path
    packages = " or ".join(PACKAGES[name] for name in names)
    raise ImageError(
        f"images need {' or '.join(names)}, which is not installed on the agent's machine:"
        f" apt-get install {packages}"
    )


def find_runtime(wanted: str = "") -> str:
    """
    Return where what makes containers is: the quicker one where both are there. Raises
    L{ImageError}.

    @param wanted: its name or path; empty: any.
    """
    if not wanted.startswith("/"):
        return find_tool(wanted) if wanted else find_tool("crun", "runc")
    if not os.access(wanted, os.X_OK):
        raise ImageError(f"images need {wanted} (--oci_runtime), which cannot be executed")
    return wanted


def missing_tools(runtime: str = "") -> list[str]:
    """
    Return of each program without which no container is from an image why it is missing.

    @param runtime: as for L{find_runtime}.
    """
    missing = []
    for find, what in ((find_tool, "skopeo"), (find_tool, "umoci"), (find_runtime, runtime)):
        try:
            find(what)
        except ImageError as error:
            missing.append(str(error))
    return missing


def run_tool(
    reactor: Any, arguments: Sequence[str], timeout: float, home: str
) -> "Deferred[bytes]":
    """
    Run a program; give what it has written to its standard output. Cancelled, it is killed, and
    may be there for a moment yet.

    @param home: a directory in which it may keep what it likes.
    Fails with L{ImageError}: what it complained of.
    """
    environment = {"LANG": "C.UTF-8", "PATH": PATH, "HOME": home, "TMPDIR": home}
    environment |= {name: os.environ[name] for name in _PASSED if name in os.environ}
    run = _Run(reactor, arguments[0], timeout)
    try:
        reactor.spawnProcess(run, arguments[0], arguments, environment, path=home)
    except OSError as error:
        run.done.errback(ImageError(f"cannot run {arguments[0]}: {error.strerror}"))
    return run.done


class _Run(ProcessProtocol):
    """
    One run of a program. When C{done} fires it has ended for certain, unless somebody has
    cancelled that: then it is being killed.
    """

    transport: IProcessTransport

    def __init__(self, reactor: Any, name: str, timeout: float) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._kill("it was given up"))
        self._reactor = reactor
        self._name = os.path.basename(name)
        self._timeout = timeout
        self._timer: IDelayedCall | None = None
        self._output = b""
        self._errors = b""
        self._why = ""

    def connectionMade(self) -> None:
        """Wait for its end, for a while."""
        self.transport.closeStdin()
        why = f"it took more than {self._timeout:g} seconds"
        self._timer = self._reactor.callLater(self._timeout, self._kill, why)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep the beginning of its output, and the end of its complaints."""
        if childFD == 1:
            self._output = (self._output + data)[:_MAX_OUTPUT]
        else:
            self._errors = (self._errors + data)[-_MAX_OUTPUT:]

    def _kill(self, why: str) -> None:
        self._why = self._why or why
        try:
            self.transport.signalProcess(signal.SIGKILL)
        except Exception:  # it has just ended
            pass

    def processEnded(self, reason: Failure) -> None:
        """Say how it went."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self.done.called:
            return
        status = getattr(reason.value, "status", None)
        if not self._why and status == 0:
            self.done.callback(self._output)
            return
        self.done.errback(ImageError(f"{self._name}: {self._why or self._complaint(reason)}"))

    def _complaint(self, reason: Failure) -> str:
        """Return the last line that says what is wrong."""
        text = self._errors.decode("utf-8", "replace").strip()
        last = text.rpartition("\n")[2]
        for mark in ('msg="', "fatal: "):
            if mark in last:
                last = last.partition(mark)[2].removesuffix('"').replace('\\"', '"')
        return last.strip(" ⨯")[-2000:] or reason.getErrorMessage()
