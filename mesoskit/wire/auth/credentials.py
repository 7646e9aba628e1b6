"""Credentials: a principal and its secret, and the files that they are kept in.

C{{"principal": "p", "secret": "s"}} is the file of who has one (C{--credential});
C{{"credentials": [...]}} is the file of who must know many (C{--credentials}). Both are JSON,
as Mesos has them since 1.0 (C{src/credentials/credentials.hpp}).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from twisted.logger import Logger

from mesoskit.wire.files import FileRefused, read_file, read_text, stamp

LONGEST_PRINCIPAL: Final = 1024
"""Of a principal, in bytes of UTF-8."""

LONGEST_SECRET: Final = 4096
"""Of a secret, in bytes of UTF-8."""

SHORTEST_KEY: Final = 16
"""Of a key, in bytes."""

_OTHERS: Final = 0o077
_ADVICE: Final = "others than its owner may use it (mode {mode}); secrets want chmod 600 {path}"

_Kept = TypeVar("_Kept")


class CredentialError(ValueError):
    """A credential, or the file of it, cannot be used; the message never shows a secret."""


@dataclass(slots=True, frozen=True)
class Credential:
    """
    Who somebody is, and what proves it. Raises L{CredentialError}.

    @ivar principal: the name.
    @ivar secret: what nobody else knows.
    """

    principal: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        for name, text, longest in (
            ("principal", self.principal, LONGEST_PRINCIPAL),
            ("secret", self.secret, LONGEST_SECRET),
        ):
            if not isinstance(text, str) or not text:
                raise CredentialError(f"the {name} must be a text that is not empty")
            try:
                size = len(text.encode())
            except UnicodeEncodeError:
                raise CredentialError(f"the {name} is no text that UTF-8 can hold") from None
            if size > longest:
                raise CredentialError(f"the {name} has {size} bytes, more than {longest}")
            if "\0" in text:
                raise CredentialError(f"the {name} has a zero character in it")


def parse_credential(text: str, source: str) -> Credential:
    """
    Read one credential. Raises L{CredentialError}, naming C{source} and the line.

    @param source: what the text is from, for messages.
    """
    return _one(_json(text, source), source, 1)


def parse_credentials(text: str, source: str) -> dict[str, str]:
    """Read many; returns secrets by principal. Raises L{CredentialError}, as above."""
    given = _json(text, source)
    entries = given.get("credentials") if isinstance(given, dict) else None
    if not isinstance(entries, list) or len(given) != 1:
        raise CredentialError(
            f'{source}, line 1: expected {{"credentials": [{{"principal": ..., "secret": ...}}]}}'
        )
    # The first brace is the file's own; those of credentials follow, for none has another in it.
    lines = _brace_lines(text)
    next(lines)
    secrets: dict[str, str] = {}
    line = 1
    for number, entry in enumerate(entries, 1):
        line = next(lines, line) if isinstance(entry, dict) else line
        credential = _one(entry, source, line, f"credential {number}")
        if credential.principal in secrets:
            raise CredentialError(
                f"{source}, line {line}: principal {credential.principal!r} is there twice"
            )
        secrets[credential.principal] = credential.secret
    return secrets


def _one(given: Any, source: str, line: int, name: str = "the credential") -> Credential:
    if not isinstance(given, dict) or set(given) != {"principal", "secret"}:
        raise CredentialError(
            f'{source}, line {line}: {name} must be {{"principal": ..., "secret": ...}},'
            " both texts and nothing else"
        )
    try:
        return Credential(given["principal"], given["secret"])
    except CredentialError as error:
        raise CredentialError(f"{source}, line {line}: {name}: {error}") from None


def _json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        # Without the text itself, which error.doc holds.
        raise CredentialError(f"{source}, line {error.lineno}: no JSON: {error.msg}") from None
    except RecursionError:
        raise CredentialError(f"{source}, line 1: nested too deeply") from None


def _brace_lines(text: str) -> Iterator[int]:
    """Yield the line of each opening brace that is not within a string."""
    line = 1
    quoted = escaped = False
    for letter in text:
        if letter == "\n":
            line += 1
        elif quoted:
            if escaped:
                escaped = False
            elif letter == "\\":
                escaped = True
            elif letter == '"':
                quoted = False
        elif letter == '"':
            quoted = True
        elif letter == "{":
            yield line


def read_private(path: str) -> str:
    """Return the text of a file that L{read_private_bytes} takes; it must be UTF-8."""
    try:
        return read_text(path, denied=_OTHERS, advice=_ADVICE)
    except FileRefused as error:
        raise CredentialError(str(error)) from None


def read_private_bytes(path: str) -> bytes:
    """
    Return what is in a file that nobody but its owner can read.

    Raises L{CredentialError} where others can, as ssh refuses a private key, and where it is no
    such file: a secret that others may read is none.
    """
    try:
        return read_file(path, denied=_OTHERS, advice=_ADVICE)
    except FileRefused as error:
        raise CredentialError(str(error)) from None


def key_file(path: str) -> bytes:
    """
    Return the key in a file: all of it, a line's end at its end included, as Mesos reads it.
    Raises L{CredentialError}.

    @param path: may begin with C{file://}, as Mesos lets it.
    """
    path = path.removeprefix("file://")
    key = read_private_bytes(path)
    if len(key) < SHORTEST_KEY:
        raise CredentialError(f"{path}: a key of {len(key)} bytes can be guessed; 32 would do")
    return key


class PrivateFile(Generic[_Kept]):
    """
    A file of secrets, read again when it has changed.

    @ivar path: where it is.
    """

    log = Logger()

    def __init__(self, path: str, parse: Callable[[str, str], _Kept]) -> None:
        """
        Read it. Raises L{CredentialError}.

        @param path: may begin with C{file://}, as Mesos lets it.
        @param parse: gets the text, and the path for messages.
        """
        self.path = path.removeprefix("file://")
        self._parse = parse
        self._seen = stamp(self.path)
        self._kept = parse(read_private(self.path), self.path)

    def current(self) -> _Kept:
        """
        Return what it holds now.

        Where what it holds now cannot be used that is logged, once, and what it held before
        goes on to count.
        """
        seen = stamp(self.path)
        if seen != self._seen:
            self._seen = seen
            try:
                self._kept = self._parse(read_private(self.path), self.path)
                self.log.info("{path} has changed and was read again", path=self.path)
            except CredentialError as error:
                self.log.error("What it held before goes on to count: {error}", error=error)
        return self._kept


def credential_file(path: str) -> PrivateFile[Credential]:
    """Return the file of a credential. Raises L{CredentialError}."""
    return PrivateFile(path, parse_credential)


def credentials_file(path: str) -> PrivateFile[dict[str, str]]:
    """Return a file of many. Raises L{CredentialError}."""
    return PrivateFile(path, parse_credentials)
