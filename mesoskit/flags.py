"""Flags as Mesos has them: names, environment, files, and errors that name the bad part.

C{--work_dir} and C{--work-dir} are one flag; so is C{MESOS_WORK_DIR} in the
environment, which the command line overrides. A boolean is C{--flag}, C{--no-flag} or
C{--flag=true}. A value C{file:///path} is read from that file. An unknown flag is an
error; an unknown C{MESOS_} variable is not, for executors inherit many.
"""

import difflib
import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesoskit.model.durations import format_duration, parse_duration
from mesoskit.model.sizes import parse_size

_LONGEST_FILE = 16 * 1024 * 1024

_LEFT_OVER = ("~", ".swp", ".bak", ".orig", ".rpmsave", ".rpmnew", ".dpkg-old", ".dpkg-dist")

FLAGS_DIR = "flags_dir"
"""The flag that names a directory of flags, L{arguments_of}, where a command has it."""


class FlagError(ValueError):
    """A flag cannot be used; the message names it, its value, and what would be right."""


def text(value: str) -> str:
    """Take the text as it is."""
    return value


def integer(value: str) -> int:
    """Read a whole number that is not negative."""
    if not value.isascii() or not value.isdigit():
        raise ValueError("expected a whole number, such as 5050")
    return int(value)


def number(value: str) -> float:
    """Read a finite number."""
    result = float(value)
    if result != result or abs(result) == float("inf"):
        raise ValueError("expected a finite number, such as 0.1")
    return result


def boolean(value: str) -> bool:
    """Read C{true} or C{false}, as Mesos also C{1} or C{0}."""
    if value in ("true", "1"):
        return True
    if value in ("false", "0"):
        return False
    raise ValueError("expected true or false")


def duration(value: str) -> float:
    """Read a duration such as C{5secs} into seconds."""
    if value.startswith("-"):
        raise ValueError("expected a duration that is not negative, such as 5secs")
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}; a duration is a number and a unit, such as 5secs") from None


def size(value: str) -> int:
    """Read a size such as C{2GB} into bytes."""
    try:
        return parse_size(value)
    except ValueError as error:
        raise ValueError(f"{error}; a size is a number and a unit, such as 2GB") from None


def port(value: str) -> int:
    """Read a port number."""
    result = integer(value)
    if result > 65535:
        raise ValueError("expected a port number from 0 to 65535")
    return result


@dataclass(frozen=True)
class Flag:
    """
    One flag.

    @ivar name: with underscores, as Mesos writes it.
    @ivar parse: from text to a value; raises L{ValueError} saying what is wrong.
    @ivar default: the value where nobody gives one (parsed already); L{None} for none.
    @ivar help: a sentence or two.
    @ivar aliases: other names, such as C{slave_ping_timeout}.
    @ivar required: refuse to start without it.
    @ivar is_path: a path, so that C{file://} is not a command to read it.
    @ivar secret: never shown by C{/flags} or logged, and not read from a file that others than
        its owner may use.
    @ivar written: the default as text, where that is not how Python shows it.
    @ivar show: makes of a value's text what may be shown, where a part of it is secret.
    @ivar idle: why the flag, which is taken for the sake of Mesos' command lines, changes nothing;
        said in the log where somebody gives it a value that it does not have by default.
    @ivar instead: what to do in place of giving the flag, which is refused with any value but its
        default: it would change what people rely on, and cannot.
    """

    name: str
    parse: Callable[[str], Any]
    default: Any = None
    help: str = ""
    aliases: tuple[str, ...] = ()
    required: bool = False
    is_path: bool = False
    secret: bool = False
    written: str = ""
    show: Callable[[str], str] | None = None
    idle: str = ""
    instead: str = ""

    @property
    def is_boolean(self) -> bool:
        """Tell whether the flag may stand without a value."""
        return self.parse is boolean

    @property
    def default_text(self) -> str | None:
        """Return the default as somebody would write it; L{None} where there is none."""
        default = self.default
        if self.written:
            return self.written
        if default is None or default in ((), b""):
            return None
        if isinstance(default, bool):
            return "true" if default else "false"
        if self.parse is duration:
            return format_duration(default)
        return str(default)


