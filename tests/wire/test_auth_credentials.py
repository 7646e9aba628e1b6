"""Credentials and their files: what is taken, what is refused and how, and changes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.wire.auth.credentials import (
    Credential,
    CredentialError,
    credential_file,
    credentials_file,
    parse_credential,
    parse_credentials,
)
from mesoskit.wire.auth.saslprep import is_prepared
from tests.base import SynchronousTestCase

SECRET = "pl4nted-s3cret"


def refusal(parse: Callable[[str, str], Any], text: str) -> str:
    """Return why a text is not taken, C{""} where it is."""
    try:
        parse(text, "f")
    except CredentialError as error:
        return str(error)
    return ""


class CredentialTests(SynchronousTestCase):
    """One credential."""

    def test_secret_is_not_shown(self) -> None:
        self.assertNotIn(SECRET, repr(Credential("p", SECRET)))

    def test_what_cannot_be_one_is_refused(self) -> None:
        for principal, secret, why in (
            ("", "s", "principal must be a text"),
            ("p", "", "secret must be a text"),
            (None, "s", "principal must be a text"),
            ("p", 7, "secret must be a text"),
            ("p" * 1025, "s", "has 1025 bytes, more than 1024"),
            ("p", "s" * 1_000_000, "has 1000000 bytes, more than 4096"),
            ("p\0", "s", "zero character"),
            ("\ud800", "s", "no text that UTF-8 can hold"),
        ):
            with self.assertRaisesRegex(CredentialError, why):
                Credential(principal, secret)  # type: ignore[arg-type]


class TextTests(SynchronousTestCase):
    """The JSON of files; what is wrong is named with its line."""

    def test_one(self) -> None:
        text = '{"principal": "p", "secret": "s"}'
        self.assertEqual(parse_credential(text, "f"), Credential("p", "s"))

    def test_many(self) -> None:
        one, other = '{"principal": "a b", "secret": "{s}"}', '{"secret":"t","principal":"c"}'
        text = f'{{"credentials": [{one}, {other}]}}'
        self.assertEqual(parse_credentials(text, "f"), {"a b": "{s}", "c": "t"})
        self.assertEqual(parse_credentials('{"credentials": []}', "f"), {})

    def test_line_of_what_is_wrong_is_named(self) -> None:
        for lines, why in (
            (["{", ' "credentials": [', "  nonsense"], "f, line 3: no JSON"),
            (["", "[]"], "f, line 1: expected"),
            (['{"credentials": {}}'], "f, line 1: expected"),
            (['{"credentials": [], "more": 1}'], "f, line 1: expected"),
            (
                [
                    '{"credentials": [',
                    '{"principal": "{\\"", "secret": "s"},',
                    '{"principal": "q"}]}',
                ],
                "f, line 3: credential 2 must be",
            ),
            (
                ['{"credentials": [', '{"principal": "p", "secret": "s"},', "", "7]}"],
                "f, line 2: credential 2 must be",
            ),
            (
                [
                    '{"credentials": [{"principal": "p", "secret": "s"},',
                    '{"principal": "", "secret": "s"}]}',
                ],
                "f, line 2: credential 2: the principal must be",
            ),
            (
                [
                    '{"credentials": [{"principal": "p", "secret": "s"},',
                    '{"principal": "p", "secret": "s"}]}',
                ],
                "f, line 2: principal 'p' is there twice",
            ),
            (
                ['{"credentials": [{"principal": "p", "secret": "s", "role": "x"}]}'],
                "f, line 1: credential 1 must be",
            ),
            (["[" * 100_000], "f, line 1: nested too deeply"),
        ):
            with self.assertRaises(CredentialError) as caught:
                parse_credentials("\n".join(lines), "f")
            self.assertIn(why, str(caught.exception))

    @given(st.text(max_size=80))
    def test_no_error_shows_a_secret(self, noise: str) -> None:
        for text in (
            f'{{"principal": "p", "secret": "{SECRET}" {noise}',
            f'{{"principal": 7, "secret": "{SECRET}"}}',
            f'{{"principal": "", "secret": "{SECRET}"}}',
        ):
            assert SECRET not in refusal(parse_credential, text)

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["principal", "secret", "credentials"]), inner, max_size=3
                )
            ),
        )
    )
    def test_anything_is_read_or_refused(self, given: object) -> None:
        for parse in (parse_credential, parse_credentials):
            why = refusal(parse, json.dumps(given))
            assert not why or why.startswith("f, line 1: ")


class FileTests(SynchronousTestCase):
    """Files that hold them."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.write('{"principal": "p", "secret": "s"}')

    def write(self, text: str | bytes, mode: int = 0o600) -> None:
        """Replace the file, as editors do."""
        new = self.path.with_suffix(".new")
        new.write_bytes(text.encode() if isinstance(text, str) else text)
        new.chmod(mode)
        new.rename(self.path)

    def test_read_by_its_path_and_by_its_address(self) -> None:
        for path in (str(self.path), f"file://{self.path}"):
            self.assertEqual(credential_file(path).current(), Credential("p", "s"))

    def test_what_others_may_read_is_refused(self) -> None:
        for mode in (0o640, 0o604, 0o620, 0o610, 0o666):
            self.path.chmod(mode)
            with self.assertRaisesRegex(
                CredentialError, f"others than its owner may use it .mode {mode:04o}.*chmod 600"
            ):
                credential_file(str(self.path))
        self.path.chmod(0o400)
        credential_file(str(self.path))

    def test_what_is_no_such_file_is_refused(self) -> None:
        pipe = self.path.with_suffix(".pipe")
        os.mkfifo(pipe, 0o600)
        directory = self.path.with_suffix(".d")
        directory.mkdir(0o700)
        for path, why in (
            (self.path.with_suffix(".none"), "No such file or directory"),
            (pipe, "is no file"),
            (directory, "is no file|Is a directory"),
            ("a\0b", "is no path"),
        ):
            with self.assertRaisesRegex(CredentialError, why):
                credential_file(str(path))
        self.write(b'{\n"principal": "\xff"}')
        with self.assertRaisesRegex(CredentialError, "line 2: is not UTF-8"):
            credential_file(str(self.path))

    def test_change_is_seen(self) -> None:
        file = credential_file(str(self.path))
        self.write('{"principal": "p", "secret": "new"}')
        self.assertEqual(file.current().secret, "new")

    def test_change_for_the_worse_is_logged_once_and_not_followed(self) -> None:
        logged: list[str] = []
        file = credential_file(str(self.path))
        self.patch(file, "log", _Log(logged))
        self.write(f'{{"principal": "p", "secret": "{SECRET}"')
        for _ in range(3):
            self.assertEqual(file.current().secret, "s")
        self.write('{"principal": "p", "secret": "t"}', 0o644)
        self.assertEqual(file.current().secret, "s")
        self.path.unlink()
        self.assertEqual(file.current().secret, "s")
        self.write('{"principal": "p", "secret": "t"}')
        self.assertEqual(file.current().secret, "t")
        self.assertEqual(len(logged), 4, logged)
        self.assertIn("line 1: no JSON", logged[0])
        self.assertIn("others than its owner", logged[1])
        self.assertIn("No such file", logged[2])
        self.assertNotIn(SECRET, "".join(logged))

    def test_unchanged_is_not_read_again(self) -> None:
        self.write('{"credentials": [{"principal": "p", "secret": "s"}]}')
        file = credentials_file(str(self.path))
        self.assertIs(file.current(), file.current())


class _Log:
    def __init__(self, logged: list[str]) -> None:
        self.logged = logged

    def error(self, text: str, **fields: object) -> None:
        self.logged.append(text.format(**fields))

    info = error


class SaslprepTests(SynchronousTestCase):
    """What SASLprep would leave as it is (RFC 4013, section 3)."""

    def test_texts(self) -> None:
        for text, prepared in (
            ("user", True),
            ("a b,c=d", True),
            ("USER", True),
            ("", False),
            ("a\tb", False),
            ("a\x7f", False),
            ("I\u00adX", False),  # a soft hyphen would go
            ("\u00aa", False),  # would become an a
            ("\u2168", False),  # would become IX
            ("\u00e9", True),
            ("e\u0301", False),  # would become one letter
            ("a\u00a0b", False),  # would become a blank
            ("\u0627\u0031", False),  # from the right, and a digit at the end
            ("\u0627\u0628", True),
            ("\ue000", False),  # private use
            ("\U0001f600", False),  # not in Unicode 3.2
        ):
            self.assertEqual(is_prepared(text), prepared, ascii(text))
