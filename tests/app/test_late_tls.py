"""Tests of L{mesoskit.app.late_tls}: each in processes of its own, for it is about whole ones."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.base import SynchronousTestCase
from tests.wire.test_sockets import certificate

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_PATIENCE = 180.0
# What C{import cryptography} maps into a process.
_CRYPTOGRAPHY = "_rust.abi3.so"

# Talks to itself: listens by one endpoint string and dials by another.
_ECHO = """
import sys
from mesoskit.app.late_tls import leave_tls_for_later
leave_tls_for_later()
assert "OpenSSL" not in sys.modules
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorSSL
from twisted.internet.protocol import Factory, Protocol
from mesoskit.wire.endpoints import client_endpoint, server_endpoint
assert not IReactorSSL.providedBy(reactor)
home, first = sys.argv[1:]
if first != "nothing":
    __import__(first)
    assert IReactorSSL.providedBy(reactor), "TLS was asked for and is not there"

class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

class Ask(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello inside")
    def dataReceived(self, data):
        print(data.decode(), "TLS" in type(self.transport).__name__)
        reactor.stop()

def listening(port):
    where = port.getHost().port
    client = client_endpoint(reactor, f"tls:localhost:{where}:trustRoots={home}")
    client.connect(Factory.forProtocol(Ask)).addErrback(failed)

def failed(failure):
    print(failure.getTraceback())
    reactor.stop()

text = f"ssl:0:interface=127.0.0.1:privateKey={home}/pair.pem:certKey={home}/pair.pem"
server_endpoint(reactor, text).listen(Factory.forProtocol(Echo)).addCallbacks(listening, failed)
reactor.callLater(120, reactor.stop)
reactor.run()
"""


class LateTLS(SynchronousTestCase):
    """TLS that is left out comes back as a whole."""

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="tls-")
        self.addCleanup(temporary.cleanup)
        self.home = Path(temporary.name)
        (self.home / "pair.pem").write_bytes(certificate())

    def python(self, code: str, *arguments: str) -> str:
        """Return what a program prints."""
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=_CHECKOUT,
            check=False,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_endpoint_strings_for_tls_work_when_first_asked_for(self) -> None:
        said = self.python(_ECHO, str(self.home), "nothing")
        self.assertEqual(said, "hello inside True\n")

    def test_program_that_was_spared_the_endpoints_gets_them_with_tls(self) -> None:
        code = _ECHO.replace("leave_tls_for_later()", "leave_tls_for_later(endpoints=False)")
        for first in ("nothing", "twisted.internet.endpoints", "twisted.internet.ssl", "treq"):
            said = self.python(code, str(self.home), first)
            self.assertEqual(said, "hello inside True\n", first)

    def test_whatever_asks_first_brings_tls_back(self) -> None:
        for first in ("twisted.internet.ssl", "twisted.protocols.tls", "treq"):
            said = self.python(_ECHO, str(self.home), first)
            self.assertEqual(said, "hello inside True\n", first)

    def test_program_that_has_its_reactor_already_is_left_alone(self) -> None:
        said = self.python(
            "from twisted.internet import reactor\n"
            "import sys\n"
            "before = list(sys.meta_path)\n"
            "from mesoskit.app.late_tls import leave_tls_for_later\n"
            "leave_tls_for_later()\n"
            "print(sys.meta_path == before, 'OpenSSL' in sys.modules)\n"
        )
        self.assertEqual(said, "True True\n")

    @contextmanager
    def master(self, *flags: str) -> Iterator[tuple[int, int]]:
        """Run a real master; gives its process id and its port."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("MESOS_")}
        with subprocess.Popen(
            [
                str(Path(sys.executable).parent / "twistd"),
                "--nodaemon",
                "--pidfile=",
                "--logfile=-",
                "mesos-master",
                "--registry=in_memory",
                f"--work_dir={self.home}/w",
                *flags,
            ],
            cwd=self.home,
            env={**own, "PYTHONPATH": str(_CHECKOUT), "PYTHONWARNINGS": ""},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                seen = ""
                for line in process.stdout:
                    seen += line
                    found = re.search(r" starting on (\d+)$", line.rstrip())
                    if found:
                        yield process.pid, int(found[1])
                        break
                else:
                    self.fail(f"the master did not start: {seen}")
            finally:
                process.terminate()
                process.communicate(timeout=_PATIENCE)

    def test_daemon_without_tls_does_not_load_it(self) -> None:
        with self.master("--ip=127.0.0.1", "--port=0") as (pid, port):
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=_PATIENCE)
            answer.close()
            self.assertNotIn(_CRYPTOGRAPHY, Path(f"/proc/{pid}/maps").read_text())
        self.assertEqual(answer.status, 200)

    def test_daemon_listens_with_tls_where_it_is_told_to(self) -> None:
        pair = f"{self.home}/pair.pem"
        listen = f"--listen=ssl:0:interface=127.0.0.1:privateKey={pair}:certKey={pair}"
        trusted = ssl.create_default_context(cafile=pair)
        with self.master(listen) as (pid, port):
            with (
                socket.create_connection(("127.0.0.1", port), _PATIENCE) as plain,
                trusted.wrap_socket(plain, server_hostname="localhost") as inside,
            ):
                inside.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                self.assertIn(b" 200 ", inside.recv(4096).split(b"\r\n")[0])
            self.assertIn(_CRYPTOGRAPHY, Path(f"/proc/{pid}/maps").read_text())