def arguments_of(directory: str, secrets: Container[str] = ()) -> list[str]:
    """
    Return the flags in a directory as C{/etc/mesos-master} is one, as a command line has them.

    The packages of Mesos that most distributions have keep each flag in a file of its name, whose
    text is the value; an empty file whose name begins with C{?} is a flag without one
    (C{?no-switch_user}). A file in a directory C{attributes} or C{resources} is one of these:
    C{attributes/rack}. Names that begin with a point, or end as editors and packages leave them,
    are passed over.

    @param secrets: names of flags whose files nobody but their owner may use.
    @raise FlagError: where something cannot be read.
    """
    found = []
    for name in _names_in(directory):
        path = f"{directory}/{name}"
        if os.path.isdir(path):
            if name not in ("attributes", "resources"):
                raise FlagError(
                    f"--{FLAGS_DIR}: {path} is a directory: expected a file with a value, or"
                    " attributes or resources"
                )
            parts = [f"{one}:{_text_in(FLAGS_DIR, f'{path}/{one}')}" for one in _names_in(path)]
            found.append(f"--{name}={';'.join(parts)}")
        elif name.startswith("?"):
            found.append(f"--{name[1:]}")
        else:
            secret = name.replace("-", "_") in secrets
            found.append(f"--{name}={_text_in(FLAGS_DIR, path, secret)}")
    return found


