"""Which devices a cgroup of version 2 may use: a program that the kernel asks (bpf(2)).

Version 2 has no files for that. In their place a program of type C{BPF_PROG_TYPE_CGROUP_DEVICE} is
attached to a group: it is asked whenever a process of the group, or of one below, opens or makes
a device. The rules are those of C{devices.allow} in version 1; whatever none of them allows is
refused. A program stays attached until its group is removed, whoever attached it.
"""

import ctypes
import os
import resource
import struct
from collections.abc import Collection
from errno import EPERM
from functools import cache
from typing import Final, NamedTuple

_SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD: Final = 5
_PROG_ATTACH: Final = 8
_PROG_DETACH: Final = 9
_PROG_GET_FD_BY_ID: Final = 13
_PROG_QUERY: Final = 16
_CGROUP_DEVICE_PROGRAM: Final = 15
_CGROUP_DEVICE: Final = 6
_ALLOW_MULTI: Final = 2
_ATTRIBUTES: Final = 128
"""Bytes of C{union bpf_attr}; a kernel that knows less takes more, where that is zero."""
_MOST_PROGRAMS: Final = 64

_KINDS: Final = {"b": 1, "c": 2}
_ACCESS: Final = {"m": 1, "r": 2, "w": 4}
_ANY: Final = 7
_LARGEST: Final = (1 << 31) - 1

# Of the instructions of the machine that runs such programs (RFC 9669).
_LOAD_WORD: Final = 0x61
_COPY: Final = 0xBC
_SET: Final = 0xB7
_AND: Final = 0x54
_SHIFT_RIGHT: Final = 0x74
_IF_NOT: Final = 0x55
_IF_NOT_SAME: Final = 0x5D
_EXIT: Final = 0x95

_libc = ctypes.CDLL(None, use_errno=True)


class DeviceError(Exception):
    """The kernel does not take a program, or a rule is none; the message says why."""


class Rule(NamedTuple):
    """
    One entry: devices, and what may be done with them.

    @ivar kind: 1 block devices, 2 character devices, 0 both.
    @ivar major: L{None}: any; C{minor} likewise.
    @ivar access: 1 for making, 2 for reading, 4 for writing, added up.
    """

    kind: int
    major: int | None
    minor: int | None
    access: int


_EVERYTHING: Final = Rule(0, None, None, _ANY)


def rule(entry: str) -> Rule:
    """Read an entry as C{devices.allow} has them: C{c 1:3 rwm}. Raises L{DeviceError}."""
    words = entry.split()
    try:
        if words == ["a"]:
            return _EVERYTHING
        kind, numbers, letters = words
        major, minor = (None if one == "*" else int(one) for one in numbers.split(":"))
        access = sum(_ACCESS[letter] for letter in set(letters))
        if any(one is not None and not 0 <= one <= _LARGEST for one in (major, minor)):
            raise ValueError(numbers)
        return Rule(0 if kind == "a" else _KINDS[kind], major, minor, access)
    except (KeyError, ValueError):
        raise DeviceError(f"{entry!r} is no device: expected something like 'c 1:3 rwm'") from None


def assemble(rules: Collection[Rule]) -> bytes:
    """
    Return a program that allows what one of the rules allows.

    It is given, in register 1, three words: what is asked in the upper half of the first, and
    the kind of device in the lower; the major number; the minor number.
    """
    code = [
        _instruction(_LOAD_WORD, 2, 1, 0),
        _instruction(_COPY, 3, 2),
        _instruction(_AND, 2, immediate=0xFFFF),
        _instruction(_SHIFT_RIGHT, 3, immediate=16),
        _instruction(_LOAD_WORD, 4, 1, 4),
        _instruction(_LOAD_WORD, 5, 1, 8),
    ]
    for one in rules:
        code += _allow(one)
        if one == _EVERYTHING:
            break  # a kernel refuses a program with what is never reached
    else:
        code += [_instruction(_SET, 0, immediate=0), _instruction(_EXIT)]
    return b"".join(code)


