"""What both daemons share: the flags of every Mesos daemon, options for twistd, a clean end."""

import atexit
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from mesoskit import __version__
from mesoskit.app import garbage
from mesoskit.app.late_tls import leave_tls_for_later
from mesoskit.app.log import logs_as_twistd_does, logs_to
from mesoskit.flags import FLAGS_DIR, Flag, FlagError, Flags, Values, boolean, duration, port, text

log = Logger()

_DISCOVERY: Final = 30
"""Seconds that C{--ip_discovery_command} may take."""


class StartError(Exception):
    """A daemon cannot start; the message is the one line that its user reads."""


def common_flags(default_port: int) -> list[Flag]:
    """Return the flags that master and agent share, with the daemon's own port."""
    return [
        Flag("ip", text, None, "IPv4 address to listen on; all of them where it is not given."),
        Flag("port", port, default_port, "Port to listen on; 0 for any free one."),
        Flag(
            "listen",
            text,
            None,
            "Twisted endpoint strings to listen on in place of --ip and --port, separated by"
            " blanks: tcp:5050:interface=127.0.0.1, unix:/run/mesos.sock, ssl:..., systemd:...",
        ),
        Flag(
            "ip_discovery_command",
            text,
            None,
            "A command that prints the address to listen on, in place of --ip.",
            is_path=True,
        ),
        Flag("advertise_ip", text, None, "IP address that others are told."),
        Flag("advertise_port", port, None, "Port that others are told."),
        Flag("hostname", text, None, "Host name that others are told; the machine's by default."),
        Flag(
            "hostname_lookup",
            boolean,
            True,
            "Tell the machine's name where --hostname is not given; otherwise its address.",
        ),
        Flag(
            "logging_level",
            one_of("INFO", "WARNING", "ERROR"),
            "INFO",
            "What is not as bad as that is not logged.",
        ),
        Flag(
            "external_log_file",
            text,
            None,
            "Where somebody else writes the log of this daemon (twistd, systemd): it is shown over"
            " HTTP.",
            is_path=True,
        ),
        Flag(
            "log_dir",
            text,
            None,
            "A directory to log to as well, in the file mesos-master.INFO or mesos-agent.INFO, of"
            " which ten older ones of 64 MiB are kept; it is shown over HTTP.",
            is_path=True,
        ),
        Flag("quiet", boolean, False, "Log nothing to the terminal."),
        Flag(
            FLAGS_DIR,
            text,
            None,
            "A directory with a file for each flag, as /etc/mesos-master and /etc/mesos-slave are;"
            " the command line counts more, the environment less.",
            is_path=True,
        ),
        Flag("help", boolean, False, "Show this, and end."),
        Flag("version", boolean, False, "Show the version, and end."),
    ]


class DaemonOptions(usage.Options):
    """
    What twistd takes a plugin's options to be, over our own L{Flags}.

    Mesos' flags are not Twisted's: C{-} and C{_} are alike, the environment counts, and a
    mistake is one line and exit status 1, where twistd would print its own help and exit 0.
    """

    flags: ClassVar[Flags]
    given: Values

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line that follows the plugin's name."""
        arguments = list(sys.argv[1:] if options is None else options)
        # Whatever else is missing or wrong.
        if "--help" in arguments:
            self._show(self.flags.usage())
        if "--version" in arguments:
            self._show(f"mesoskit {__version__}")
        try:
            self.given = self.flags.parse(arguments)
        except FlagError as error:
            refuse(self.flags.command, str(error))
        if self.given.help:
            self._show(self.flags.usage())
        if self.given.version:
            self._show(f"mesoskit {__version__}")
        if self.under_twistd:
            self._prepare(self.parent)

    @staticmethod
    def _show(said: str) -> NoReturn:
        sys.stdout.write(f"{said}\n")
        raise SystemExit(0)

    def _prepare(self, twistd: Any) -> None:
        """Let twistd go on to what will be a daemon and nothing else."""
        garbage.hold_off()
        leave_tls_for_later()
        logs_as_twistd_does(twistd, self.given.logging_level, self.given.quiet)

    def getUsage(self, width: int | None = None) -> str:
        """Return the help text."""
        return self.flags.usage()

    @property
    def pidfile(self) -> str | None:
        """The pid file that twistd writes, or L{None} where it writes none."""
        parent = getattr(self, "parent", None)
        return None if parent is None else parent.get("pidfile")

    @property
    def under_twistd(self) -> bool:
        """Whether the process is twistd's, and so this daemon's alone."""
        return getattr(self, "parent", None) is not None

    @property
    def daemonizes(self) -> bool:
        """Whether twistd will have left the terminal when the service starts."""
        parent = getattr(self, "parent", None)
        return parent is not None and not parent.get("nodaemon", True)


