"""An agent that is killed at a step: ``python dying_agent.py <directory> <runtime>``.

Reads from standard input, line by line, what it is to do (``get`` an image, or ``launch`` a
container) and before which step of that it is killed. Each time a copy does it; then a line says
what became of the copy: ``killed``, or ``done`` where there are not so many steps.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import selectreactor

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

REPEATED = 3
"""Looks at one thing that count as steps: it is looked for often."""


class Steps:
    """Counts steps, from the moment when C{left} is set."""

    def __init__(self) -> None:
        self.left = 0
        self.seen: dict[str, int] = {}

    def watch(self, where: Any, *names: str) -> None:
        """Let each call of some functions be a step."""
        for name in names:
            setattr(where, name, self._step(name, getattr(where, name)))

    def _step(self, name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **more: Any) -> Any:
            if self.left:
                self.seen[name] = self.seen.get(name, 0) + 1
                if name != "state" or self.seen[name] <= REPEATED:
                    self.left -= 1
                    if not self.left:
                        os.kill(os.getpid(), signal.SIGKILL)
            return do(*arguments, **more)

        return step


def run(directory: str, maker: str, what: str, steps: Steps, before: int) -> None:
    """Do it once, and end."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    from mesoskit.agent.containers.image_store import ImageStore
    from mesoskit.agent.containers.imaged import ImageContainers
    from mesoskit.agent.containers.launched import LaunchedContainers
    from mesoskit.agent.containers.provisioning import Provisions
    from mesoskit.agent.users import Users, in_thread_of
    from tests.agent.test_imaged_steps import full

    reactor: Any = installed
    in_thread = in_thread_of(reactor)
    users = Users(reactor, in_thread)
    work = os.path.join(directory, "work")
    agent = ImageContainers(
        reactor,
        users,
        in_thread,
        ImageStore(
            reactor, in_thread, os.path.join(work, "store"), os.path.join(directory, "folder")
        ),
        Provisions(os.path.join(work, "provisioner"), os.path.join(work, "secrets"), maker),
        lambda container, status, limitation=None: None,
    )
    agent.inner = LaunchedContainers(
        reactor, os.path.join(directory, "launcher"), users, in_thread, agent.exited, linger=0.1
    )

    async def do() -> None:
        try:
            await agent.start()
            await agent.recover()
            steps.left = before
            if what == "get":
                await agent.store.get("busy", cached=False)
            else:
                await agent.launch(full(directory, "a"))
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)

    reactor.callWhenRunning(Deferred.fromCoroutine, do())
    reactor.run()


def main(directory: str, maker: str) -> None:
    """Do what is said."""
    selectreactor.install()
    from mesoskit.agent.containers import image_store, imaged, launched, provisioning

    steps = Steps()
    steps.watch(os, "makedirs", "mkdir", "open", "rename", "symlink", "link", "chmod")
    steps.watch(provisioning, "_write")
    steps.watch(provisioning.Provisions, "state", "_write_secrets", "remove")
    steps.watch(image_store, "run_tool", "read_layer", "layout_of", "hide")
    steps.watch(imaged, "_make_logs")
    steps.watch(launched.LaunchedContainers, "_ask", "launch")
    for line in sys.stdin:
        what, before = line.split()
        pid = os.fork()
        if not pid:
            run(directory, maker, what, steps, int(before))
        status = os.waitpid(pid, 0)[1]
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise SystemExit(1)
        print("killed" if os.WIFSIGNALED(status) else "done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