def _allow(one: Rule) -> list[bytes]:
    tests: list[tuple[int, int, int, int]] = []  # code, register, source, immediate
    if one.kind:
        tests.append((_IF_NOT, 2, 0, one.kind))
    if one.access != _ANY:
        # Of what is asked nothing may be left when what is allowed is taken away.
        tests += [(_COPY, 1, 3, 0), (_AND, 1, 0, one.access), (_IF_NOT_SAME, 1, 3, 0)]
    if one.major is not None:
        tests.append((_IF_NOT, 4, 0, one.major))
    if one.minor is not None:
        tests.append((_IF_NOT, 5, 0, one.minor))
    code = []
    for number, (operation, register, source, immediate) in enumerate(tests):
        jumps = operation in (_IF_NOT, _IF_NOT_SAME)
        # Over the other tests, and the two instructions that allow it.
        offset = len(tests) - number - 1 + 2 if jumps else 0
        code.append(_instruction(operation, register, source, offset, immediate))
    return [*code, _instruction(_SET, 0, immediate=1), _instruction(_EXIT)]


def _instruction(
    code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0
) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, immediate)


def attach(path: str, entries: Collection[str]) -> None:
    """
    Let the processes of a group use these devices and no others, in the place of what was said
    before. Raises L{DeviceError}, L{OSError}.

    @param path: the group's directory.
    """
    program = _load(assemble([rule(entry) for entry in entries]))
    try:
        group = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            before = attached(group)
            _bpf(_PROG_ATTACH, "IIII", group, program, _CGROUP_DEVICE, _ALLOW_MULTI)
            for number in before:
                _detach(group, number)
        finally:
            os.close(group)
    finally:
        os.close(program)


def attached(group: int) -> list[int]:
    """Return the numbers of the programs that a group, as a descriptor, has. Raises L{OSError}."""
    numbers = (ctypes.c_uint * _MOST_PROGRAMS)()
    attributes = _bpf(
        *(_PROG_QUERY, "IIIIQI4x", group, _CGROUP_DEVICE, 0, 0),
        *(ctypes.addressof(numbers), _MOST_PROGRAMS),
    )
    (count,) = struct.unpack_from("I", attributes, 24)
    return list(numbers[:count])


def _detach(group: int, number: int) -> None:
    try:
        descriptor = _descriptor(_PROG_GET_FD_BY_ID, "I", number)
    except FileNotFoundError:
        return
    try:
        _bpf(_PROG_DETACH, "III", group, descriptor, _CGROUP_DEVICE)
    except FileNotFoundError:
        pass
    finally:
        os.close(descriptor)


@cache
def wrong() -> str:
    """Return why this kernel takes no such programs; empty: it does."""
    try:
        os.close(_load(assemble(())))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _load(code: bytes) -> int:
    """
    Return a descriptor of a program.

    Until Linux 5.11 programs are counted as locked memory of whoever loads them, of which there
    may be little.
    """
    try:
        return _loaded(code)
    except PermissionError:
        limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        unlimited = resource.RLIM_INFINITY
        if limits[0] == unlimited:
            raise
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (unlimited, unlimited))
        except (OSError, ValueError):
            raise PermissionError(EPERM, os.strerror(EPERM)) from None
    try:
        return _loaded(code)
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)


def _loaded(code: bytes) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    # The kernel asks for a licence; what needs another is not called here.
    words = ctypes.create_string_buffer(b"Dual MIT/GPL")
    return _descriptor(
        *(_PROG_LOAD, "IIQQ", _CGROUP_DEVICE_PROGRAM, len(code) // 8),
        *(ctypes.addressof(instructions), ctypes.addressof(words)),
    )


def _descriptor(command: int, form: str, *values: int) -> int:
    result, _ = _call(command, form, *values)
    # The kernel sets close-on-exec on what it gives.
    return result


def _bpf(command: int, form: str, *values: int) -> bytes:
    return _call(command, form, *values)[1]


def _call(command: int, form: str, *values: int) -> tuple[int, bytes]:
    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        raise OSError(0, f"bpf(2) is not known for {os.uname().machine}")
    attributes = ctypes.create_string_buffer(struct.pack("=" + form, *values), _ATTRIBUTES)
    result: int = _libc.syscall(
        ctypes.c_long(number), command, attributes, ctypes.c_uint(_ATTRIBUTES)
    )
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result, attributes.raw
