"""SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding.

What is sent proves the secret to each side without giving it away: whoever listens must try
secrets one by one, each at the price of thousands of hashes. Here the authenticator proves
itself too; CRAM-MD5 has nothing of that kind.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Callable
from hashlib import pbkdf2_hmac, sha256
from hmac import compare_digest, digest
from typing import Any, Final

from twisted.cred.credentials import IUsernameHashedPassword
from zope.interface import implementer

from mesoskit.wire.auth.credentials import Credential
from mesoskit.wire.auth.mechanisms import BrokenExchange

ITERATIONS: Final = 4096
"""How many hashes each guess costs: what RFC 7677 asks for at least."""

MOST_ITERATIONS: Final = 200_000
"""A server that asks for more is not served: it would stop us for a second or longer."""

_BEGINNING: Final = "a SCRAM exchange begins with n,,n=principal,r=nonce"
_REMEMBERED: Final = 16_384
_PRINTABLE: Final = frozenset(range(0x21, 0x7F)) - {0x2C}

Keys = tuple[bytes, bytes]
"""StoredKey and ServerKey of a secret."""


def _hmac(key: bytes, text: bytes) -> bytes:
    return digest(key, text, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


class SaltedSecrets:
    """
    The keys of secrets, derived once for each.

    One salt serves all of them, new at each start. A salt of its own for each principal would
    protect a store of hashes, and Mesos' file holds the secrets themselves; but keys derived on
    demand would tell by the time it takes whether a name is known.

    @param salt: at least 16 random bytes.

    @ivar remembered: of how many secrets the keys are kept; those that were derived first go
        first.
    """

    def __init__(self, salt: bytes, iterations: int = ITERATIONS) -> None:
        self.salt = salt
        self.iterations = iterations
        self.remembered = _REMEMBERED
        self._keys: OrderedDict[bytes, Keys] = OrderedDict()

    def keys(self, secret: bytes) -> Keys:
        """Return the keys of a secret; a few milliseconds the first time."""
        keys = self._keys.get(secret)
        if keys is None:
            salted = pbkdf2_hmac("sha256", secret, self.salt, self.iterations)
            stored = sha256(_hmac(salted, b"Client Key")).digest()
            keys = self._keys[secret] = stored, _hmac(salted, b"Server Key")
            if len(self._keys) > self.remembered:
                self._keys.popitem(last=False)
        return keys


@implementer(IUsernameHashedPassword)
class ScramClaim:
    """A client's last message, and all that was said before it."""

    def __init__(
        self, username: bytes, proof: bytes, said: bytes, keys: Callable[[bytes], Keys]
    ) -> None:
        self.username = username
        self._proof = proof
        self._said = said
        self._keys = keys
        self._signature: bytes | None = None

    def checkPassword(self, password: Any) -> bool:
        """Tell whether the proof was made with this secret."""
        secret = password.encode() if isinstance(password, str) else bytes(password)
        stored, server = self._keys(secret)
        client_key = _xor(self._proof, _hmac(stored, self._said))
        good = compare_digest(sha256(client_key).digest(), stored)
        signature = _hmac(server, self._said)
        self._signature = signature if good else None
        return good

    def farewell(self) -> bytes:
        """Return what proves that the secret is known here."""
        if self._signature is None:
            raise BrokenExchange("who believed the claim has not looked at its proof")
        return b"v=" + b64encode(self._signature)