def refuse(command: str, why: str, status: int = 1) -> NoReturn:
    """Say in one line why the command cannot start, and end the process."""
    sys.stderr.write(f"{command}: {why}\n")
    sys.stderr.flush()
    raise SystemExit(status)


class Daemon(Service):
    """
    The service that twistd runs: starts another one, and ends the process where that fails.

    @param command: its name, for messages.
    @param inner: what does the work. Its C{startService} may return a Deferred.
    @param reactor: stopped when the daemon ends by itself.
    @param options: as parsed, or L{None} where no twistd is around.
    @param on_signals: what else is done at which signal; called with the signal's name.
    """

    def __init__(
        self,
        command: str,
        inner: IService,
        reactor: Any,
        options: DaemonOptions | None = None,
        on_signals: Mapping[signal.Signals, Callable[[str], None]] | None = None,
    ) -> None:
        self.command = command
        self._on_signals = dict(on_signals or {})
        self.inner = inner
        self._reactor = reactor
        self._options = options
        # Standard error as it is now: a daemonising twistd parts with it before it starts us.
        daemonizes = options is not None and options.daemonizes
        self._terminal = os.dup(sys.stderr.fileno()) if daemonizes else None

    def startService(self) -> None:
        """Start; a failure at once is one line and exit status 1."""
        self.running = 1
        if self._options is not None and self._options.under_twistd:
            garbage.begin()
        if self._options is not None:
            self._log_to_directory()
            # Not before: the reactor takes all signals for itself as it begins to run.
            self._reactor.callWhenRunning(self._take_signals)
            for note in self._options.given.notes:
                log.warn("{note}", note=note)
        failures: list[Failure] = []
        # What fails later, after a round trip, ends a reactor that runs by then.
        taken: Callable[[Failure], None] = failures.append

        def failed(failure: Failure) -> None:
            taken(failure)

        started: Deferred[Any] = maybeDeferred(self.inner.startService)
        started.addErrback(failed)
        taken = self._failed_later
        if failures:
            self._cannot_start(failures[0])
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    def _log_to_directory(self) -> None:
        """Begin to log to C{--log_dir}: what was opened before a daemon's fork would be lost."""
        assert self._options is not None
        given = self._options.given
        if given.log_dir is None:
            return
        try:
            logs_to(str(log_file(given, self.command)), given.logging_level)
        except OSError as error:
            why = f"--log_dir: cannot write {error.filename or given.log_dir}: {error.strerror}"
            self._cannot_start(Failure(StartError(why)))  # type: ignore[no-untyped-call]

    def _take_signals(self) -> None:
        """Let SIGTERM and SIGINT be a clean end: twistd would die by them when all is done."""

        def stop(name: str) -> None:
            self.end(f"it was asked to by {name}", 0)

        actions = {signal.SIGTERM: stop, signal.SIGINT: stop, **self._on_signals}

        def heard(number: int, frame: object) -> None:
            known = signal.Signals(number)
            self._reactor.callFromThread(actions[known], known.name)

        for number in actions:
            signal.signal(number, heard)

    def stopService(self) -> "Deferred[Any] | None":
        """Stop the inner service."""
        self.running = 0
        return maybeDeferred(self.inner.stopService)

    def end(self, why: str, status: int) -> None:
        """End the process: the daemon itself has decided to."""
        if status:
            log.error("{command} ends: {why}", command=self.command, why=why)
            sys.stderr.write(f"{self.command}: {why}\n")
        else:
            log.info("{command} ends: {why}", command=self.command, why=why)
        end_with(self._reactor, status)

    def _cannot_start(self, failure: Failure) -> None:
        why = describe(failure)
        if self._options is not None and self._options.daemonizes:
            # The parent waits at a pipe for this and prints it, but no more than 100 bytes.
            if self._terminal is not None:
                os.write(self._terminal, f"{self.command}: {why}\n".encode())
            raise StartError(why)
        pidfile = None if self._options is None else self._options.pidfile
        if pidfile:
            with suppress(OSError):
                os.unlink(pidfile)
        refuse(self.command, why)

    def _failed_later(self, failure: Failure) -> None:
        if self.running:  # else it was stopped before it had started
            self.end(describe(failure), 1)


def end_with(reactor: Any, status: int) -> None:
    """Stop the reactor and let the process end with this status, pid file removed and all."""
    if status:

        def leave() -> None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

        # twistd has no other way to say it: its run ends in a plain return.
        atexit.register(leave)
    if reactor.running:
        with suppress(ReactorNotRunning):  # it stops already
            reactor.stop()
    else:
        reactor.callWhenRunning(reactor.stop)


