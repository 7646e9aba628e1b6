"""Tokens: what is believed, what is not, and in whose words."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.wire.auth import jwt
from tests.base import SynchronousTestCase

KEY = b"0123456789abcdef0123456789abcdef"
NOW = 1000.7

#: RFC 7515, appendix A.1: a key and a token that others have made.
RFC_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
RFC_TOKEN = (
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header: Any, payload: Any, key: bytes = KEY) -> str:
    """Return a signed token of any JSON, or of any bytes."""
    parts = [
        encoded(one if isinstance(one, bytes) else json.dumps(one).encode())
        for one in (header, payload)
    ]
    said = ".".join(parts)
    return f"{said}.{encoded(hmac.digest(key, said.encode(), 'sha256'))}"


HS256 = {"alg": "HS256"}


class TokenTests(SynchronousTestCase):
    """Signed with HMAC-SHA-256."""

    def why(self, given: str, now: float = NOW) -> str:
        return str(self.assertRaises(jwt.InvalidToken, jwt.verify, given, KEY, now))

    def test_token_of_others(self) -> None:
        said = jwt.verify(RFC_TOKEN, urlsafe_b64decode(RFC_KEY), 1300819380.9)
        self.assertEqual("joe", said["iss"])
        self.assertIs(True, said["http://example.com/is_root"])

    def test_what_is_said_is_heard(self) -> None:
        claims = {"fid": "f", "eid": 'e"\\é', "cid": "c"}
        made = jwt.sign(claims, KEY)
        self.assertEqual(claims, jwt.verify(made, KEY, NOW))
        self.assertNotIn("=", made)
        head = urlsafe_b64decode(made.partition(".")[0] + "==")
        self.assertEqual({"alg": "HS256", "typ": "JWT"}, json.loads(head))

    def test_refusals_are_in_mesos_words(self) -> None:
        fine = jwt.sign({"fid": "f"}, KEY)
        head, payload, _ = fine.split(".")
        for one, why in (
            ("", "Expected 3 components in token, got 1"),
            ("a.b", "Expected 3 components in token, got 2"),
            ("a.b.c.d", "Expected 3 components in token, got 4"),
            ("*.b.c", "Failed to decode token header: Failed to base64url-decode: Invalid char"),
            (token(b"{", {}), "Failed to decode token header: Failed to parse into JSON:"),
            (token([], {}), "Failed to decode token header: Failed to parse into JSON:"),
            (token({"typ": 1, **HS256}, {}), "Token 'typ' is not a string"),
            (token({}, {}), "Failed to locate 'alg' in token JSON header"),
            (token({"alg": 7}, {}), "Token 'alg' field is not a string"),
            (token({"alg": "HS512"}, {}), "Unsupported token algorithm: HS512"),
            (token({"crit": [], **HS256}, {}), "Token 'crit' field is unsupported"),
            (
                token({"alg": "none"}, {}),
                'Token \'alg\' value "none" does not match, expected "HS256"',
            ),
            (token({"alg": "RS256"}, {}), "Token 'alg' value \"RS256\" does not match"),
            (f"{head}.*.c", "Failed to decode token payload: Failed to base64url-decode:"),
            (token(HS256, []), "Failed to decode token payload: Failed to parse into JSON:"),
            (token(HS256, {"exp": "x"}), "JSON payload 'exp' field is not a number"),
            (token(HS256, {"exp": True}), "JSON payload 'exp' field is not a number"),
            (token(HS256, {"exp": 999}), "Token has expired: exp(999) < now(1000)"),
            (token(HS256, {"exp": 999.9}), "Token has expired: exp(999) < now(1000)"),
            (f"{head}.{payload}.*", "Failed to base64url-decode token signature: Invalid char"),
            (f"{head}.{payload}.", "Token signature does not match"),
            (f"{head}.{payload}.AAAA", "Token signature does not match"),
            (jwt.sign({"fid": "f"}, KEY[::-1]), "Token signature does not match"),
        ):
            self.assertTrue(self.why(one).startswith(why), (one, self.why(one)))

    def test_time_is_looked_at(self) -> None:
        for expires in (1000, 1000.0, 10**400, float("inf")):
            self.assertTrue(jwt.verify(token(HS256, {"exp": expires}), KEY, NOW))
        for expires in (-(10**400), float("nan"), float("-inf"), 1e-300):
            self.assertIn("Token has expired", self.why(token(HS256, {"exp": expires})))

    def test_a_change_of_any_letter_is_noticed(self) -> None:
        made = jwt.sign({"fid": "f", "eid": "e"}, KEY)
        for number in range(len(made)):
            other = "A" if made[number] != "A" else "B"
            changed = f"{made[:number]}{other}{made[number + 1 :]}"
            # The last letter has bits that stand for nothing.
            if number < len(made) - 1:
                self.why(changed)

    def test_what_is_too_long_is_not_looked_at(self) -> None:
        self.why(jwt.sign({"x": "y" * 10_000}, KEY))

    def test_what_is_nested_too_deeply(self) -> None:
        self.why(token(HS256, b"[" * 3000 + b"]" * 3000))

    @given(st.one_of(st.text(), st.lists(st.text("ab_-=.", max_size=9), max_size=4).map(".".join)))
    def test_nonsense(self, given: str) -> None:
        self.why(given)

    @given(st.binary(max_size=40), st.binary(max_size=40))
    def test_nonsense_that_is_signed(self, header: bytes, payload: bytes) -> None:
        try:
            self.assertIsInstance(jwt.verify(token(header, payload), KEY, NOW), dict)
        except jwt.InvalidToken:
            pass

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        )
    )
    def test_any_json_that_is_signed(self, payload: Any) -> None:
        try:
            said = jwt.verify(token(HS256, payload), KEY, NOW)
        except jwt.InvalidToken as error:
            self.assertNotIn('"', str(error).replace('"HS256"', "").replace('"none"', ""))
        else:
            self.assertIsInstance(said, dict)
