"""Flags of the agent that say how much of the output of containers is kept."""

from typing import TYPE_CHECKING

from mesoskit.app.daemon import one_of
from mesoskit.flags import Flag, Values, integer, size

if TYPE_CHECKING:
    from mesoskit.agent.log_sizes import Sizes

LOGROTATE = "logrotate", "org_apache_mesos_LogrotateContainerLogger"

_DEFAULT = 10 << 20


def log_size(value: str) -> int:
    """Read what a log is held to: a page at least, as in Mesos."""
    result = size(value)
    if result < 4096:
        raise ValueError("expected a size of at least 4096B, such as 10MB")
    return result


FLAGS = (
    Flag(
        "container_logger",
        one_of("sandbox", *LOGROTATE),
        "sandbox",
        "What becomes of stdout and stderr of tasks and executors: sandbox lets them grow,"
        " logrotate holds them to a size. Mesos' name of the latter is taken as well.",
    ),
    Flag(
        "container_logger_max_stdout_size",
        log_size,
        _DEFAULT,
        "With logrotate: how big stdout may be, and each older one.",
        written="10MB",
    ),
    Flag(
        "container_logger_max_stderr_size",
        log_size,
        _DEFAULT,
        "With logrotate: how big stderr may be, and each older one.",
        written="10MB",
    ),
    Flag(
        "container_logger_max_files",
        integer,
        5,
        "With logrotate: how many older ones are kept of each: stdout.1, stdout.2 ...",
    ),
)


def log_sizes(values: Values) -> "Sizes | None":
    """Return what logs are held to; L{None}: nothing."""
    from mesoskit.agent.log_sizes import Sizes

    if values.container_logger not in LOGROTATE:
        return None
    files = values.container_logger_max_files
    return Sizes(
        values.container_logger_max_stdout_size,
        values.container_logger_max_stderr_size,
        files,
        files,
    )