def _names_in(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise FlagError(f"--{FLAGS_DIR}: cannot read {directory}: {error.strerror}") from None
    return [name for name in names if not name.startswith(".") and not name.endswith(_LEFT_OVER)]


def _text_in(flag: str, path: str, secret: bool = False) -> str:
    """Return what is in a file, which nobody but its owner may use where it is a secret."""
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            data = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise FlagError(f"--{flag}: cannot read {path}: {error.strerror}") from None
    if secret and mode & 0o077:
        raise FlagError(
            f"--{flag}: {path}: others than its owner may use it (mode {mode:04o});"
            f" secrets want chmod 600 {path}"
        )
    if len(data) > _LONGEST_FILE:
        raise FlagError(f"--{flag}: {path} is larger than {_LONGEST_FILE} bytes")
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise FlagError(f"--{flag}: {path} is not UTF-8 text") from None


class Values:
    """
    The values of a daemon's flags, as attributes.

    @ivar given: the text of each flag that somebody gave.
    @ivar shown: the text of each flag that has a value, given or not, for C{/flags}; without
        secrets.
    @ivar notes: sentences about flags that were given and change nothing, for the log.
    """

    def __init__(
        self,
        values: dict[str, Any],
        given: dict[str, str],
        shown: dict[str, str],
        notes: Sequence[str] = (),
    ) -> None:
        self.__dict__.update(values)
        self.given = given
        self.shown = shown
        self.notes = tuple(notes)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no flag --{name}")


class Flags:
    """
    The flags of one command.

    @param command: its name, for messages.
    @param flags: what it takes.
    @param prefix: of the environment variables; C{""} to read none.
    @param variables: names of the only flags that the environment may give; L{None}: all.
    @param about: a sentence about the command, with which its help begins.
    @param words: what follows the flags on its command line.
    """

    def __init__(
        self,
        command: str,
        flags: Iterable[Flag],
        prefix: str = "MESOS_",
        variables: Container[str] | None = None,
        about: str = "",
        words: str = "",
    ) -> None:
        self.command = command
        self._about = about
        self._words = words
        self.flags = tuple(flags)
        self._prefix = prefix
        self._variables = variables
        self._by_name = {name: flag for flag in self.flags for name in (flag.name, *flag.aliases)}

    def parse(
        self, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Values:
        """
        Read the command line, then the environment for what it leaves open.

        @raise FlagError: for the first thing that is wrong.
        """
        environment = os.environ if environment is None else environment
        given = self._from_arguments(arguments)
        given = {**self._from_directory(given, environment), **given}
        if self._prefix:
            for name, flag in self._by_name.items():
                if self._variables is not None and flag.name not in self._variables:
                    continue
                found = environment.get(self._prefix + name.upper())
                if found is not None:
                    given.setdefault(flag.name, found)
        values = {flag.name: flag.default for flag in self.flags}
        for name, raw in given.items():
            values[name] = self._value(self._by_name[name], raw)
        for flag in self.flags:
            if flag.required and values[flag.name] is None:
                raise FlagError(f"--{flag.name} is required: {flag.help}")
        return Values(values, given, self._shown(given), self._notes(values))

    def usage(self) -> str:
        """Return the help text: a line or two a flag."""
        lines = [self._about, ""] if self._about else []
        lines += [f"Usage: {self.command} [--flag=value ...] {self._words}".rstrip(), ""]
        for flag in self.flags:
            if flag.idle or flag.instead:
                continue
            shown = f"--[no-]{flag.name}" if flag.is_boolean else f"--{flag.name}=VALUE"
            default = flag.default_text
            lines.append(f"  {shown}")
            lines.append(f"      {flag.help}" + (f" (default: {default})" if default else ""))
        idle = [flag for flag in self.flags if flag.idle]
        if idle:
            lines += ["", "Taken for the sake of Mesos' command lines, without effect:", ""]
            lines += [f"  --{flag.name}: {flag.idle}" for flag in idle]
        return "\n".join(lines)

    def _shown(self, given: Mapping[str, str]) -> dict[str, str]:
        shown = {}
        for flag in self.flags:
            value = given.get(flag.name, flag.default_text)
            if value is not None and not flag.secret:
                shown[flag.name] = flag.show(value) if flag.show else value
        return shown

    def _from_directory(
        self, given: Mapping[str, str], environment: Mapping[str, str]
    ) -> dict[str, str]:
        """Return what the files say that L{FLAGS_DIR} names, if it does."""
        directory = given.get(FLAGS_DIR) or environment.get(self._prefix + FLAGS_DIR.upper())
        if FLAGS_DIR not in self._by_name or not directory:
            return {}
        secrets = {flag.name for flag in self.flags if flag.secret}
        return self._from_arguments(arguments_of(directory, secrets))

    def _notes(self, values: Mapping[str, Any]) -> list[str]:
        return [
            f"--{flag.name} has no effect: {flag.idle}"
            for flag in self.flags
            if flag.idle and values[flag.name] not in (flag.default, "")
        ]

    def _from_arguments(self, arguments: Sequence[str]) -> dict[str, str]:
        given: dict[str, str] = {}
        rest = list(reversed(arguments))
        while rest:
            argument = rest.pop()
            if not argument.startswith("--") or argument == "--":
                raise FlagError(f"{argument!r} is not a flag: expected --name=value")
            name, equals, value = argument[2:].partition("=")
            name = name.replace("-", "_")
            flag = self._by_name.get(name)
            negated = False
            if flag is None and name.startswith("no_"):
                flag = self._by_name.get(name[3:])
                negated = flag is not None and flag.is_boolean
                if not negated:
                    flag = None
            if flag is None:
                raise FlagError(f"unknown flag --{name}{self._nearest(name)}")
            if negated:
                if equals:
                    raise FlagError(f"--no-{flag.name} takes no value, but was given {value!r}")
                value = "false"
            elif not equals:
                if flag.is_boolean:
                    value = "true"
                elif rest and not rest[-1].startswith("--"):
                    value = rest.pop()
                else:
                    raise FlagError(f"--{flag.name} needs a value: --{flag.name}=VALUE")
            given[flag.name] = value
        return given

    def _nearest(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._by_name, 1)
        return f": did you mean --{near[0]}?" if near else ": see --help"

    def _value(self, flag: Flag, raw: str) -> Any:
        if raw.startswith("file://") and not flag.is_path:
            raw = _text_in(flag.name, raw.removeprefix("file://"), flag.secret)
        if flag.required and not raw:
            raise FlagError(f"--{flag.name} must not be empty: {flag.help}")
        try:
            value = flag.parse(raw)
        except ValueError as error:
            shown = repr(flag.show(raw) if flag.show else raw)
            if flag.secret:
                shown = "the given value"
            raise FlagError(f"--{flag.name}: cannot use {shown}: {error}") from None
        if flag.instead and value not in (flag.default, ""):
            raise FlagError(f"--{flag.name} cannot be had here: {flag.instead}")
        return value
