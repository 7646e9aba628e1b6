"""Checks and health checks: what a task wants to be asked, and what was found.

From C{src/common/validation.cpp}; see L{mesoskit.model.validation_ids} for what the functions
return.
"""

from mesoskit.messages.mesos_pb2 import CheckInfo, CheckStatusInfo, CommandInfo, HealthCheck
from mesoskit.model.validation_command import validate_command

_CHECK_DELAYS = ("delay_seconds", "interval_seconds", "timeout_seconds")
_HEALTH_CHECK_DELAYS = (
    "delay_seconds",
    "grace_period_seconds",
    "interval_seconds",
    "timeout_seconds",
)


def validate_health_check(check: HealthCheck) -> str | None:
    """Section 3.4 for C{HealthCheck}: it has what its type names, and no negative times."""
    if not check.HasField("type"):
        return "HealthCheck must specify 'type'"
    kind = check.type
    if kind == HealthCheck.COMMAND:
        if not check.HasField("command"):
            return "Expecting 'command' to be set for COMMAND health check"
        error = _validate_check_command(check.command, "Command health check", "Health check")
        if error is not None:
            return error
    elif kind == HealthCheck.HTTP:
        if not check.HasField("http"):
            return "Expecting 'http' to be set for HTTP health check"
        http = check.http
        if http.HasField("scheme") and http.scheme not in ("http", "https"):
            return f"Unsupported HTTP health check scheme: '{http.scheme}'"
        if http.HasField("path") and not http.path.startswith("/"):
            return f"The path '{http.path}' of HTTP health check must start with '/'"
    elif kind == HealthCheck.TCP:
        if not check.HasField("tcp"):
            return "Expecting 'tcp' to be set for TCP health check"
    else:
        return "'UNKNOWN' is not a valid health check type"
    return _validate_delays(check, _HEALTH_CHECK_DELAYS)


def validate_check(check: CheckInfo) -> str | None:
    """The same for C{CheckInfo}, which has no scheme and no grace period."""
    if not check.HasField("type"):
        return "CheckInfo must specify 'type'"
    kind = check.type
    if kind == CheckInfo.COMMAND:
        if not check.HasField("command"):
            return "Expecting 'command' to be set for COMMAND check"
        error = _validate_check_command(check.command.command, "Command check", "Check")
        if error is not None:
            return error
    elif kind == CheckInfo.HTTP:
        if not check.HasField("http"):
            return "Expecting 'http' to be set for HTTP check"
        http = check.http
        if http.HasField("path") and not http.path.startswith("/"):
            return f"The path '{http.path}' of HTTP check must start with '/'"
    elif kind == CheckInfo.TCP:
        if not check.HasField("tcp"):
            return "Expecting 'tcp' to be set for TCP check"
    else:
        return "'UNKNOWN' is not a valid check type"
    return _validate_delays(check, _CHECK_DELAYS)


def validate_check_status(status: CheckStatusInfo) -> str | None:
    """What an executor reports of a check has the part that its type names."""
    if not status.HasField("type"):
        return "CheckStatusInfo must specify 'type'"
    kind = status.type
    if kind == CheckInfo.COMMAND:
        if not status.HasField("command"):
            return "Expecting 'command' to be set for COMMAND check's status"
    elif kind == CheckInfo.HTTP:
        if not status.HasField("http"):
            return "Expecting 'http' to be set for HTTP check's status"
    elif kind == CheckInfo.TCP:
        if not status.HasField("tcp"):
            return "Expecting 'tcp' to be set for TCP check's status"
    else:
        return "'UNKNOWN' is not a valid check's status type"
    return None


def _validate_check_command(command: CommandInfo, subject: str, owner: str) -> str | None:
    if not command.HasField("value"):
        return f"{subject} must contain " + (
            "'shell command'" if command.shell else "'executable path'"
        )
    error = validate_command(command)
    return None if error is None else f"{owner}'s `CommandInfo` is invalid: {error}"


def _validate_delays(check: CheckInfo | HealthCheck, names: tuple[str, ...]) -> str | None:
    for name in names:
        # The defaults are positive: what is negative was set.
        if getattr(check, name) < 0:
            return f"Expecting '{name}' to be non-negative"
    return None
