"""Log lines of a daemon: twistd's own, written for a third of the price.

A line as L{twisted.logger.formatEventAsClassicLogText} makes it goes through a formatter in
pure Python that can call what it formats. Ours ask for plain fields, which C{str.format_map}
does alike. What is in the line is the same to the letter, and whatever is not plain, or
fails, goes the long way.
"""

from collections.abc import MutableMapping
from pathlib import Path
from string import Formatter
from typing import Any, Final

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    formatEventAsClassicLogText,
    formatTime,
    globalLogPublisher,
)
from twisted.python.logfile import LogFile

from mesoskit.web.verbosity import VERBOSITY

_UNUSUAL: Final = ("log_failure", "log_flattened", "log_system")
# Formats are few; a program that makes them up by the thousand is not remembered for ever.
_KNOWN_FORMATS: Final = 1024


class ClassicText:
    """Formats events as lines, of each of which it is told in turn."""

    def __init__(self) -> None:
        self._second = -1
        self._stamp = ""
        self._plain: dict[str, bool] = {}

    def __call__(self, event: dict[str, Any]) -> str | None:
        """Return the line for an event, or L{None} where there is nothing to be said."""
        form = event.get("log_format")
        if form.__class__ is not str or not self._is_plain(form) or any(map(event.get, _UNUSUAL)):
            return formatEventAsClassicLogText(event)
        try:
            text = form.format_map(event)
            head = f"{event['log_namespace']}#{event['log_level'].name}"
            stamp = self._time(event["log_time"])
        except Exception:
            return formatEventAsClassicLogText(event)
        if not text:
            return None
        if "\n" in text:
            text = text.replace("\n", "\n\t")
        return f"{stamp} [{head}] {text}\n"

    def _is_plain(self, form: str) -> bool:
        plain = self._plain.get(form)
        if plain is None:
            try:
                fields = [field for _, field, _, _ in Formatter().parse(form) if field is not None]
            except ValueError:
                return False
            plain = all(field.isidentifier() for field in fields)
            if len(self._plain) < _KNOWN_FORMATS:
                self._plain[form] = plain
        return plain

    def _time(self, when: float) -> str:
        """Return the moment, of which a line tells the second."""
        second = int(when)
        if second != self._second:
            self._second, self._stamp = second, formatTime(when)
        return self._stamp


_ROTATED: Final = 64 * 1024 * 1024
_OLDER: Final = 10


def logs_to(path: str, level: str = "INFO") -> ILogObserver:
    """
    Log to a file, too, whatever else is logged to; return what does it. Raises L{OSError}.

    @param path: of the file; its directory is made where it is not there.
    @param level: as for L{logs_as_twistd_does}.
    """
    where = Path(path)
    where.parent.mkdir(parents=True, exist_ok=True)
    file: Any = LogFile(  # type: ignore[no-untyped-call]
        where.name,
        str(where.parent),
        rotateLength=_ROTATED,
        maxRotatedFiles=_OLDER,
        defaultMode=0o644,
    )
    chosen = _chosen(FileLogObserver(file, ClassicText()), level)
    globalLogPublisher.addObserver(chosen)
    return chosen


_LEVEL: Final = "mesoskit_level"
_QUIET: Final = "mesoskit_quiet"

# What twistd was started with, and what is to be logged: it calls the observer with nothing.
_twistd: dict[str, Any] = {}


_LEVELS: Final = {"WARNING": LogLevel.warn, "ERROR": LogLevel.error}


def logs_as_twistd_does(
    options: MutableMapping[str, Any], level: str = "INFO", quiet: bool = False
) -> None:
    """
    Let twistd log through L{observer}, where its user has named no logger of his own.

    @param options: twistd's own; it calls what C{logger} names, with no argument.
    @param level: what is logged at least: C{"INFO"}, C{"WARNING"} or C{"ERROR"}.
    @param quiet: log nothing where twistd would log to the terminal.
    """
    if not options.get("logger"):
        _twistd.clear()
        _twistd.update(options)
        _twistd[_LEVEL] = level
        _twistd[_QUIET] = quiet
        options["logger"] = f"{__name__}.{observer.__name__}"


def observer() -> Any:
    """
    Return what twistd would log to by its own options (C{--logfile}, C{--syslog}), with our
    L{ClassicText} in place of its format.
    """
    # What chooses file, standard output or syslog has no public name; should a later Twisted
    # call it otherwise, the tests of the daemons fail.
    from twisted.scripts import _twistd_unix

    to_terminal = _twistd.get("nodaemon") and not (_twistd.get("logfile") or _twistd.get("syslog"))
    if _twistd.get(_QUIET) and to_terminal:
        return lambda event: None
    logs = _twistd_unix.UnixAppLogger(_twistd)._getLogObserver()  # type: ignore[no-untyped-call]
    if isinstance(logs, FileLogObserver):
        logs.formatEvent = ClassicText()
    return _chosen(logs, _twistd.get(_LEVEL, ""))


def _chosen(logs: Any, level: str) -> FilteringLogObserver:
    """Return an observer that hears what is to be logged at this level."""
    # What C{/logging/toggle} asks for comes before what the daemon was started with.
    chosen: list[Any] = [VERBOSITY]
    least = _LEVELS.get(level)
    if least is not None:
        chosen.append(LogLevelFilterPredicate(least))
    return FilteringLogObserver(logs, chosen)
