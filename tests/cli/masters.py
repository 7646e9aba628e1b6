"""Masters in this process that answer what a test wants them to, over HTTP."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from mesoskit.cli import main
from mesoskit.messages import master_pb2
from mesoskit.messages.codec import to_json
from mesoskit.messages.mesos_pb2 import DrainState, Resource, TaskState
from mesoskit.model.resources import Resources

Answer = Callable[[http.server.BaseHTTPRequestHandler, Any], None]


@contextmanager
def master(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve HTTP with a function, called with C{None} where something is got; give the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer(self, master_pb2.Call.FromString(body))

        def do_GET(self) -> None:
            answer(self, None)

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def say(handler: Any, status: int, body: bytes) -> None:
    """Answer with a status and bytes."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def reply(handler: Any, message: Any) -> None:
    """Answer with a message."""
    as_json = handler.headers["Accept"] == "application/json"
    say(handler, 200, to_json(message) if as_json else message.SerializeToString())


def refusal(status: int, text: str) -> Answer:
    """Return what refuses everything."""
    return lambda handler, call: say(handler, status, text.encode())


def resources(text: str) -> list[Resource]:
    """Return resources as messages."""
    return Resources.parse(text).to_message()


class Master:
    """
    A master whose agents, frameworks and tasks are what a test says.

    @ivar state: what GET_STATE would show.
    @ivar registry: what the registry's endpoint shows.
    @ivar changes: the calls that change something, as they came.
    @ivar refuses: what it answers to everything, where it is set.
    """

    def __init__(self) -> None:
        self.state = master_pb2.Response.GetState()
        self.registry: dict[str, Any] = {}
        self.changes: list[master_pb2.Call] = []
        self.refuses: Answer | None = None

    def __call__(self, handler: http.server.BaseHTTPRequestHandler, call: Any) -> None:
        """Answer."""
        if self.refuses is not None:
            self.refuses(handler, call)
        elif call is None:
            known = handler.path == "/registrar(1)/registry"
            say(handler, 200 if known else 404, json.dumps(self.registry).encode())
        else:
            self._answer(handler, call)

    def _answer(self, handler: http.server.BaseHTTPRequestHandler, call: master_pb2.Call) -> None:
        name = master_pb2.Call.Type.Name(call.type)
        if not name.startswith("GET_"):
            self.changes.append(call)
            say(handler, 200, b"")
            return
        response = master_pb2.Response(type=name)
        part = getattr(response, name.lower())
        part.SetInParent()
        if name == "GET_MASTER":
            part.master_info.id, part.master_info.ip, part.master_info.port = "m", 1, 5050
            part.master_info.hostname, part.master_info.version = "node1", "1.2.3"
            part.start_time, part.elected_time = 1.0, 86400.0
        elif name in ("GET_AGENTS", "GET_FRAMEWORKS", "GET_TASKS"):
            part.CopyFrom(getattr(self.state, name.lower()))
        reply(handler, response)

    def agent(self, name: str, host: str, state: str = "active") -> Any:
        """Add an agent; it has 4 cpus, of which 1.5 are used."""
        shown = self.state.get_agents.agents.add(
            active=state == "active", version="1.2.3", pid=f"slave(1)@{host}:5051"
        )
        shown.agent_info.id.value, shown.agent_info.hostname = name, host
        shown.registered_time.nanoseconds = 10**9
        shown.total_resources.extend(resources("cpus:4;mem:1024"))
        shown.allocated_resources.extend(resources("cpus:1.5;mem:32"))
        shown.deactivated = state not in ("active", "disconnected")
        if state in ("draining", "drained"):
            self.drains(shown, state)
        return shown

    def drains(self, shown: Any, state: str) -> None:
        """Let an agent drain, or have drained."""
        shown.drain_info.state = DrainState.Value(state.upper())
        shown.drain_info.config.SetInParent()
        shown.estimated_drain_start_time.nanoseconds = 60 * 10**9

    def recovered(self, name: str, host: str) -> None:
        """Add an agent that has not come back."""
        info = self.state.get_agents.recovered_agents.add(hostname=host)
        info.id.value = name

    def lost(self, state: str, name: str) -> None:
        """Add an agent that is unreachable, or gone."""
        entry = {"id": {"value": name}, "timestamp": {"nanoseconds": 120 * 10**9}}
        self.registry.setdefault(state, {"slaves": []})["slaves"].append(entry)

    def framework(self, name: str, ended: bool = False, **fields: Any) -> Any:
        """Add a framework."""
        frameworks = self.state.get_frameworks
        kept = frameworks.completed_frameworks if ended else frameworks.frameworks
        shown = kept.add(
            **{"active": not ended, "connected": not ended, "recovered": False, **fields}
        )
        shown.framework_info.id.value = name
        shown.framework_info.name, shown.framework_info.user = "web", "kim"
        shown.framework_info.roles.append("prod")
        shown.framework_info.principal = "marathon"
        shown.allocated_resources.extend(resources("cpus:1.5;mem:32"))
        return shown

    def task(self, name: str, agent: str, framework: str, kept: str = "tasks") -> Any:
        """Add a task that runs."""
        task = getattr(self.state.get_tasks, kept).add(name=name, state=TaskState.TASK_RUNNING)
        task.task_id.value, task.agent_id.value, task.framework_id.value = name, agent, framework
        task.resources.extend(resources("cpus:1.5;mem:32"))
        return task


def said(*arguments: str) -> tuple[int, str, str]:
    """Run C{mesoskit}; return its exit status, and what it has written."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        status = main(arguments)
    return status, out.getvalue(), err.getvalue()
