"""Commands beside a task in its container of the Docker engine: what checks run.

As C{docker exec} has it, with the container's environment, user and directories. What they
write is not kept.
"""

import os
import signal
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers import ContainerError, Exited
from mesoskit.agent.containers.docker_http import Body, Delays, Engine, EngineError, deliver
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
    """A command: C{pid} as the host sees it, C{init} its container's first process."""

    def __init__(self, container: ContainerId, init: int) -> None:
        self.id = container
        self.init = init
        self.exec_id = ""
        self.pid = 0
        self.over = False
        self.killed = False
        self.output: Body | None = None
        self.patience: IDelayedCall | None = None
        self.waiting: list[Deferred[None]] = []


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

    async def launch(self, spec: ContainerSpec, name: str, init: int) -> int:
        """
        Start a command; gives its pid. Raises L{ContainerError}.

        @param name: of the container that it runs in; C{init}: that one's first process.
        """
        if spec.id in self._commands:
            return self._commands[spec.id].pid
        if not spec.argv:
            raise ContainerError("nothing to execute: argv is empty")
        command = self._commands[spec.id] = _Command(spec.id, init)
        try:
            await self._start(command, spec, name)
        except BaseException:
            self._commands.pop(spec.id, None)
            raise
        return command.pid

    async def _start(self, command: _Command, spec: ContainerSpec, name: str) -> None:
        executable = spec.file or spec.argv[0]
        created = await self._engine.ask(
            "POST",
            f"/containers/{name}/exec",
            body={
                "AttachStdout": True,
                "AttachStderr": True,
                "Cmd": [executable, *spec.argv[1:]],
                "Env": [
                    f"{MARK}={spec.id}",
                    *(f"{key}={value}" for key, value in spec.environment),
                ],
            },
        )
        command.exec_id = created["Id"]
        response = await self._engine.stream(
            "POST", f"/exec/{command.exec_id}/start", body={"Detach": False, "Tty": False}
        )
        output = command.output = deliver(response, lambda data: None)
        found = await self._engine.ask("GET", f"/exec/{command.exec_id}/json")
        command.pid = found.get("Pid") or 0
        output.over.addBoth(lambda _: self._ended(command))

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
            _call_off(command)
            if command.output is not None:
                command.output.drop()

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
        """Its output has ended, and so has it, or will soon."""
        if not self._stopped and not command.over:
            delays = Delays(self._reactor, 0.1, 2.0)
            Deferred.fromCoroutine(self._look(command, delays)).addErrback(lambda _: None)

    async def _look(self, command: _Command, delays: Delays) -> None:
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
            delays.again(lambda: Deferred.fromCoroutine(self._look(command, delays)))
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
        _call_off(command)
        self._exited(command.id, status)
        waiting, command.waiting = command.waiting, []
        for waiter in waiting:
            waiter.callback(None)


def _call_off(command: _Command) -> None:
    if command.patience is not None and command.patience.active():
        command.patience.cancel()


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