def describe(failure: Failure) -> str:
    """Return one line for people about what went wrong."""
    from twisted.internet.error import CannotListenError

    error = failure.value
    if isinstance(error, CannotListenError):
        cause = error.socketError
        why = getattr(cause, "strerror", None) or cause
        if isinstance(error.port, bytes):  # a UNIX socket's path
            if why == "Cannot acquire lock":
                why = "another daemon does; two cannot share a --work_dir and --runtime_dir"
            return f"cannot listen on {os.fsdecode(error.port)}: {why}"
        return f"cannot listen on {error.interface or '*'}:{error.port}: {why}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    said = str(error) or type(error).__name__
    return " ".join(said.split())


def directory(flag: str, path: str, *, own: bool = False) -> Path:
    """
    Return a directory that exists and can be written, making it where it is not.

    @param own: nobody else may write there, for what is in it is trusted.
    @raise StartError: naming the flag, the path and what is wrong.
    """
    where = Path(path).absolute()
    try:
        where.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"--{flag}: cannot make {where}: {error.strerror}") from None
    if not os.access(where, os.R_OK | os.W_OK | os.X_OK):
        raise StartError(f"--{flag}: cannot read and write {where}: Permission denied")
    if own:
        status = where.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise StartError(
                f"--{flag}: {where} must belong to this user and be writable by no other"
            )
    return where


def log_file(values: Values, command: str) -> str | None:
    """Return the path of the log that C{--log_dir} or C{--external_log_file} names, if one does."""
    if values.log_dir is None:
        external: str | None = values.external_log_file
        return external
    return str(Path(values.log_dir).absolute() / f"{command}.INFO")


_OF_LIBPROCESS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "ip": ("LIBPROCESS_IP", lambda text: str(IPv4Address(text))),
    "advertise_ip": ("LIBPROCESS_ADVERTISE_IP", lambda text: str(IPv4Address(text))),
    "advertise_port": ("LIBPROCESS_ADVERTISE_PORT", port),
}
"""Variables that count in Mesos where a flag is not given; C{--port} always is."""


def find_ip(values: Values, environment: Mapping[str, str] | None = None) -> None:
    """
    Have C{--ip} be what C{--ip_discovery_command} prints, where that is given, and let the
    variables of libprocess count that say where a daemon is.

    @raise StartError: where that is no address.
    """
    environment = os.environ if environment is None else environment
    command = values.ip_discovery_command
    if command is not None:
        _discover_ip(values, command)
    for name, (variable, parse) in _OF_LIBPROCESS.items():
        given = environment.get(variable)
        if given and not getattr(values, name):
            try:
                vars(values)[name] = parse(given)
            except ValueError as error:
                raise StartError(f"{variable}: cannot use {given!r}: {error}") from None


def _discover_ip(values: Values, command: str) -> None:
    if values.ip:
        raise StartError("Only one of --ip or --ip_discovery_command should be specified")
    flag = f"--ip_discovery_command: {command!r}"
    try:
        done = subprocess.run(
            command, shell=True, stdout=subprocess.PIPE, timeout=_DISCOVERY, check=False
        )
    except subprocess.TimeoutExpired:
        raise StartError(f"{flag} has not ended within {_DISCOVERY} seconds") from None
    if done.returncode:
        raise StartError(f"{flag} ended with status {done.returncode}")
    printed = done.stdout.decode(errors="replace").strip()
    try:
        vars(values)["ip"] = str(IPv4Address(printed))
    except ValueError:
        raise StartError(f"{flag} printed {printed[:100]!r}, which is no IPv4 address") from None


def host_name(values: Values, ip: str) -> str:
    """Return what the daemon calls itself: C{--hostname}, the machine's name, or its address."""
    if values.hostname:
        return str(values.hostname)
    return socket.gethostname() if values.hostname_lookup else ip


def endpoints(values: Values) -> list[str]:
    """Return the endpoint strings to listen on."""
    if values.listen:
        return str(values.listen).split()
    interface = f":interface={values.ip}" if values.ip else ""
    return [f"tcp:{values.port}:backlog=1024{interface}"]


def advertised_ip(values: Values) -> str:
    """Return the address that others are told."""
    if values.advertise_ip and values.advertise_ip != "0.0.0.0":
        return str(values.advertise_ip)
    return local_ip(values)


def local_ip(values: Values) -> str:
    """Return the address at which the daemon is reached on this machine."""
    if values.ip and values.ip != "0.0.0.0":
        return str(values.ip)
    return address_of_this_machine()


def address_of_this_machine() -> str:
    """Return this machine's IPv4 address, 127.0.0.1 where its name has none that is its own."""
    with suppress(OSError):
        for *_, address in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET):
            # A name server may have an old opinion.
            with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((address[0], 0))
                return str(address[0])
    return "127.0.0.1"


def one_of(*names: str) -> Any:
    """Return a reader that takes these names alone."""

    def parse(value: str) -> str:
        if value not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return value

    return parse


def interval(value: str) -> float:
    """Read the time between two rounds of something: long enough to do other things meanwhile."""
    seconds = duration(value)
    if seconds < 0.1:
        raise ValueError("must be at least 100ms")
    return seconds
