"""Authenticators for C{--authenticators}, as a site would write them."""

from __future__ import annotations

from typing import Any

from mesoskit.wire.auth.authenticator import Authenticator
from mesoskit.wire.auth.checkers import of_file
from mesoskit.wire.auth.credentials import credentials_file
from mesoskit.wire.auth.mechanisms import CRAM_MD5


class CramMD5Alone(Authenticator):
    """What Mesos' own masters can do, and nothing else."""

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._mechanisms = {CRAM_MD5: self._mechanisms[CRAM_MD5]}


def cram_md5_alone(credentials: str) -> CramMD5Alone:
    """Make one, of the path of the credentials."""
    return CramMD5Alone(of_file(credentials_file(credentials)))
