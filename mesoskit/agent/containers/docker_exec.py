"""Commands beside a task in its container of the Docker engine: checks, sessions and their like.

As C{docker exec} has it, with the container's environment, user and directories. They do not
outlive the agent: nobody would hear of their ends.
"""

import os
import signal
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent.consoles import DISABLED, ConsoleError, Listener
from mesoskit.agent.container import Console, ContainerSpec
from mesoskit.agent.containers import ContainerError, Exited
from mesoskit.agent.containers.docker_console import (
    DETACH_KEYS,
    ONE_INPUT,
    SHUT_DOWN,
    Ear,
    Mouth,
    Resizes,
    kind_of,
)
from mesoskit.agent.containers.docker_http import Delays, Engine, EngineError
from mesoskit.agent.containers.docker_logs import Files, Frames
from mesoskit.agent.containers.docker_streams import Duplex, open_duplex
from mesoskit.agent.docker import name_of
from mesoskit.agent.launcher_console import UNWANTED
from mesoskit.agent.launcher_proc import processes
from mesoskit.agent.users import InThread
from mesoskit.model.ids import ContainerId

MARK: Final = "MESOSKIT_COMMAND"
"""The variable by which a command is known for one of ours."""

LOOKS: Final = 50
"""How often it is asked for the pid of a command, before it is killed."""

RUNS_ON: Final = 10.0
"""Seconds after which a command that cannot be killed is left behind."""


class _Command:
    """
    A command.

    @ivar around: the container that it runs in.
    @ivar pid: as the host sees it; C{init}: its container's first process.
    @ivar stream: its input and output.
    @ivar keep: is given what it writes: 0 or 1 for C{stdout} or C{stderr}, and bytes.
    @ivar unwanted: when a session is given up to which nobody has come to listen.
    """

    def __init__(
        self, container: ContainerId, around: ContainerId, init: int, console: Console | None
    ) -> None:
        self.id = container
        self.around = around
        self.init = init
        self.console = console
        self.exec_id = ""
        self.pid = 0
        self.over = False
        self.killed = False
        self.heard = False
        self.stream: Duplex | None = None
        self.keep: Callable[[int, bytes], None] = lambda which, data: None
        self.files: Files | None = None
        self.ears: list[Ear] = []
        self.mouth: Mouth | None = None
        self.resize: Callable[[int, int], None] = lambda rows, columns: None
        self.patience: IDelayedCall | None = None
        self.unwanted: IDelayedCall | None = None
        self.looks: Delays | None = None
        self.waiting: list[Deferred[None]] = []

    @property
    def terminal(self) -> bool:
        return self.console is not None and self.console.terminal

    @property
    def session(self) -> bool:
        return self.console is not None and self.console.session

    def hear(self) -> None:
        """Take what it writes from now on."""
        if self.heard or self.stream is None:
            return
        self.heard = True
        _call_off(self.unwanted)
        if self.terminal:
            self.stream.hear(lambda data: self._take(0, data))
        else:
            self.stream.hear(Frames(self._take).take)

    def _take(self, which: int, data: bytes) -> None:
        try:
            self.keep(which, data)
        except OSError:  # a full disk takes what is kept, not what is listened to
            self.keep = lambda which, data: None
        for ear in list(self.ears):
            ear.say(kind_of(which), data)

    def hold(self) -> None:
        """Let a session wait for its listener."""
        if self.stream is not None and self.heard:
            self.stream.pause(any(ear.paused for ear in self.ears))

    def left(self, ear: Ear) -> None:
        """Somebody listens no more."""
        self.ears.remove(ear)
        if self.session:
            self.hold()

    def silent(self) -> None:
        """Nothing is written any more."""
        _call_off(self.unwanted)
        for ear in list(self.ears):
            ear.end()
        if self.mouth is not None:
            self.mouth.end()
        if self.files is not None:
            self.files.close()
            self.files = None
            self.keep = lambda which, data: None


