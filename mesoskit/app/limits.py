"""How daemons are told what they may be asked for: flags, and what they make."""

from typing import TYPE_CHECKING, Any, Final

from mesoskit.flags import Flag, Values, integer

if TYPE_CHECKING:
    from mesoskit.app.tls import DaemonTLS
    from mesoskit.wire.port import PortSettings
    from mesoskit.wire.settings import StreamSettings


def rate_limits(value: str) -> Any:
    """Read C{--rate_limits}."""
    from mesoskit.master.rate_limits import parse_rate_limits

    return parse_rate_limits(_text_of(value))


def firewall_rules(value: str) -> tuple[str, ...]:
    """Read C{--firewall_rules}."""
    from mesoskit.web.firewall import parse_firewall_rules

    return parse_firewall_rules(_text_of(value))


def positive(value: str) -> int:
    """Read a whole number from 1 on."""
    number = integer(value)
    if number == 0:
        raise ValueError("expected a whole number from 1 on")
    return number


def _text_of(value: str) -> str:
    """Return what a path that takes the place of JSON leads to, as Mesos lets it."""
    if not value.startswith("/"):
        return value
    try:
        with open(value, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"cannot read {value}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{value} is not UTF-8 text") from None


FLAGS: Final = (
    Flag(
        "firewall_rules",
        firewall_rules,
        (),
        "Endpoints that are answered with 403, as JSON or the path of a file of it:"
        ' {"disabled_endpoints": {"paths": ["/files/browse"]}}.',
    ),
    Flag(
        "max_connections_per_address",
        positive,
        4096,
        "How many connections one address may have to the port; one more is closed.",
    ),
    Flag(
        "max_http_connections",
        positive,
        10_000,
        "How many HTTP connections the port has at a time; one more is closed.",
    ),
    Flag(
        "max_unauthenticated_connections",
        positive,
        4096,
        "How many connections may not have said yet what they are and who; one more takes the"
        " place of the oldest of these.",
    ),
)

MASTER_FLAGS: Final = (
    Flag(
        "rate_limits",
        rate_limits,
        None,
        "How many calls a second frameworks may make, by their principals, as JSON or the path of"
        ' a file of it: {"limits": [{"principal": "p", "qps": 50, "capacity": 1000}],'
        ' "aggregate_default_qps": 20}.',
    ),
    Flag(
        "max_executors_per_agent",
        integer,
        None,
        "An agent with so many executors is offered to nobody.",
        aliases=("max_executors_per_slave",),
    ),
    *FLAGS,
)


def port_settings(values: Values, secure: "DaemonTLS") -> "PortSettings":
    """Return the limits of a daemon's port."""
    from mesoskit.wire.port import PortSettings

    return PortSettings(
        undecided=values.max_unauthenticated_connections,
        maximum_http=values.max_http_connections,
        per_address=values.max_connections_per_address,
        plain=secure.plain,
    )


def stream_settings(values: Values, **more: Any) -> "StreamSettings":
    """Return the limits of native links."""
    from mesoskit.wire.settings import StreamSettings

    return StreamSettings(maximum_unsettled=values.max_unauthenticated_connections, **more)
