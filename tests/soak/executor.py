"""An executor whose tasks mark their start and their end. Run as a program by an agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from mesoskit.driver import Executor, run_executor
from tests.soak.books import mark


class Marking(Executor):
    """Tasks sleep for as long as their data says, and fail where it says so."""

    async def launch(self, driver: Any, task: Any) -> None:
        """Do what the task's data says."""
        # Only now is it known which one it is.
        from twisted.internet import reactor

        orders = json.loads(task.data)
        marks = Path(orders["marks"])
        mark("start", task.task_id.value, marks)
        try:
            await deferLater(cast(Any, reactor), orders["seconds"])
        except CancelledError:
            mark("cancel", task.task_id.value, marks)
            raise
        mark("end", task.task_id.value, marks)
        if orders["code"]:
            raise RuntimeError(f"exited with status {orders['code']}")


if __name__ == "__main__":
    run_executor(Marking())
