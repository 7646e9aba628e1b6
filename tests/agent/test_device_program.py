"""Programs that say which devices a cgroup may use: what they decide, run by a machine of ours."""

from __future__ import annotations

import resource
import struct
from errno import EPERM

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.agent.containers import device_program
from mesoskit.agent.containers.device_program import DeviceError, Rule, assemble, rule
from tests.base import SynchronousTestCase

NUMBERS = st.none() | st.integers(0, 3)
RULES = st.lists(st.builds(Rule, st.integers(0, 2), NUMBERS, NUMBERS, st.integers(1, 7)))


def run(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """Run a program as a kernel does; what it never gets to must not be there."""
    registers = [0] * 11
    context = struct.pack("=III", access << 16 | kind, major, minor)
    code = [struct.unpack_from("=BBhi", program, at) for at in range(0, len(program), 8)]
    at = 0
    while True:
        operation, pair, offset, immediate = code[at]
        target, source = pair & 15, pair >> 4
        at += 1
        if operation == 0x61:
            (registers[target],) = struct.unpack_from("=I", context, offset)
        elif operation == 0xBC:
            registers[target] = registers[source]
        elif operation == 0xB7:
            registers[target] = immediate
        elif operation == 0x54:
            registers[target] &= immediate
        elif operation == 0x74:
            registers[target] >>= immediate
        elif operation == 0x55:
            at += offset if registers[target] != immediate else 0
        elif operation == 0x5D:
            at += offset if registers[target] != registers[source] else 0
        elif operation == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"instruction {operation:#x}")


def allows(one: Rule, kind: int, access: int, major: int, minor: int) -> bool:
    """Say whether a rule alone allows something."""
    return (
        one.kind in (0, kind)
        and not access & ~one.access
        and one.major in (None, major)
        and one.minor in (None, minor)
    )


class LoadTests(SynchronousTestCase):
    """Kernels that count programs as locked memory."""

    def setUp(self) -> None:
        self.limits = [(65536, 65536)]
        self.loads = 0
        self.patch(resource, "getrlimit", lambda which: self.limits[-1])
        self.patch(resource, "setrlimit", lambda which, limits: self.limits.append(limits))
        self.patch(device_program, "_loaded", self.load)

    def load(self, code: bytes) -> int:
        self.loads += 1
        if self.limits[-1][0] != resource.RLIM_INFINITY:
            raise PermissionError(EPERM, "Operation not permitted")
        return 7

    def test_a_program_is_loaded_without_that_limit_which_stays(self) -> None:
        self.assertEqual(device_program._load(b""), 7)
        self.assertEqual(self.limits[-1], (65536, 65536))

    def test_where_that_may_not_be_raised_nothing_is_loaded(self) -> None:
        def refuse(which: int, limits: tuple[int, int]) -> None:
            raise ValueError("not allowed to raise maximum limit")

        self.patch(resource, "setrlimit", refuse)
        self.assertRaises(PermissionError, device_program._load, b"")
        self.assertEqual(self.loads, 1)

    def test_where_there_is_no_such_limit_it_is_not_tried_again(self) -> None:
        self.limits = [(resource.RLIM_INFINITY,) * 2]
        self.patch(device_program, "_loaded", self.refuse)
        self.assertRaises(PermissionError, device_program._load, b"")
        self.assertEqual(self.loads, 1)

    def refuse(self, code: bytes) -> int:
        self.loads += 1
        raise PermissionError(EPERM, "Operation not permitted")


class ProgramTests(SynchronousTestCase):
    """From entries to decisions."""

    @given(RULES, st.integers(1, 2), st.integers(1, 7), st.integers(0, 3), st.integers(0, 3))
    def test_it_allows_what_one_of_its_rules_allows(
        self, rules: list[Rule], kind: int, access: int, major: int, minor: int
    ) -> None:
        asked = kind, access, major, minor
        expected = any(allows(one, *asked) for one in rules)
        self.assertEqual(run(assemble(rules), *asked), int(expected))

    def test_entries(self) -> None:
        for entry, expected in (
            ("a", Rule(0, None, None, 7)),
            ("c 1:3 rwm", Rule(2, 1, 3, 7)),
            ("b *:* m", Rule(1, None, None, 1)),
            ("c 136:* rw", Rule(2, 136, None, 6)),
            ("a 4:5 r", Rule(0, 4, 5, 2)),
        ):
            self.assertEqual(rule(entry), expected)

    def test_what_is_no_entry_is_refused_with_what_would_be(self) -> None:
        for entry in (
            "",
            "d 1:3 r",
            "c 1 r",
            "c 1:x r",
            "c 1:3 rx",
            "c 1:-3 r",
            "c 1:99999999999 r",
        ):
            error = self.assertRaises(DeviceError, rule, entry)
            self.assertIn(f"{entry!r} is no device: expected something like", str(error))
