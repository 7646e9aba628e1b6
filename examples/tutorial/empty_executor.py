"""The executor of stage two: its tasks run and finish, and do nothing in between."""

from mesoskit.driver import Executor, run_executor


class EmptyExecutor(Executor):
    """Runs tasks as coroutines: one that returns has finished, one that raises has failed."""

    async def launch(self, driver, task):
        print(f"Launching task {task.name} with data {task.data!r}", flush=True)
        # The driver has reported TASK_RUNNING; real work would stand here.


if __name__ == "__main__":
    run_executor(EmptyExecutor())
