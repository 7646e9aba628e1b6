"""What the Docker engine says of containers: by inspection, by events, by its list.

L{Watch} hears of what becomes of the containers of one agent, and removes those that are done
with.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent.container import ContainerFacts, Limitation
from mesoskit.agent.containers.docker_create import (
    AGENT_LABEL,
    CONTAINER_LABEL,
    PATIENCE_LABEL,
    SANDBOX_LABEL,
    USER_LABEL,
)
from mesoskit.agent.containers.docker_http import Delays, Engine, EngineError, deliver
from mesoskit.agent.docker import name_of
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason

LOOKING: Final = 60.0
"""Seconds between two looks at all containers, in case an event was missed."""

SIGN: Final = 5.0
"""Seconds between two signs that an agent is there."""

FLUSH: Final = 3.0
"""Seconds after which events are taken to flow, though the engine has not said a word."""

AFTERWARDS: Final = (1.0, 4.0, 25.0, 120.0, 600.0)
"""Seconds after which what may yet come to be is removed again, each after the one before."""

MAX_EVENT: Final = 1 << 20

_ENDS: Final = frozenset({"die", "died", "destroy", "remove", "cleanup", "stop", "oom"})
_MEGABYTE: Final = 1 << 20
_NEVER: Final = "0001-"


@dataclass(slots=True, frozen=True)
class Found:
    """
    What an inspection tells of a container.

    @ivar pid: of its first process as the engine sees it; 0: it has ended, or not begun.
    @ivar never_started: it was created, and that is all.
    @ivar code: the exit status, as a shell has it: 128 and more for signals.
    @ivar stop_signal: by which the image wants to be asked to end.
    @ivar owner: user and group of its sandbox.
    @ivar patience: see C{ContainerSpec.patience}.
    @ivar execs: the engine's names of commands beside it.
    @ivar finished: when it ended, as the engine writes it.
    """

    engine_id: str = ""
    pid: int = 0
    running: bool = False
    never_started: bool = False
    code: int = 0
    oom: bool = False
    memory: int = 0
    tty: bool = False
    stop_signal: str = "SIGTERM"
    sandbox: str = ""
    owner: tuple[int, int] = (0, 0)
    patience: float | None = None
    finished: str = ""
    execs: tuple[str, ...] = ()
    facts: ContainerFacts | None = field(default=None, repr=False)

    @classmethod
    def read(cls, data: Any) -> "Found":
        """Read the answer of C{GET /containers/<name>/json}. Raises L{EngineError}."""
        try:
            state, config = data["State"], data["Config"]
            labels = config.get("Labels") or {}
            patience = labels.get(PATIENCE_LABEL)
            user, _, group = labels.get(USER_LABEL, "0:0").partition(":")
            return cls(
                engine_id=data["Id"],
                pid=state.get("Pid") or 0,
                running=bool(state["Running"] or state.get("Restarting")),
                never_started=state.get("Status") == "created"
                or (not state["Running"] and str(state.get("StartedAt", "")).startswith(_NEVER)),
                code=state.get("ExitCode") or 0,
                oom=bool(state.get("OOMKilled")),
                memory=(data.get("HostConfig") or {}).get("Memory") or 0,
                tty=bool(config.get("Tty")),
                stop_signal=str(config.get("StopSignal") or "SIGTERM"),
                sandbox=labels.get(SANDBOX_LABEL, ""),
                owner=(int(user), int(group)),
                patience=None if patience is None else float(patience),
                finished=str(state.get("FinishedAt", "")),
                execs=tuple(data.get("ExecIDs") or ()),
                facts=_facts(data),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EngineError(0, f"the engine's inspection cannot be read: {error!r}") from error

    @property
    def settled(self) -> bool:
        """Whether the engine knows yet how it has ended: podman does a moment later."""
        return not self.finished.startswith(_NEVER)

    def with_pid(self, pid: int) -> "Found":
        """Return the same with the pid that it had."""
        return replace(self, pid=self.pid or pid)

    def end(self, signals: set[int]) -> tuple[int | None, Limitation | None]:
        """
        Return the wait status of what has ended (L{None}: the engine does not know it), and
        whether it took too much memory.

        @param signals: what it was sent: only then a status of 128 and more is a signal's.
        """
        if not self.settled:
            return None, None
        limitation = None
        if self.oom and self.code:
            limit = f"{self.memory / _MEGABYTE:g}MB" if self.memory else "unknown"
            resources = (("mem", self.memory / _MEGABYTE),) if self.memory else ()
            limitation = Limitation(
                Reason.REASON_CONTAINER_LIMITATION_MEMORY,
                f"Memory limit exceeded: Requested: {limit} (the kernel has killed a process of"
                f" the container, which exited with status {self.code})",
                resources,
            )
        signum = self.code - 128
        if signum in signals or (signum == _number(self.stop_signal) and signal.SIGTERM in signals):
            return signum, limitation
        return (self.code & 0xFF) << 8, limitation

    def cgroup(self) -> str:
        """
        Return the cgroup of its first process; empty where there is no such process, or it is
        another one: the engine may be in another pid namespace.
        """
        if not self.pid or not self.engine_id:
            return ""
        try:
            with open(f"/proc/{self.pid}/cgroup", encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            return ""
        paths = [line.split(":", 2)[-1] for line in lines]
        return next((path for path in paths if self.engine_id in path), "")

    def pid_here(self) -> int:
        """Return the pid of its first process; 0 where it is none of ours to see."""
        return self.pid if self.cgroup() else 0


def _number(name: str) -> int:
    if name.isdigit():
        return int(name)
    found = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", 0)
    return int(found)


def _facts(data: dict[str, Any]) -> ContainerFacts:
    """Return what a status of the task tells: as Mesos, all of it, and the addresses."""
    settings = data.get("NetworkSettings") or {}
    networks = settings.get("Networks") or {}
    addresses = [settings.get("IPAddress") or ""]
    for network in networks.values():
        addresses += [network.get("IPAddress") or "", network.get("GlobalIPv6Address") or ""]
    # The environment may hold secrets, and who reads a status need not know them.
    config = {name: value for name, value in data["Config"].items() if name != "Env"}
    shown = {**data, "Config": config}
    return ContainerFacts(
        data=orjson.dumps([shown]), addresses=tuple(dict.fromkeys(filter(None, addresses)))
    )


class Watch:
    """
    Events of one agent's containers, and the list of them.

    @param compare: is given the list of all containers, whenever it is looked at.
    @param look_at: is given a container of which something was heard.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        engine: Engine,
        work_dir: str,
        directory: str,
        compare: Callable[[list[dict[str, Any]]], None],
        look_at: Callable[[ContainerId], None],
    ) -> None:
        """@param directory: where the sign is left that an agent is there."""
        self._reactor = reactor
        self._engine = engine
        self._label = f"{AGENT_LABEL}={work_dir}"
        self._sign = os.path.join(directory, "agent")
        self._compare = compare
        self._look_at = look_at
        self._delays = Delays(reactor, 0.2, 10.0)
        self._calls: dict[str, IDelayedCall] = {}
        self._removals: dict[str, float] = {}
        self._listening: Deferred[None] | None = None
        self._line = b""
        self._stopped = False

    def start(self) -> None:
        """Listen from now on."""
        self._listen()
        self._every("look", LOOKING, self._look_over)
        self._every("sign", SIGN, self._leave_sign)
        self._leave_sign()

    def stop(self) -> None:
        """Listen no more."""
        if not self._stopped and "sign" in self._calls:
            self._leave_sign()
        self._stopped = True
        self._delays.cancel()
        for call in self._calls.values():
            if call.active():
                call.cancel()
        self._calls.clear()
        if self._listening is not None:
            self._listening.cancel()

    def _every(self, name: str, seconds: float, look: Callable[[], None]) -> None:
        def again() -> None:
            self._calls[name] = self._reactor.callLater(seconds, again)
            look()

        self._calls[name] = self._reactor.callLater(seconds, again)

    def pause(self, seconds: float) -> "Deferred[None]":
        """Wait a little."""
        return deferLater(self._reactor, seconds)

    # How long nobody was there

    def away(self) -> float:
        """Return for how many seconds no agent was there; 0 where that is not known."""
        try:
            left = os.stat(self._sign).st_mtime
        except OSError:
            return 0.0
        return max(0.0, float(self._reactor.seconds()) - left)

    def age(self, finished: str) -> float:
        """Return for how many seconds a container has been over, or 0."""
        whole = finished.partition(".")[0].rstrip("Z")
        try:
            when = datetime.fromisoformat(whole + "+00:00").timestamp()
        except ValueError:
            return 0.0
        return max(0.0, float(self._reactor.seconds()) - when)

    def _leave_sign(self) -> None:
        now = self._reactor.seconds()
        try:
            with open(self._sign, "a"):
                os.utime(self._sign, (now, now))
        except OSError as error:
            self.log.warn("{path}: {why}", path=self._sign, why=error)

    # The list

    async def list(self) -> list[dict[str, Any]]:
        """Return what containers the engine has of this agent. Raises L{EngineError}."""
        query = {"all": "1", "filters": {"label": [self._label]}}
        found = await self._engine.ask("GET", "/containers/json", query)
        return [item for item in found or () if isinstance(item, dict)]

    def id_of(self, item: dict[str, Any]) -> ContainerId | None:
        """
        Return Mesos' id of a container in the list; L{None} for one that only seems to be ours:
        labels are handed down to images that are made of containers.
        """
        container = ContainerId((item.get("Labels") or {}).get(CONTAINER_LABEL, ""))
        names = [str(name).lstrip("/") for name in item.get("Names") or ()]
        return container if container and name_of(container) in names else None

    def _look_over(self) -> None:
        async def look() -> None:
            items = await self.list()
            self._compare(items)

        Deferred.fromCoroutine(look()).addErrback(lambda _: None)
        now = self._reactor.seconds()
        for name, when in list(self._removals.items()):
            if when <= now:
                self.remove_later(name, 0.0)

    # Events

    def _listen(self) -> None:
        listening = self._listening = Deferred.fromCoroutine(self._events())
        listening.addBoth(self._ended)

    async def _events(self) -> None:
        self._line = b""
        query = {"filters": {"type": ["container"], "label": [self._label]}}
        # Some engines begin their answer with the first event only.
        flush = self._calls["flush"] = self._reactor.callLater(FLUSH, self._look_over)
        try:
            response = await self._engine.stream("GET", "/events", query, timeout=None)
        finally:
            if flush.active():
                flush.cancel()
        body = deliver(response, self._received)
        self._delays.reset()
        self._look_over()
        await body.over

    def _received(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._event(line)
        if len(self._line) > MAX_EVENT:
            raise EngineError(0, "an event is too long")
        # Older engines end events with nothing.
        if self._line.endswith(b"}"):
            with suppress(orjson.JSONDecodeError):
                orjson.loads(self._line)
                line, self._line = self._line, b""
                self._event(line)

    def _event(self, line: bytes) -> None:
        with suppress(orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            event = orjson.loads(line)
            what = event.get("Action") or event.get("status") or ""
            attributes = (event.get("Actor") or {}).get("Attributes") or {}
            container = attributes.get(CONTAINER_LABEL)
            if what in _ENDS and container:
                self._look_at(ContainerId(container))

    def _ended(self, result: object) -> None:
        self._listening = None
        if self._stopped:
            return
        if isinstance(result, Failure):
            why = result.getErrorMessage()
            self.log.warn("events of the Docker engine: {why}", why=why)
        self._delays.again(self._listen)

    # Removing

    def remove_later(self, name: str, delay: float) -> None:
        """Remove a container that has ended, after so many seconds."""
        if delay > 0:
            self._removals[name] = self._reactor.seconds() + delay
            return

        def over(result: object) -> None:
            if isinstance(result, Failure):
                # It is tried again at the next look.
                self._removals[name] = self._reactor.seconds()
            else:
                self._removals.pop(name, None)

        if not self._stopped:
            Deferred.fromCoroutine(self.remove(name)).addBoth(over)

    def remove_again(self, name: str) -> None:
        """
        Remove a container that may yet come to be, several times: the engine was asked for it,
        and has not answered.
        """
        delays = iter(AFTERWARDS)

        def again() -> None:
            self._calls.pop(f"remove {name}", None)
            self.remove_later(name, 0.0)
            plan()

        def plan() -> None:
            delay = next(delays, None)
            if delay is not None and not self._stopped:
                self._calls[f"remove {name}"] = self._reactor.callLater(delay, again)

        plan()

    def keep(self, name: str) -> None:
        """It is wanted after all: do not remove it again."""
        call = self._calls.pop(f"remove {name}", None)
        if call is not None and call.active():
            call.cancel()
        self._removals.pop(name, None)

    async def remove(self, name: str) -> None:
        """Remove a container, dead or alive, and its nameless volumes. Raises L{EngineError}."""
        try:
            await self._engine.ask("DELETE", f"/containers/{name}", {"force": "1", "v": "1"})
        except EngineError as error:
            if error.status not in (404, 409):
                raise
