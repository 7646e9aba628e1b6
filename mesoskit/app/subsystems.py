"""Flags of the agent for isolators that few use: C{cgroups/net_cls}, C{network/ports} ..."""

from typing import TYPE_CHECKING

from mesoskit.app.daemon import StartError, interval
from mesoskit.flags import Flag, Values, boolean, duration
from mesoskit.model.values import RANGES, InvalidValue, Ranges, coalesced, parse_value

if TYPE_CHECKING:
    from mesoskit.agent.subsystems import Subsystems

_MOST = 0xFFFF


def handle(value: str) -> int:
    """Read half of a number of C{net_cls}, as C{0xAAAA}."""
    try:
        result = int(value, 0)
    except ValueError:
        result = 0
    if not 1 <= result <= _MOST:
        raise ValueError("expected a number from 0x1 to 0xffff")
    return result


def handles(value: str) -> tuple[int, int]:
    """Read a range of such."""
    parts = value.split(",")
    if len(parts) != 2:
        raise ValueError("expected a range such as 0x1,0xffff")
    first, last = (handle(part.strip()) for part in parts)
    if first > last:
        raise ValueError("expected a range such as 0x1,0xffff: the first is above the last")
    return first, last


def events(value: str) -> tuple[str, ...]:
    """Read names of events."""
    names = [name.strip().lower().replace("-", "_") for name in value.split(",")]
    found = tuple(dict.fromkeys(names))
    if not all(found):
        raise ValueError("expected names such as cycles,task_clock")
    return found


def ports(value: str) -> Ranges:
    """Read ranges of ports."""
    try:
        kind, found = parse_value(value)
    except InvalidValue:
        kind, found = -1, ()
    if kind != RANGES or any(not 0 <= first <= last <= _MOST for first, last in found):
        raise ValueError("expected ranges of ports such as [31000-32000]")
    return coalesced(found)


FLAGS = (
    Flag(
        "cgroups_net_cls_primary_handle",
        handle,
        None,
        "With cgroups/net_cls: the upper half of the numbers that packets of containers bear, as"
        " 0xAAAA. Without it containers are given no numbers.",
    ),
    Flag(
        "cgroups_net_cls_secondary_handles",
        handles,
        (1, _MOST),
        "The range of the lower half, one for each container: 0xAAAA,0xBBBB.",
        written="0x1,0xffff",
    ),
    Flag(
        "perf_events",
        events,
        (),
        "With cgroups/perf_event: what is counted, by names of perf: cycles,task-clock.",
    ),
    Flag(
        "perf_interval",
        interval,
        60.0,
        "With cgroups/perf_event: time from the beginning of one count to that of the next.",
        written="1mins",
    ),
    Flag(
        "perf_duration",
        duration,
        10.0,
        "With cgroups/perf_event: how long is counted each time.",
        written="10secs",
    ),
    Flag(
        "enforce_container_ports",
        boolean,
        False,
        "With network/ports: end containers that listen on ports that they were not given.",
    ),
    Flag(
        "container_ports_watch_interval",
        interval,
        30.0,
        "With network/ports: time between two looks at who listens where.",
        written="30secs",
    ),
    Flag(
        "container_ports_isolated_range",
        ports,
        None,
        "With network/ports: the ports that are looked at, [31000-32000]; all where not given.",
    ),
    Flag(
        "check_agent_port_range_only",
        boolean,
        False,
        "With network/ports: look at the ports alone that the agent offers.",
    ),
)


def settings(values: Values) -> "Subsystems":
    """Return what the flags say. Raises L{StartError} where that is against itself."""
    from mesoskit.agent.subsystems import Subsystems

    if values.check_agent_port_range_only and values.container_ports_isolated_range is not None:
        raise StartError(
            "only one of --check_agent_port_range_only and --container_ports_isolated_range can be"
            " given"
        )
    if values.perf_duration > values.perf_interval:
        raise StartError("--perf_duration is longer than --perf_interval: give it less")
    return Subsystems(
        net_cls_primary=values.cgroups_net_cls_primary_handle,
        net_cls_secondaries=values.cgroups_net_cls_secondary_handles,
        perf_events=values.perf_events,
        perf_interval=values.perf_interval,
        perf_duration=values.perf_duration,
        enforce_ports=values.enforce_container_ports,
        ports_interval=values.container_ports_watch_interval,
        ports_isolated=values.container_ports_isolated_range,
        agent_ports_only=values.check_agent_port_range_only,
    )
