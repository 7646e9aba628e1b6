"""Our mechanisms against those that others wrote: pure-sasl, GNU SASL, Cyrus SASL.

The last two are programs; C{make deps} installs them where they are wanted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import SkipTest

from puresasl.client import SASLClient

from mesoskit.wire.auth import cram_md5, scram
from mesoskit.wire.auth.credentials import Credential
from tests.base import SynchronousTestCase

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
PAIRS = [("ops", "s3cret"), ("a b", "with blank"), ("x", "y" * 100)]


def program(name: str) -> str:
    """Return where a program is; the test is skipped where it is nowhere."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise SkipTest(f"{name} is not installed; make deps installs it")
    return found


class Talk:
    """A program that says and hears base64, a line a message."""

    def __init__(self, *command: str, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        self.lines: list[bytes] = []

    def say(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def hear(self, good: Callable[[bytes], Any]) -> Any:
        """Return what C{good} makes of the first line that it makes something of."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            self.lines.append(line)
            result = good(line.rstrip(b"\n"))
            if result is not None:
                return result
        raise AssertionError(f"it never came: {self.lines}")

    def end(self) -> int:
        """Let a gsasl end, which asks once more when it is content; returns its status."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.say(b"")
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.process.wait(10)

    def close(self) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.process.wait(10)


def base64(line: bytes) -> bytes | None:
    """Return what a line of base64 and nothing else says."""
    try:
        return b64decode(line, validate=True) if line else None
    except ValueError:
        return None


class PureSaslTests(SynchronousTestCase):
    """pure-sasl, a client of CRAM-MD5."""

    def test_our_server_believes_it(self) -> None:
        for principal, secret in PAIRS:
            for given, good in ((secret, True), ("wrong", False)):
                theirs: Any = SASLClient(
                    "host", "mesos", "CRAM-MD5", username=principal, password=given
                )
                theirs.process(b"")
                ours = cram_md5.CramServer(os.urandom(24))
                claim = ours.step(theirs.process(ours.start(b"")))
                self.assertEqual(claim.username, principal.encode())
                self.assertEqual(claim.checkPassword(secret), good)


class GnuSaslTests(SynchronousTestCase):
    """The program gsasl."""

    def talk(self, *arguments: str) -> Talk:
        talk = Talk(program("gsasl"), "--quiet", "--no-starttls", "--no-cb", *arguments)
        self.addCleanup(talk.close)
        return talk

    def client(self, mechanism: str, principal: str, secret: str) -> Talk:
        return self.talk("--client", "-m", mechanism, "-a", principal, "-p", secret)

    def test_our_cram_md5_server_believes_its_client(self) -> None:
        for principal, secret in PAIRS:
            for given, good in ((secret, True), ("wrong", False)):
                theirs = self.client("CRAM-MD5", principal, given)
                ours = cram_md5.CramServer(os.urandom(24))
                theirs.say(b64encode(ours.start(b"")))
                claim = ours.step(theirs.hear(base64))
                self.assertEqual(claim.username, principal.encode())
                self.assertEqual(claim.checkPassword(secret), good)

    def test_our_scram_server_and_its_client_believe_each_other(self) -> None:
        for principal, secret in [*PAIRS, ("x,y=z", "s")]:
            for given, good in ((secret, True), ("wrong", False)):
                theirs = self.client("SCRAM-SHA-256", principal, given)
                salted = scram.SaltedSecrets(os.urandom(16))
                ours = scram.ScramServer(os.urandom(24), salted)
                theirs.say(b64encode(ours.start(theirs.hear(base64))))
                claim = ours.step(theirs.hear(base64))
                self.assertEqual(claim.username, principal.encode())
                self.assertEqual(claim.checkPassword(secret), good)
                if good:
                    theirs.say(b64encode(claim.farewell()))
                    self.assertEqual(theirs.end(), 0)

    def test_its_client_does_not_believe_a_server_without_the_secret(self) -> None:
        theirs = self.client("SCRAM-SHA-256", "ops", "s3cret")
        ours = scram.ScramServer(os.urandom(24), scram.SaltedSecrets(os.urandom(16)))
        theirs.say(b64encode(ours.start(theirs.hear(base64))))
        ours.step(theirs.hear(base64))
        theirs.say(b64encode(b"v=" + b64encode(b"0" * 32)))
        self.assertNotEqual(theirs.end(), 0)

    def server(self, mechanism: str, secret: str) -> Talk:
        return self.talk("--server", "-m", mechanism, "-p", secret)

    def test_its_cram_md5_server_believes_our_client(self) -> None:
        for principal, secret in PAIRS:
            for given, good in ((secret, True), ("wrong", False)):
                theirs = self.server("CRAM-MD5", secret)
                ours = cram_md5.CramClient(Credential(principal, given))
                theirs.say(b64encode(ours.step(theirs.hear(base64))))
                self.assertEqual(theirs.end() == 0, good)

    def test_its_scram_server_and_our_client_believe_each_other(self) -> None:
        for principal, secret in [*PAIRS, ("x,y=z", "s")]:
            theirs = self.server("SCRAM-SHA-256", secret)
            ours = scram.ScramClient(Credential(principal, secret), os.urandom(24))
            theirs.say(b64encode(ours.start()))
            proof = ours.step(theirs.hear(base64))
            assert proof is not None
            theirs.say(b64encode(proof))
            ours.step(theirs.hear(base64))
            self.assertTrue(ours.done)


class CyrusTests(SynchronousTestCase):
    """Cyrus SASL, which Mesos itself is built on: its sample server."""

    def setUp(self) -> None:
        self.sample = program("sasl-sample-server")
        self.directory = Path(tempfile.mkdtemp(prefix="mk-sasl-"))
        self.addCleanup(shutil.rmtree, self.directory)
        database = self.directory / "sasldb2"
        for principal, secret in PAIRS:
            subprocess.run(
                [program("saslpasswd2"), "-p", "-c", "-u", "localhost", "-f", database, principal],
                input=secret.encode(),
                check=True,
                capture_output=True,
            )
        for name in ("sample", "mesos"):
            (self.directory / f"{name}.conf").write_text(
                f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {database}\n"
                "mech_list: CRAM-MD5 SCRAM-SHA-256\n"
            )

    def talk(self, name: str, *arguments: str) -> Talk:
        talk = Talk(program(name), *arguments, environment={"SASL_CONF_PATH": str(self.directory)})
        self.addCleanup(talk.close)
        return talk

    def begin(self, mechanism: str, initial: bytes | None) -> Talk:
        """Come to know the server's mechanisms, and choose one."""
        theirs = self.talk("sasl-sample-server", *_SAMPLE, "-m", mechanism)
        theirs.hear(_said)
        theirs.say(_line(mechanism.encode() + (b"" if initial is None else b"\0" + initial)))
        return theirs

    def test_its_server_believes_our_cram_md5(self) -> None:
        for principal, secret in PAIRS:
            for given, good in ((secret, True), ("wrong", False)):
                theirs = self.begin("CRAM-MD5", None)
                ours = cram_md5.CramClient(Credential(principal, given))
                theirs.say(_line(ours.step(theirs.hear(_said))))
                self.assertEqual(theirs.hear(_ended), good)

    def test_its_server_and_our_scram_believe_each_other(self) -> None:
        for principal, secret in PAIRS:
            ours = scram.ScramClient(Credential(principal, secret), os.urandom(24))
            theirs = self.begin("SCRAM-SHA-256", ours.start())
            proof = ours.step(theirs.hear(_said))
            assert proof is not None
            theirs.say(_line(proof))
            ours.step(theirs.hear(_said))
            self.assertTrue(ours.done)

    def test_its_server_does_not_believe_scram_with_another_secret(self) -> None:
        ours = scram.ScramClient(Credential("ops", "wrong"), os.urandom(24))
        theirs = self.begin("SCRAM-SHA-256", ours.start())
        proof = ours.step(theirs.hear(_said))
        assert proof is not None
        theirs.say(_line(proof))
        self.assertFalse(theirs.hear(_ended))


_SAMPLE = ("-s", "mesos", "-d", "localhost", "-u", "localhost")


def _line(data: bytes) -> bytes:
    return b"C: " + b64encode(data)


def _said(line: bytes) -> bytes | None:
    return b64decode(line[3:]) if line.startswith(b"S: ") else None


def _ended(line: bytes) -> bool | None:
    if b"SASL Other: " in line:
        return False
    return True if b"Negotiation complete" in line else None
