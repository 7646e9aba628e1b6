"""What is remembered of what has ended, and no more of it than was asked for."""

from collections.abc import Iterator

from mesoskit.master.records import Framework, Task
from mesoskit.model.ids import FrameworkId, TaskId


class Completed:
    """
    The last frameworks that ended, the oldest forgotten first.

    @param limit: C{--max_completed_frameworks}; with 0 nothing is remembered, so that a
        removed framework may come back under its id.
    """

    __slots__ = ("_frameworks", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._frameworks: dict[FrameworkId, Framework] = {}

    def __contains__(self, framework_id: FrameworkId) -> bool:
        return framework_id in self._frameworks

    def __iter__(self) -> Iterator[Framework]:
        return iter(self._frameworks.values())

    def __len__(self) -> int:
        return len(self._frameworks)

    def get(self, framework_id: FrameworkId) -> Framework | None:
        """Return a completed framework, or L{None} where it is not remembered."""
        return self._frameworks.get(framework_id)

    def add(self, framework: Framework) -> None:
        """Remember a framework that has ended."""
        self._frameworks[framework.id] = framework
        while len(self._frameworks) > self._limit:
            del self._frameworks[next(iter(self._frameworks))]

    def forget(self, framework_id: FrameworkId) -> None:
        """Forget a framework: it has not ended after all."""
        self._frameworks.pop(framework_id, None)


def remember_unreachable(framework: Framework, task: Task, limit: int) -> Task | None:
    """
    Put a task among its framework's unreachable ones; return the one that had to be
    forgotten for it, if any (C{--max_unreachable_tasks_per_framework}).
    """
    unreachable = framework.unreachable
    unreachable.pop(task.id, None)
    unreachable[task.id] = task
    if len(unreachable) > limit:
        return unreachable.pop(next(iter(unreachable)))
    return None


def forget_completed(framework: Framework, task_id: TaskId) -> None:
    """Forget an ended task: its agent came back and still has it."""
    completed = framework.completed
    if any(task.id == task_id for task in completed):
        kept = [task for task in completed if task.id != task_id]
        completed.clear()
        completed.extend(kept)
