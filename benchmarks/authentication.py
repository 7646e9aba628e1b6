"""What it costs to find out who asks over HTTP, in microseconds a request.

    python benchmarks/authentication.py

Basic is checked against a file of credentials, which is looked at each time; tokens are verified
and read.
"""

from __future__ import annotations

import json
import tempfile
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from pathlib import Path
from timeit import timeit

from twisted.internet.task import Clock

from mesoskit.web.authentication import Guard, Realm
from mesoskit.web.authentication_basic import BasicAuthenticator
from mesoskit.web.authentication_jwt import JwtAuthenticator
from mesoskit.wire.auth import jwt
from mesoskit.wire.auth.checkers import of_file
from mesoskit.wire.auth.credentials import credentials_file

NUMBER = 20_000
KEY = bytes(32)


class Asked:
    """A request with this C{Authorization}."""

    path, method, peer = "/state", "GET", "127.0.0.1:4000"

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def header(self, name: str) -> str | None:
        """Return a header."""
        return self._shown if name == "authorization" else None


def show(name: str, function: Callable[[], object]) -> None:
    """Print what a call costs, the best of five rounds."""
    best = min(timeit(function, number=NUMBER) for _ in range(5))
    print(f"{name:28}{best / NUMBER * 1e6:8.2f} us")


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "credentials.json")
        path.touch(0o600)
        secrets = [{"principal": f"p{number}", "secret": "s" * 64} for number in range(100)]
        path.write_text(json.dumps({"credentials": secrets}))
        checker = of_file(credentials_file(str(path)))
        guard = Guard("agent", Clock(), nameless=True)
        guard.ask(Realm.READONLY, BasicAuthenticator("r", checker))
        guard.ask(Realm.EXECUTORS, JwtAuthenticator("r", KEY, lambda: 0.0))
        basic = "Basic " + b64encode(b"p50:" + b"s" * 64).decode()
        claims = {"fid": "f" * 41, "eid": "e" * 10, "cid": "c" * 36}
        bearer = "Bearer " + jwt.sign(claims, KEY)
        for name, realm, shown in (
            ("nobody is asked", Realm.READWRITE, basic),
            ("Basic", Realm.READONLY, basic),
            ("token", Realm.EXECUTORS, bearer),
        ):
            show(name, partial(guard.identify, realm, Asked(shown)))


if __name__ == "__main__":
    main()
