"""Filters of system calls, from profiles such as Docker's, compiled by libseccomp.

C{linux/seccomp} in C{--isolation}; the format is that of Docker's C{seccomp.json}, as Mesos reads
it (C{src/linux/seccomp/seccomp_parser.cpp}). The filter itself is set by the launcher at the last
moment before the exec; with it comes that no set-user-ID program raises rights.
"""

import ctypes
import json
import os
import tempfile
from typing import Any, Final

from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.isolators import NOTHING, Isolated, Isolator, Preparation
from mesoskit.messages.mesos_pb2 import CapabilityInfo

_ACTIONS: Final = {
    "SCMP_ACT_KILL": 0x0,
    "SCMP_ACT_KILL_THREAD": 0x0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_OPERATORS: Final = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_EPERM: Final = 1
_UNKNOWN_CALL: Final = -1
_MAX_PROFILE: Final = 1 << 20


class _Compare(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class SeccompError(Exception):
    """A profile cannot be used; the message says what is wrong in it."""


def library() -> Any:
    """Return libseccomp. Raises L{SeccompError} where it is not there."""
    try:
        found = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError as error:
        raise SeccompError(
            "linux/seccomp needs libseccomp (Debian: apt-get install libseccomp2)"
        ) from error
    found.seccomp_init.restype = ctypes.c_void_p
    found.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    return found


def compile_profile(profile: Any, capabilities: int = -1) -> bytes:
    """
    Return the filter of a profile. Raises L{SeccompError}.

    @param profile: what the JSON of it says.
    @param capabilities: what the container can have, as bits, for rules that hold only with
        some of them (C{includes}, C{excludes}).
    """
    try:
        return _compile(library(), profile, capabilities)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SeccompError(f"not a seccomp profile: {type(error).__name__} {error}") from error


def _compile(seccomp: Any, profile: Any, capabilities: int) -> bytes:
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet", _EPERM))
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(default)))
    if not context:
        raise SeccompError(f"defaultAction {profile['defaultAction']} cannot be used")
    try:
        machine = os.uname().machine
        for line in profile.get("archMap") or ():
            if _architecture(line["architecture"]) == machine:
                for name in line.get("subArchitectures") or ():
                    token = seccomp.seccomp_arch_resolve_name(_architecture(name).encode())
                    seccomp.seccomp_arch_add(context, ctypes.c_uint32(token))
        for rule in profile.get("syscalls") or ():
            if holds(rule, capabilities, machine):
                action = _action(rule["action"], rule.get("errnoRet", _EPERM))
                if action != default:
                    _add(seccomp, context, rule, action)
        with tempfile.TemporaryFile() as file:
            if seccomp.seccomp_export_bpf(context, file.fileno()) != 0:
                raise SeccompError("libseccomp cannot make a filter of it")
            file.seek(0)
            return file.read()
    finally:
        seccomp.seccomp_release(context)


def _add(seccomp: Any, context: Any, rule: Any, action: int) -> None:
    names = rule["names"] if "names" in rule else [rule["name"]]
    given = rule.get("args") or ()
    arguments = (_Compare * len(given))()
    for place, argument in enumerate(given):
        arguments[place] = _Compare(
            argument["index"],
            _OPERATORS[argument["op"]],
            argument.get("value", 0),
            argument.get("valueTwo", 0),
        )
    for name in names:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_CALL:
            continue  # profiles name calls of kernels to come, and of other machines
        result = seccomp.seccomp_rule_add_array(
            context, ctypes.c_uint32(action), number, len(given), arguments
        )
        if result < 0:
            raise SeccompError(f"the rule for {name}: {os.strerror(-result)}")


def _action(name: str, number: int) -> int:
    if name not in _ACTIONS:
        raise SeccompError(f"unknown action {name!r}: {', '.join(_ACTIONS)} are known")
    code = _ACTIONS[name]
    return code | number if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else code


def _architecture(name: str) -> str:
    return name.removeprefix("SCMP_ARCH_").lower()


def holds(rule: Any, capabilities: int, machine: str) -> bool:
    """Say whether a rule is for containers with these capabilities on this machine."""
    only, never = rule.get("includes") or {}, rule.get("excludes") or {}
    own = {machine, "amd64" if machine == "x86_64" else machine}
    if only.get("arches") and not own & set(only["arches"]):
        return False
    if own & set(never.get("arches") or ()):
        return False
    if any(not _has(capabilities, name) for name in only.get("caps") or ()):
        return False
    return not any(_has(capabilities, name) for name in never.get("caps") or ())


def _has(capabilities: int, name: str) -> bool:
    known = CapabilityInfo.Capability
    number = dict(known.items()).get(name.removeprefix("CAP_"))
    return number is not None and bool(capabilities >> (number - 1000) & 1)


class SeccompIsolator(Isolator):
    """
    C{linux/seccomp}.

    @ivar directory: where profiles are (C{--seccomp_config_dir}).
    @ivar default: the one of containers that name none (C{--seccomp_profile_name}).
    """

    def __init__(self, directory: str, default: str | None, bounding: int | None = None) -> None:
        """
        @param bounding: the capabilities that containers can have.
        @raise SeccompError: where the default cannot be used.
        """
        super().__init__()
        self.directory = directory
        self.default = default
        self._bounding = -1 if bounding is None else bounding
        self._compiled: dict[str, tuple[float, bytes]] = {}
        if default is not None:
            self._filter(default)

    def prepare(self, container: Isolated) -> Preparation:
        """Want a filter."""
        info = container.container_info.linux_info.seccomp
        if container.staged or info.unconfined:
            if info.profile_name:
                raise ContainerError("seccomp: profile_name and unconfined exclude each other")
            return NOTHING
        name = info.profile_name or self.default
        if name is None:
            return NOTHING
        try:
            return Preparation(seccomp=self._filter(name))
        except SeccompError as error:
            raise ContainerError(str(error)) from error

    def _filter(self, name: str) -> bytes:
        """Return the filter of a profile, as it is now."""
        if name.startswith("/") or ".." in name.split("/"):
            raise SeccompError(f"seccomp profile {name!r}: a name below {self.directory} is wanted")
        path = os.path.join(self.directory, name)
        try:
            changed = os.stat(path).st_mtime
            known = self._compiled.get(name)
            if known is not None and known[0] == changed:
                return known[1]
            with open(path, "rb") as file:
                profile = json.loads(file.read(_MAX_PROFILE))
        except OSError as error:
            raise SeccompError(f"seccomp profile {path}: {error.strerror}") from error
        except ValueError as error:
            raise SeccompError(f"seccomp profile {path}: {error}") from error
        try:
            made = compile_profile(profile, self._bounding)
        except SeccompError as error:
            raise SeccompError(f"seccomp profile {path}: {error}") from error
        self._compiled[name] = changed, made
        return made