class ScramServer:
    """The authenticator's side."""

    def __init__(self, nonce: bytes, salted: SaltedSecrets) -> None:
        self._own = b64encode(nonce)
        self._salted = salted
        self._header = b""
        self._nonce = b""
        self._said = b""
        self._username = b""

    def start(self, data: bytes) -> bytes:
        """Take the client's first message."""
        parts = data.split(b",", 2)
        if len(parts) < 3:
            raise BrokenExchange(_BEGINNING)
        binding, authzid, bare = parts
        if binding.startswith(b"p="):
            raise BrokenExchange("channel binding is not known here")
        if binding not in (b"n", b"y"):
            raise BrokenExchange(_BEGINNING)
        name, nonce = _attributes(bare, b"nr")
        self._username = _unescape(name)
        if authzid and authzid != b"a=" + name:
            raise BrokenExchange("nobody may act as somebody else here")
        self._header = data[: len(data) - len(bare)]
        self._nonce = _checked_nonce(nonce) + self._own
        salted = self._salted
        first = b"r=%b,s=%b,i=%d" % (self._nonce, b64encode(salted.salt), salted.iterations)
        self._said = bare + b"," + first
        return first

    def step(self, data: bytes) -> ScramClaim:
        """Take the client's final message."""
        unsigned, comma, proof = data.rpartition(b",p=")
        if not comma:
            raise BrokenExchange("a SCRAM proof is missing")
        header, nonce = _attributes(unsigned, b"cr")
        if _decoded(header) != self._header:
            raise BrokenExchange("channel binding differs from what was said before")
        if not compare_digest(nonce, self._nonce):
            raise BrokenExchange("the nonce is not the one of this exchange")
        raw = _decoded(proof)
        if len(raw) != sha256().digest_size:
            raise BrokenExchange(f"a SCRAM-SHA-256 proof has 32 bytes, not {len(raw)}")
        return ScramClaim(self._username, raw, self._said + b"," + unsigned, self._salted.keys)


class ScramClient:
    """The authenticatee's side."""

    def __init__(self, credential: Credential, nonce: bytes) -> None:
        self._credential = credential
        self._nonce = b64encode(nonce)
        name = credential.principal.replace("=", "=3D").replace(",", "=2C")
        self._bare = b"n=%b,r=%b" % (name.encode(), self._nonce)
        self._signature: bytes | None = None
        self.done = False

    def start(self) -> bytes:
        """Return the first message."""
        return b"n,," + self._bare

    def step(self, data: bytes) -> bytes | None:
        """Take the server's first message and prove ourselves; take its final one and see."""
        if self._signature is not None:
            self._conclude(data)
            return None
        nonce, salt, count = _attributes(data, b"rsi")
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise BrokenExchange("the nonce is not the one of this exchange")
        _checked_nonce(nonce)
        iterations = int(count) if count.isdigit() and len(count) < 10 else 0
        if not ITERATIONS <= iterations <= MOST_ITERATIONS:
            raise BrokenExchange(
                f"{_shown(count)} iterations; from {ITERATIONS} to {MOST_ITERATIONS} will do"
            )
        secret = self._credential.secret.encode()
        salted = pbkdf2_hmac("sha256", secret, _decoded(salt), iterations)
        client_key = _hmac(salted, b"Client Key")
        unsigned = b"c=biws,r=" + nonce
        said = b",".join((self._bare, data, unsigned))
        proof = _xor(client_key, _hmac(sha256(client_key).digest(), said))
        self._signature = _hmac(_hmac(salted, b"Server Key"), said)
        return unsigned + b",p=" + b64encode(proof)

    def _conclude(self, data: bytes) -> None:
        assert self._signature is not None
        if self.done:
            raise BrokenExchange("SCRAM is over, and more came")
        [signature] = _attributes(data, b"v")
        if not compare_digest(_decoded(signature), self._signature):
            raise BrokenExchange("the other side does not know the secret either")
        self.done = True


def _attributes(data: bytes, names: bytes) -> list[bytes]:
    """Return the values of these attributes, which come first and in order; more may follow."""
    parts = data.split(b",")
    values = []
    for number, name in enumerate(names):
        mark = b"%c=" % name
        if number >= len(parts) or not parts[number].startswith(mark):
            raise BrokenExchange(f"attribute {mark.decode()} is not where SCRAM has it")
        values.append(parts[number][2:])
    if any(part.startswith(b"m=") for part in parts):
        raise BrokenExchange("an extension is wanted that is not known here")
    return values


def _unescape(name: bytes) -> bytes:
    if name.count(b"=") != name.count(b"=2C") + name.count(b"=3D"):
        raise BrokenExchange("= must be =3D, and a comma =2C, in a principal")
    return name.replace(b"=2C", b",").replace(b"=3D", b"=")


def _checked_nonce(nonce: bytes) -> bytes:
    if not nonce or not _PRINTABLE.issuperset(nonce):
        raise BrokenExchange("a nonce is printable ASCII without commas")
    return nonce


def _decoded(text: bytes) -> bytes:
    try:
        return b64decode(text, validate=True)
    except Base64Error:
        raise BrokenExchange("what should be base64 is not") from None


def _shown(count: bytes) -> str:
    return repr(count[:12].decode("ascii", "replace"))
