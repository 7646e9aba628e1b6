"""Masters and agents as C{mesoskit task} asks them: over HTTP, one question after the other."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mesoskit.messages import agent_pb2, master_pb2
from mesoskit.messages.mesos_pb2 import ContainerID, Task, TaskState
from mesoskit.model.tasks import TERMINAL
from mesoskit.wire import media

if TYPE_CHECKING:
    from mesoskit.cli.task import Line

PATIENCE: Final = 30.0
"""Seconds that an answer may take to begin."""

REDIRECTIONS: Final = 5

_MASTER: Final = "/master/api/v1"
"""Where masters take calls and agents do not: both would read the other's as one of their own."""

_LOCAL: Final = frozenset(("0.0.0.0", "::"))


class TaskError(Exception):
    """It cannot be done; the message says why."""


class Server:
    """
    A master or an agent.

    @param address: C{host:port}, or a URL.
    @param line: says who asks, and whom to believe.
    @param path: where it takes calls.
    """

    def __init__(self, address: str, line: Line, path: str = "/api/v1") -> None:
        parts = urlsplit(address if "//" in address else f"http://{address}")
        if parts.scheme not in ("http", "https"):
            raise TaskError(f"cannot ask {address!r}: host:port or https://host:port is wanted")
        try:
            self.port = parts.port or 5050
        except ValueError as error:
            raise TaskError(f"cannot ask {address!r}: {error}") from None
        self.host = parts.hostname or ""
        self.secure = parts.scheme == "https"
        self.line = line
        self.path = path

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to it. Raises L{TaskError}."""
        values = self.line.values
        connection: http.client.HTTPConnection
        if self.secure:
            try:
                context = ssl.create_default_context(cafile=values.tls_ca_file)
                if values.tls_cert_file is not None:
                    context.load_cert_chain(values.tls_cert_file, values.tls_key_file)
            except OSError as error:
                raise TaskError(f"--tls_ca_file, --tls_cert_file: {error}") from None
            connection = http.client.HTTPSConnection(
                self.host, self.port, timeout=PATIENCE, context=context
            )
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.connect()
        except OSError as error:
            why = str(error)
            broken = isinstance(error, (ssl.SSLError, ConnectionResetError))
            if self.secure and broken and not isinstance(error, ssl.SSLCertVerificationError):
                why += f"; if it speaks no TLS: http://{self.host}:{self.port}"
            raise TaskError(f"cannot reach {self.host}:{self.port}: {why}") from None
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def headers(self, **more: str) -> dict[str, str]:
        """Return the headers of a request; C{_} in names stands for C{-}."""
        found = {name.replace("_", "-"): value for name, value in more.items()}
        values = self.line.values
        if values.principal is not None:
            pair = f"{values.principal}:{values.secret}".encode()
            found["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        return found

    def begin(self, call: Any, **headers: str) -> http.client.HTTPResponse:
        """Make a call, and return the answer where it is 200. Raises L{TaskError}."""
        connection = self.connect()
        asked = self.headers(Content_Type=media.PROTOBUF, **headers)
        try:
            connection.request("POST", self.path, call.SerializeToString(), asked)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            why = str(error)
            if not self.secure and isinstance(error, ConnectionError):
                why += f"; if it speaks TLS: https://{self.host}:{self.port}"
            raise TaskError(f"{self.host}:{self.port} did not answer: {why}") from None
        if response.status in (307, 308):
            raise _Elsewhere(response.headers.get("Location", ""))
        if response.status == 404 and self.path == _MASTER:
            raise TaskError(f"{self.host}:{self.port} is no master: nothing is at {_MASTER}")
        if response.status != 200:
            said = response.read(4096).decode(errors="replace").strip()
            raise TaskError(
                f"{self.host}:{self.port} answered {response.status}: {said or response.reason}"
            )
        # What is a stream may be silent for as long as it likes.
        if connection.sock is not None:
            connection.sock.settimeout(None)
        return response

    def ask(self, call: Any, kind: Any) -> Any:
        """Make a call, and return the message that is its answer. Raises L{TaskError}."""
        with self.begin(call, Accept=media.PROTOBUF) as response:
            return kind.FromString(response.read())


class _Elsewhere(TaskError):
    """Another master leads."""

    def __init__(self, location: str) -> None:
        super().__init__(f"the master sends us on to {location!r}")
        self.location = location


class Target:
    """
    A task that runs.

    @ivar agent: who runs it.
    @ivar container: its container's id.
    """

    def __init__(self, agent: Server, container: ContainerID, name: str) -> None:
        self.agent = agent
        self.container = container
        self.name = name


class Cluster:
    """What the leading master knows."""

    def __init__(self, line: Line) -> None:
        self._line = line
        # Only here: most are asked at an address.
        from mesoskit.cli.leading import leading

        self._master = Server(leading(line.master), line, _MASTER)

    def _ask(self, name: str) -> Any:
        for _ in range(REDIRECTIONS):
            try:
                return self._master.ask(master_pb2.Call(type=name), master_pb2.Response)
            except _Elsewhere as elsewhere:
                location = elsewhere.location
                if location.startswith("//"):
                    location = f"http{'s' if self._master.secure else ''}:{location}"
                self._master = Server(location, self._line, _MASTER)
        raise TaskError("one master sends us on to the other: none of them leads")

    def _agents(self) -> dict[str, Any]:
        agents = self._ask("GET_AGENTS").get_agents.agents
        return {one.agent_info.id.value: one for one in agents}

    def rows(self, ended: bool) -> list[tuple[str, str, str, str]]:
        """Return id, state, framework and agent of each task."""
        tasks = self._ask("GET_TASKS").get_tasks
        hosts = {name: one.agent_info.hostname for name, one in self._agents().items()}
        shown = list(tasks.tasks)
        if ended:
            shown += [*tasks.unreachable_tasks, *tasks.completed_tasks]
        return [
            (
                task.task_id.value,
                TaskState.Name(task.state),
                task.framework_id.value,
                hosts.get(task.agent_id.value, task.agent_id.value),
            )
            for task in shown
        ]

    def task(self, name: str) -> Target:
        """Return the one task that runs and whose id is or begins so. Raises L{TaskError}."""
        running = [
            task for task in self._ask("GET_TASKS").get_tasks.tasks if task.state not in TERMINAL
        ]
        found = [task for task in running if task.task_id.value == name]
        found = found or [task for task in running if task.task_id.value.startswith(name)]
        if not found:
            raise TaskError(f"no task runs whose id is or begins with {name!r}")
        if len(found) > 1:
            names = ", ".join(sorted(task.task_id.value for task in found)[:5])
            raise TaskError(f"{len(found)} tasks run whose ids are or begin with {name!r}: {names}")
        (task,) = found
        agent = self._agents().get(task.agent_id.value)
        if agent is None:
            raise TaskError(f"the agent {task.agent_id.value} of task {name} is not there")
        address = agent.pid.rpartition("@")[2]
        host, _, port = address.rpartition(":")
        if host in _LOCAL:
            host = agent.agent_info.hostname
        scheme = "https" if self._master.secure else "http"
        server = Server(f"{scheme}://{host}:{port}", self._line)
        return Target(server, _container_of(task), task.task_id.value)


def _container_of(task: Task) -> ContainerID:
    for status in reversed(task.statuses):
        if status.container_status.HasField("container_id"):
            return status.container_status.container_id
    raise TaskError(f"task {task.task_id.value} has no container yet")


def agent_call(name: str) -> agent_pb2.Call:
    """Return a call to an agent, to be filled."""
    return agent_pb2.Call(type=name)
