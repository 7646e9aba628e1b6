"""A Docker engine that runs nothing: the double of the real one, on a real UNIX socket.

It answers as the real one does, and can be told to misbehave: to lose events, to be silent, to
refuse, to break off. C{sh -c 'exit N'} ends at once, all else runs until it is killed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from signal import Signals
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from mesoskit.agent.containers.docker_create import CONTAINER_LABEL
from tests.agent.real import REACTOR

NEVER = "0001-01-01T00:00:00Z"
MOMENT = "2026-11-21T16:00:{:02d}.{:09d}Z"


class Container:
    """One of them."""

    def __init__(self, name: str, body: dict[str, Any], pid: int) -> None:
        self.name = name
        self.body = body
        self.engine_id = f"{pid:064x}"
        self.pid = pid
        self.status = "created"
        self.code = 0
        self.oom = False
        self.log: list[tuple[int, bytes, str]] = []
        self.readers: list[Any] = []

    @property
    def running(self) -> bool:
        return self.status == "running"

    def inspection(self) -> dict[str, Any]:
        started = NEVER if self.status == "created" else MOMENT.format(0, 0)
        return {
            "Id": self.engine_id,
            "Name": f"/{self.name}",
            "State": {
                "Status": self.status,
                "Running": self.running,
                "Pid": self.pid if self.running else 0,
                "ExitCode": self.code,
                "OOMKilled": self.oom,
                "StartedAt": started,
                "FinishedAt": MOMENT.format(59, 0),
            },
            "Config": {"Labels": self.body.get("Labels"), "Tty": False, "Env": ["SECRET=1"]},
            "HostConfig": self.body["HostConfig"],
            "NetworkSettings": {"Networks": {}},
        }


class EngineDouble(Resource):
    """
    The engine.

    @ivar containers: by name.
    @ivar asked: how often each thing was asked for: C{"kill"}, C{"create"} ...
    @ivar silent: what is not answered at all; C{refused}: what is answered with 500.
    @ivar deaf: it sends no events.
    @ivar pulling: what a pull answers, line by line; L{None} for one that never ends.
    @ivar images: those that are there.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.containers: dict[str, Container] = {}
        self.asked: Counter[str] = Counter()
        self.silent: set[str] = set()
        self.refused: set[str] = set()
        self.deaf = False
        self.images = {"busybox"}
        self.pulling: list[dict[str, Any]] | None = [{"status": "Pulling"}]
        self.auth: list[str] = []
        self.version = {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "double"}
        self._listeners: list[Any] = []
        self._held: list[Any] = []
        self._port: Any = None
        self._last_pid = 4_000_000  # beyond every pid

    def listen(self, path: str) -> None:
        """Be there."""
        site = Site(self)
        site.displayTracebacks = False
        self._port = REACTOR.listenUNIX(path, site)

    async def close(self) -> None:
        """Be away; all connections break."""
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()
        self.cut()

    def cut(self) -> None:
        """Break off all that goes on."""
        everything = [*self._listeners, *self._held]
        for one in self.containers.values():
            everything += one.readers
            one.readers = []
        self._listeners, self._held = [], []
        for request in everything:
            if request.channel is not None:
                request.channel.transport.abortConnection()

    # What happens in containers

    def write(self, name: str, text: bytes, which: int = 1, moment: str = "") -> None:
        """Let a container write."""
        one = self.containers[name]
        # Several messages have the same.
        moment = moment or MOMENT.format(1, len(one.log) // 3)
        one.log.append((which, text, moment))
        for reader in one.readers:
            reader.write(_frame(*one.log[-1]))

    def end(self, name: str, code: int, oom: bool = False) -> None:
        """End a container."""
        one = self.containers[name]
        if one.running:
            one.status, one.code, one.oom = "exited", code, oom
            readers, one.readers = one.readers, []
            for reader in readers:
                reader.finish()
            self._event(one, "die")

    def _event(self, one: Container, action: str) -> None:
        if self.deaf:
            return
        attributes = {**(one.body.get("Labels") or {}), "name": one.name}
        event = {"Type": "container", "Action": action, "Actor": {"Attributes": attributes}}
        for listener in self._listeners:
            listener.write(json.dumps(event).encode() + b"\n")

    # Requests

    def render(self, request: Any) -> Any:
        """Answer."""
        path = re.sub(r"^/v1\.\d+", "", request.path.decode())
        method = request.method.decode()
        request.notifyFinish().addErrback(lambda _: self._gone(request))
        for pattern, what in _ROUTES:
            found = re.fullmatch(pattern, f"{method} {path}")
            if found:
                self.asked[what] += 1
                if what in self.silent:
                    self._held.append(request)
                    return NOT_DONE_YET
                if what in self.refused:
                    return _answer(request, 500, {"message": f"{what} is refused"})
                answer: Callable[..., Any] = getattr(self, f"_{what}")
                return answer(request, *found.groups())
        return _answer(request, 404, {"message": "page not found"})

    def _gone(self, request: Any) -> None:
        for requests in (self._listeners, self._held):
            if request in requests:
                requests.remove(request)
        for one in self.containers.values():
            if request in one.readers:
                one.readers.remove(request)

    def _hello(self, request: Any) -> Any:
        return _answer(request, 200, self.version)

    def _list(self, request: Any) -> Any:
        (wanted,) = json.loads(request.args[b"filters"][0])["label"]
        label, _, value = wanted.partition("=")
        found = [
            {
                "Id": one.engine_id,
                "Names": [f"/{one.name}"],
                "Labels": one.body.get("Labels"),
                "State": one.status,
            }
            for one in self.containers.values()
            if (one.body.get("Labels") or {}).get(label) == value
        ]
        return _answer(request, 200, found)

    def _create(self, request: Any) -> Any:
        name = request.args[b"name"][0].decode()
        body = json.loads(request.content.read())
        if name in self.containers:
            return _answer(request, 409, {"message": f"the name {name} is in use"})
        if body["Image"] not in self.images:
            return _answer(request, 404, {"message": f"No such image: {body['Image']}"})
        self._last_pid += 1
        self.containers[name] = Container(name, body, self._last_pid)
        return _answer(request, 201, {"Id": self.containers[name].engine_id})

    def _start(self, request: Any, name: str) -> Any:
        one = self.containers.get(name)
        if one is None:
            return _answer(request, 404, {"message": f"No such container: {name}"})
        one.status = "running"
        command = (one.body.get("Cmd") or [""])[-1]
        found = re.fullmatch(r"exit (\d+)", command)
        if found:
            REACTOR.callLater(0, self.end, name, int(found[1]))
        return _answer(request, 204)

    def _inspect(self, request: Any, name: str) -> Any:
        for one in self.containers.values():
            if name in (one.name, one.engine_id):
                return _answer(request, 200, one.inspection())
        return _answer(request, 404, {"message": f"No such container: {name}"})

    def _kill(self, request: Any, name: str) -> Any:
        one = self.containers.get(name)
        if one is None:
            return _answer(request, 404, {"message": f"No such container: {name}"})
        if not one.running:
            return _answer(request, 409, {"message": f"Container {name} is not running"})
        given = request.args[b"signal"][0].decode()
        number = int(given) if given.isdigit() else Signals[given]
        REACTOR.callLater(0, self.end, name, 128 + number)
        return _answer(request, 204)

    def _update(self, request: Any, name: str) -> Any:
        self.containers[name].body["HostConfig"].update(json.loads(request.content.read()))
        return _answer(request, 200, {"Warnings": None})

    def _stats(self, request: Any, name: str) -> Any:
        usage = {"total_usage": 3 * 10**9, "usage_in_kernelmode": 10**9}
        throttled = {"periods": 10, "throttled_periods": 4, "throttled_time": 15 * 10**8}
        memory = {"usage": 5000, "limit": 1 << 63, "stats": {"rss": 4096}}
        networks = {"eth0": {"rx_bytes": 10}, "eth1": {"rx_bytes": 20, "tx_dropped": 1}}
        blocks = [{"major": 8, "minor": 0, "op": op, "value": 512} for op in ("Read", "total")]
        stats = {
            "cpu_stats": {"cpu_usage": usage, "throttling_data": throttled},
            "memory_stats": memory,
            "networks": networks,
            "blkio_stats": {"io_service_bytes_recursive": blocks, "io_serviced_recursive": None},
        }
        return _answer(request, 200, {**stats, "pids_stats": {"current": 2}})

    def _remove(self, request: Any, name: str) -> Any:
        for one in list(self.containers.values()):
            if name in (one.name, one.engine_id):
                self.end(one.name, 137)
                del self.containers[one.name]
                return _answer(request, 204)
        return _answer(request, 404, {"message": f"No such container: {name}"})

    def _logs(self, request: Any, name: str) -> Any:
        one = self.containers.get(name)
        if one is None:
            return _answer(request, 404, {"message": f"No such container: {name}"})
        request.setHeader(b"content-type", b"application/octet-stream")
        since = request.args[b"since"][0].decode()
        for which, text, moment in one.log:
            seconds = f"1795276801.{moment[-10:-1]}"
            if since == "0" or seconds >= since:
                request.write(_frame(which, text, moment))
        if not one.running or request.args[b"follow"] == [b"0"]:
            request.finish()
        else:
            request.write(b"")
            one.readers.append(request)
        return NOT_DONE_YET

    def _events(self, request: Any) -> Any:
        request.setHeader(b"content-type", b"application/json")
        request.write(b"")
        self._listeners.append(request)
        return NOT_DONE_YET

    def _pull(self, request: Any) -> Any:
        self.auth.append(request.getHeader("X-Registry-Auth") or "")
        name = request.args[b"fromImage"][0].decode()
        if self.pulling is None:
            request.write(b'{"status": "Downloading"}\n')
            self._held.append(request)
            return NOT_DONE_YET
        for line in self.pulling:
            request.write(json.dumps(line).encode() + b"\r\n")
        if not any("error" in line for line in self.pulling):
            self.images.add(name)
        request.finish()
        return NOT_DONE_YET

    def mine(self) -> list[str]:
        """Return Mesos' ids of what there is."""
        return [one.body["Labels"][CONTAINER_LABEL] for one in self.containers.values()]


_ROUTES = (
    (r"GET /version", "hello"),
    (r"GET /containers/json", "list"),
    (r"POST /containers/create", "create"),
    (r"POST /containers/([^/]+)/start", "start"),
    (r"GET /containers/([^/]+)/json", "inspect"),
    (r"POST /containers/([^/]+)/kill", "kill"),
    (r"POST /containers/([^/]+)/update", "update"),
    (r"GET /containers/([^/]+)/stats", "stats"),
    (r"GET /containers/([^/]+)/logs", "logs"),
    (r"DELETE /containers/([^/]+)", "remove"),
    (r"GET /events", "events"),
    (r"POST /images/create", "pull"),
)


def _answer(request: Any, code: int, body: Any = None) -> bytes:
    request.setResponseCode(code)
    request.setHeader(b"content-type", b"application/json")
    return b"" if body is None else json.dumps(body).encode()


def _frame(which: int, text: bytes, moment: str) -> bytes:
    message = moment.encode() + b" " + text
    return bytes([which, 0, 0, 0]) + len(message).to_bytes(4, "big") + message
