"""Sandboxes over HTTP: which of them may be seen, and by which path.

A sandbox is attached as Mesos' agent attaches it (C{src/slave/slave.cpp}): under its own
absolute path, under C{.../runs/latest} beside it, and under
C{/frameworks/<id>/executors/<id>/runs/latest}; as long as its executor runs, and after that
until the garbage collection has it. How it is read is L{mesoskit.web.files}' business.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mesoskit.agent import authorizing
from mesoskit.agent.frameworks import Executor
from mesoskit.agent.paths import latest_link
from mesoskit.model.authorization import ANYBODY, Action, Subject
from mesoskit.model.ids import ExecutorId, FrameworkId
from mesoskit.web.files import LONGEST_PATH, Attached, Forbidden, NotThere, log_at

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState


LOG: Final = "/slave/log"
"""Where the agent's own log is to be seen, if C{--external_log_file} names one."""


class Sandboxes:
    """
    The L{mesoskit.web.files.Door} to an agent's sandboxes.

    @param subject: who asks.
    """

    def __init__(self, state: AgentState, subject: Subject) -> None:
        self._state = state
        self._subject = subject

    def resolve(self, path: str) -> Attached:
        """Return which sandbox a path is in, as L{resolve}."""
        return resolve(self._state, path, self._subject)

    def attached(self) -> Iterator[tuple[str, str]]:
        """Give all virtual paths with what they stand for, as L{attached}."""
        return attached(self._state)


def attached(state: AgentState) -> Iterator[tuple[str, str]]:
    """Give all virtual paths with what they stand for, as C{/files/debug} shows them."""
    log = log_at(LOG, state.options.external_log_file, LOG)
    if log is not None:
        yield LOG, log.root
    frameworks = [*state.frameworks.values(), *state.completed_frameworks.values()]
    for framework in frameworks:
        for executor in (*framework.completed, *framework.executors.values()):
            path = executor.directory
            if _is_there(state, path, executor):
                yield path, path
                yield latest_link(path), path
                yield f"/frameworks/{framework.id}/executors/{executor.id}/runs/latest", path


def _is_there(state: AgentState, path: str, executor: Executor | None) -> bool:
    """Tell whether a sandbox is in use or waits for the garbage collection."""
    if path in state.sandboxes:
        return True
    live = None if executor is None else executor.framework.executors.get(executor.id)
    return live is not None and live.directory == path and path not in state.sandboxes.going


def resolve(state: AgentState, path: str, subject: Subject = ANYBODY) -> Attached:
    """
    Return which sandbox a path is in, or the agent's own log.

    Reads no file but C{runs/latest}, which is the agent's own. Raises L{NotThere}, and
    L{Forbidden} where C{subject} may not look into what is there.
    """
    if len(path) > LONGEST_PATH or "\0" in path:
        raise NotThere(path)
    prefix = f"{state.options.work_dir}/slaves/"
    log = log_at(LOG, state.options.external_log_file, path)
    if log is not None:
        if not subject.may(Action.ACCESS_MESOS_LOG):
            raise Forbidden(path)
        return log
    names = [name for name in path.split("/") if name not in ("", ".")]
    plain = "/" + "/".join(names)
    agent_id: str = state.agent_id
    if plain.startswith(prefix):
        agent_id, _, inner = plain[len(prefix) :].partition("/")
        names = inner.split("/")
    elif not plain.startswith("/frameworks/"):
        raise NotThere(path)
    match names:
        case ["frameworks", framework_id, "executors", executor_id, "runs", run, *rest]:
            runs = f"{prefix}{agent_id}/frameworks/{framework_id}/executors/{executor_id}/runs"
        case _:
            raise NotThere(path)
    if ".." in (framework_id, executor_id, run, agent_id):
        raise NotThere(path)
    framework = state.frameworks.get(FrameworkId(framework_id))
    executor = None if framework is None else framework.executors.get(ExecutorId(executor_id))
    root = _latest(runs) if run == "latest" else f"{runs}/{run}"
    if root is None or not root.startswith(f"{runs}/") or not _is_there(state, root, executor):
        raise NotThere(path)
    if not authorizing.sandbox_visible(state, subject, framework_id, executor_id):
        raise Forbidden(path)
    return Attached(root, rest)


def _latest(runs: str) -> str | None:
    try:
        return os.readlink(f"{runs}/latest")
    except (OSError, ValueError):
        return None