class Commands:
    """The commands beside containers of one engine."""

    log = Logger()

    def __init__(self, reactor: Any, engine: Engine, in_thread: InThread, exited: Exited) -> None:
        """@param exited: is told of every end."""
        self._reactor = reactor
        self._engine = engine
        self._in_thread = in_thread
        self._exited = exited
        self._commands: dict[ContainerId, _Command] = {}
        self._stopped = False

    def __contains__(self, container: ContainerId) -> bool:
        return container in self._commands

    def around(self, container: ContainerId) -> ContainerId | None:
        """Return the container that a command runs in; L{None} where it does not run."""
        command = self._commands.get(container)
        return None if command is None or command.over else command.around

    async def launch(
        self,
        spec: ContainerSpec,
        around: ContainerId,
        init: int,
        keep: Callable[[int, bytes], None] | None = None,
    ) -> int:
        """
        Start a command; gives its pid. Raises L{ContainerError}.

        @param around: the container that it runs in; C{init}: that one's first process.
        @param keep: is given what it writes; L{None}: that goes into files in its own sandbox.
        """
        if spec.id in self._commands:
            return self._commands[spec.id].pid
        if not spec.argv:
            raise ContainerError("nothing to execute: argv is empty")
        command = self._commands[spec.id] = _Command(spec.id, around, init, spec.console)
        try:
            if keep is not None:
                command.keep = keep
            else:
                command.files = _files(spec.sandbox)
                command.keep = command.files.write
            await self._start(command, spec, name_of(around))
        except BaseException:
            self._commands.pop(spec.id, None)
            command.over = True
            command.silent()
            _call_off(command.patience)
            if command.looks is not None:
                command.looks.cancel()
            waiting, command.waiting = command.waiting, []
            for waiter in waiting:
                waiter.callback(None)
            raise
        return command.pid

    async def _start(self, command: _Command, spec: ContainerSpec, name: str) -> None:
        executable = spec.file or spec.argv[0]
        body: dict[str, Any] = {
            "AttachStdin": command.console is not None,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": command.terminal,
            "Cmd": [executable, *spec.argv[1:]],
            "Env": [
                f"{MARK}={spec.id}",
                *(f"{key}={value}" for key, value in spec.environment),
            ],
        }
        if command.terminal:
            body["DetachKeys"] = DETACH_KEYS
        if spec.image_user is not None:
            body["User"] = spec.image_user
        created = await self._engine.ask("POST", f"/containers/{name}/exec", body=body)
        command.exec_id = created["Id"]
        path = f"/exec/{command.exec_id}"
        command.resize = Resizes(self._reactor, self._engine, path)
        stream = command.stream = await open_duplex(
            self._reactor,
            self._engine,
            f"{path}/start",
            body={"Detach": False, "Tty": command.terminal},
        )
        if spec.console is not None and spec.console.terminal and spec.console.rows:
            command.resize(spec.console.rows, spec.console.columns)
        found = await self._engine.ask("GET", f"{path}/json")
        command.pid = found.get("Pid") or 0
        if command.session:
            command.unwanted = self._reactor.callLater(UNWANTED, self.destroy, command.id)
        else:
            command.hear()

        def over(_: object) -> None:
            command.silent()
            self._ended(command)

        stream.over.addBoth(over)

    # Attaching

    def listen(self, container: ContainerId, listener: Listener) -> Ear:
        """Hear what a command writes. Raises L{ConsoleError}."""
        command = self._attachable(container)
        ear = Ear(listener, command.left, command.hold if command.session else None)
        command.ears.append(ear)

        def begin() -> None:
            command.hear()
            ear.pause(False)

        # Whoever asked has to know that he is heard first.
        self._reactor.callLater(0, begin)
        return ear

    def speak(
        self, container: ContainerId, full: Callable[[bool], None], over: Callable[[], None]
    ) -> Mouth:
        """Put something into a command. Raises L{ConsoleError}."""
        command = self._attachable(container)
        if command.mouth is not None:
            raise ConsoleError(ONE_INPUT, 409)

        def left() -> None:
            command.mouth = None

        assert command.stream is not None
        mouth = Mouth(command.stream, command.terminal, command.resize, full, over, left)
        command.mouth = mouth
        return mouth

    def _attachable(self, container: ContainerId) -> _Command:
        command = self._commands[container]
        if command.console is None:
            raise ConsoleError(DISABLED)
        if command.over or command.stream is None or command.stream.over.called:
            raise ConsoleError(SHUT_DOWN)
        return command

    async def end_left(self, exec_ids: Iterable[str], init: int) -> None:
        """
        Kill what an earlier agent has started in a container: nobody waits for it any more. What
        others have started there, by C{docker exec}, is let be.
        """
        for exec_id in exec_ids:
            try:
                found = await self._engine.ask("GET", f"/exec/{exec_id}/json")
            except EngineError:
                continue
            pid = found.get("Pid") or 0
            if found.get("Running") and pid and _is_marked(pid):
                await self._in_thread(partial(kill_inside, pid, init, signal.SIGKILL))

    def signal(self, container: ContainerId, signum: int) -> None:
        """Send a signal to a command."""
        command = self._commands[container]
        if not command.over:
            self._kill(command, signum)

    def destroy(self, container: ContainerId) -> "Deferred[None]":
        """Kill a command and all that it has started; fires when it is gone."""
        command = self._commands[container]
        if command.over:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        command.waiting.append(waiter)
        command.killed = True
        self._kill(command, signal.SIGKILL)
        command.hear()
        # Whoever listens may take his time; that it is over is found out without him.
        self._ended(command)
        command.patience = self._reactor.callLater(RUNS_ON, self._leave, command)
        return waiter

    def forget(self, container: ContainerId) -> None:
        """Drop what is kept of it."""
        command = self._commands.get(container)
        if command is not None and command.over:
            del self._commands[container]

    def stop(self) -> None:
        """Tell nothing any more, and end what runs: nobody would hear of it."""
        self._stopped = True
        for command in list(self._commands.values()):
            if not command.over:
                self._kill(command, signal.SIGKILL)
            _call_off(command.patience)
            _call_off(command.unwanted)
            if command.looks is not None:
                command.looks.cancel()
            if command.stream is not None:
                command.stream.drop()

    def _kill(self, command: _Command, signum: int) -> None:
        """Signal a command's processes, as far as they are surely in the container."""

        def failed(reason: Failure) -> None:
            why = reason.getErrorMessage()
            self.log.warn("command {name}: {why}", name=command.id, why=why)

        Deferred.fromCoroutine(self._kill_soon(command, signum)).addErrback(failed)

    async def _kill_soon(self, command: _Command, signum: int) -> None:
        # The engine tells the pid a moment after the beginning of the output.
        for _ in range(LOOKS):
            if command.pid or command.over or self._stopped:
                break
            await deferLater(self._reactor, 0.02)
            found = await self._engine.ask("GET", f"/exec/{command.exec_id}/json")
            command.pid = found.get("Pid") or 0
        if command.pid and not command.over:
            await self._in_thread(lambda: kill_inside(command.pid, command.init, signum))

    def _leave(self, command: _Command) -> None:
        if not command.over:
            self.log.warn("command {name} cannot be killed: it is left behind", name=command.id)
            self._tell(command, None)

    def _ended(self, command: _Command) -> None:
        """Its output has ended, or it was killed: it has ended too, or will soon."""
        if self._stopped or command.over:
            return
        if command.looks is None:
            command.looks = Delays(self._reactor, 0.1, 2.0)
        command.looks.cancel()
        Deferred.fromCoroutine(self._look(command, command.looks)).addErrback(lambda _: None)

    async def _look(self, command: _Command, looks: Delays) -> None:
        if self._stopped or command.over:
            return
        try:
            found = await self._engine.ask("GET", f"/exec/{command.exec_id}/json")
        except CancelledError:
            raise
        except EngineError as error:
            if error.status == 404:
                self._tell(command, None)
                return
            found = {"Running": True}
        if found.get("Running"):
            if not self._stopped and not command.over:
                looks.again(lambda: self._ended(command))
            return
        code = found.get("ExitCode")
        if code is None:
            self._tell(command, None)
        elif command.killed and code == 128 + signal.SIGKILL:
            self._tell(command, signal.SIGKILL)
        else:
            self._tell(command, (code & 0xFF) << 8)

    def _tell(self, command: _Command, status: int | None) -> None:
        if command.over or self._stopped:
            return
        command.over = True
        _call_off(command.patience)
        if command.looks is not None:
            command.looks.cancel()
        self._exited(command.id, status)
        waiting, command.waiting = command.waiting, []
        for waiter in waiting:
            waiter.callback(None)


def _call_off(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()


def _files(sandbox: str) -> Files:
    try:
        return Files(sandbox, (os.geteuid(), os.getegid()))
    except OSError as error:
        raise ContainerError(f"cannot write to {sandbox}: {error.strerror}") from error


def _is_marked(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return any(one.startswith(f"{MARK}=".encode()) for one in file.read().split(b"\0"))
    except OSError:
        return False


def kill_inside(pid: int, init: int, signum: int) -> None:
    """
    Signal a process and those that it has started, where they are in the same cgroups as
    another one; nothing happens to what is not. For a thread: it reads all of C{/proc}.
    """
    table = processes()
    wanted = {pid}
    # Children have greater pids than their parents, but for one round through all numbers.
    for _ in range(2):
        for found in table.values():
            if found.parent in wanted or found.session in wanted:
                wanted.add(found.pid)
    wanted &= table.keys()
    cgroups = _cgroups(init)
    for one in sorted(wanted):
        try:
            handle = os.pidfd_open(one)
        except OSError:
            continue
        try:
            if cgroups and _cgroups(one) == cgroups:
                signal.pidfd_send_signal(handle, signum)
        except OSError:
            continue
        finally:
            os.close(handle)


def _cgroups(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            return file.read()
    except OSError:
        return b""
