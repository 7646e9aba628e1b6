"""CRAM-MD5 (RFC 2195), as Mesos has it: what is sent is raw, not base64.

The authenticator sends a text that it never sent before; the response is the principal, a blank,
and the HMAC-MD5 of that text under the secret, in hexadecimal digits.
"""

from hmac import compare_digest, digest
from typing import Any

from twisted.cred.credentials import IUsernameHashedPassword
from zope.interface import implementer

from mesoskit.wire.auth.credentials import Credential
from mesoskit.wire.auth.mechanisms import BrokenExchange


def challenge(nonce: bytes) -> bytes:
    """Return a challenge of these bytes, which are random: C{<digits.digits@mesos>}."""
    half = len(nonce) // 2
    first, second = (int.from_bytes(part, "big") for part in (nonce[:half], nonce[half:]))
    return b"<%d.%d@mesos>" % (first, second)


def response(principal: bytes, secret: bytes, challenge: bytes) -> bytes:
    """Return the response to a challenge."""
    return principal + b" " + digest(secret, challenge, "md5").hex().encode()


@implementer(IUsernameHashedPassword)
class CramClaim:
    """A response, and the challenge that it responds to."""

    def __init__(self, username: bytes, proof: bytes, challenge: bytes) -> None:
        self.username = username
        self._proof = proof
        self._challenge = challenge

    def checkPassword(self, password: Any) -> bool:
        """Tell whether the response was made with this secret."""
        secret = password.encode() if isinstance(password, str) else bytes(password)
        expected = digest(secret, self._challenge, "md5").hex().encode()
        return compare_digest(expected, self._proof)

    def farewell(self) -> None:
        """The mechanism has nothing by which the authenticator would prove itself."""


class CramServer:
    """The authenticator's side."""

    def __init__(self, nonce: bytes) -> None:
        self._challenge = challenge(nonce)

    def start(self, data: bytes) -> bytes:
        """Return the challenge."""
        if data:
            raise BrokenExchange("CRAM-MD5 does not begin with a response")
        return self._challenge

    def step(self, data: bytes) -> CramClaim:
        """Take the response; a name may have blanks, so the last one counts."""
        username, blank, proof = data.rpartition(b" ")
        if not blank:
            raise BrokenExchange("a CRAM-MD5 response is a principal, a blank and digits")
        return CramClaim(username, proof, self._challenge)


class CramClient:
    """The authenticatee's side."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential
        self.done = False

    def start(self) -> bytes:
        """Nothing: the other side begins."""
        return b""

    def step(self, data: bytes) -> bytes:
        """Respond, once: whoever wants more wants other texts signed."""
        if self.done:
            raise BrokenExchange("CRAM-MD5 has one challenge")
        if not data:
            raise BrokenExchange("the challenge is empty")
        self.done = True
        credential = self._credential
        return response(credential.principal.encode(), credential.secret.encode(), data)
