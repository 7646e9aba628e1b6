"""The endpoints that master and agent answer alike: health, metrics, logging, the machine."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from mesoskit import __version__
from mesoskit.model.build import Build
from mesoskit.model.durations import InvalidDuration, parse_duration
from mesoskit.web import prometheus, system, verbosity
from mesoskit.web.authentication import Realm
from mesoskit.web.routes import Reply, Route, parameter, text
from mesoskit.web.sending import Document


@dataclass(slots=True, frozen=True)
class MetricParts:
    """
    Metrics, of which some are written already.

    @ivar metrics: by name, in any order.
    @ivar prefix: what the names of the others begin with.
    @ivar members: the others, as members of a JSON object, in order.
    """

    metrics: dict[str, float]
    prefix: str = ""
    members: Sequence[bytes] = ()

    def as_json(self) -> bytes:
        """Return all of them as a JSON object, names in alphabetical order."""
        names = sorted(self.metrics)
        here = bisect_left(names, self.prefix) if self.members else len(names)
        parts = [self._written(names[:here]), *self.members, self._written(names[here:])]
        return b"{%b}" % b",".join([part for part in parts if part])

    def _written(self, names: Sequence[str]) -> bytes:
        metrics = self.metrics
        return orjson.dumps({name: metrics[name] for name in names})[1:-1]


class DaemonService(Protocol):
    """What these endpoints ask of a service."""

    reactor: Any

    def metrics(self) -> dict[str, float]:
        """Return all metrics by Mesos' names."""
        ...

    def metrics_in_parts(self) -> MetricParts:
        """Return the same, what there is much of written already."""
        ...


def health(service: DaemonService, request: Any) -> Reply:
    """Say that the daemon is there: 200 and nothing else."""
    return Reply()


def version_reply(version: str, build: Build) -> Reply:
    """Return the answer of C{/version}: the Mesos that this speaks like, and our own."""
    return Reply(body={**build.as_json(), "mesoskit_version": __version__, "version": version})


def measured(service: DaemonService) -> dict[str, float]:
    """Return all metrics, the machine's too, names in alphabetical order."""
    shown = service.metrics()
    shown.update(system.figures())
    return dict(sorted(shown.items()))


def snapshot(service: DaemonService, request: Any) -> Reply:
    """
    Return all metrics in one flat JSON object, names in alphabetical order.

    C{timeout=10secs} is understood and makes no difference: no metric has to be waited for.
    """
    timeout = parameter(request, "timeout")
    if timeout is not None:
        try:
            parse_duration(timeout)
        except InvalidDuration as error:
            return text(400, f"Invalid timeout '{timeout}': {error}.\n")
    return Reply(body=Document(lambda: _snapshot(service), "metrics"))


def _snapshot(service: DaemonService) -> Iterator[bytes]:
    parts = service.metrics_in_parts()
    parts.metrics.update(system.figures())
    yield parts.as_json()


def metrics(service: DaemonService, request: Any) -> Reply:
    """Return all metrics in Prometheus' text form; an extension of mesoskit."""
    shown = prometheus.text_form(measured(service))
    return Reply(body=shown.encode(), headers={"Content-Type": prometheus.TYPE})


def toggle(service: DaemonService, request: Any) -> Reply:
    """
    Return the level of logging, or set it for a while.

    C{level=1} shows debug messages too, until C{duration=10mins} has passed; level 0 does not.
    """
    level, duration = parameter(request, "level"), parameter(request, "duration")
    status, why = verbosity.toggle(level, duration, service.reactor)
    return text(status, why) if why else Reply(status)


def stats(service: DaemonService, request: Any) -> Reply:
    """Show the machine's load, processors and memory."""
    return Reply(body=system.stats())


def processes_reply(*names: str) -> Reply:
    """Return the answer of C{/__processes__}: what serves here, and that none has to queue."""
    return Reply(body=[{"events": [], "id": name} for name in names])


def profiler(service: DaemonService, request: Any) -> Reply:
    """Say that there is no profiler, as a Mesos does that was built without one."""
    return text(
        400,
        "Perftools is disabled. To enable perftools, configure libprocess with"
        " --enable-perftools.\n",
    )


def flags_reply(flags: dict[str, str]) -> Reply:
    """Return the answer of C{/flags}."""
    return Reply(body={"flags": flags})


ROUTES: tuple[Route, ...] = (
    Route("health", health, realm=Realm.OPEN),
    Route("metrics/snapshot", snapshot, prefixed=False, realm=Realm.READONLY),
    Route("metrics", metrics, prefixed=False, realm=Realm.READONLY),
    Route("logging/toggle", toggle, prefixed=False, realm=Realm.READWRITE),
    Route("profiler/start", profiler, prefixed=False, realm=Realm.READWRITE),
    Route("profiler/stop", profiler, prefixed=False, realm=Realm.READWRITE),
    Route("system/stats.json", stats, prefixed=False, realm=Realm.OPEN),
)
"""Rows for a daemon's table."""
