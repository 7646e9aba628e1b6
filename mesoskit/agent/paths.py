"""Where things lie under the work directory: Mesos' own layout (C{src/slave/paths.hpp}).

    slaves/<agent>/frameworks/<framework>/executors/<executor>/runs/<container>/     a sandbox
        .../runs/latest                         a link to the newest
        .../runs/<container>/containers/<nested>/   the sandbox of a task of a group
        .../runs/<container>/tasks/<task>       a link to it

Ids are valid file names (L{mesoskit.model.validation_ids}). Paths are made here, never read.
"""


def executor_run_path(
    work_dir: str, agent_id: str, framework_id: str, executor_id: str, container_id: str
) -> str:
    """Return the sandbox of an executor's container."""
    return (
        f"{work_dir}/slaves/{agent_id}/frameworks/{framework_id}"
        f"/executors/{executor_id}/runs/{container_id}"
    )


def latest_link(run_path: str) -> str:
    """Return the link that stands beside a sandbox for the newest one."""
    return f"{run_path.rpartition('/')[0]}/latest"


def nested_path(run_path: str, container_id: str) -> str:
    """Return the sandbox of a container within an executor's."""
    return f"{run_path}/containers/{container_id}"


def task_link(run_path: str, task_id: str) -> str:
    """Return the link by which a task of a group is found in its executor's sandbox."""
    return f"{run_path}/tasks/{task_id}"
