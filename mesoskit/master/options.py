"""What can be set on a master.

A plain record: reading flags, files and the environment is C{mesoskit.app}'s business.
Every field has the name and the default of Mesos' master flag of that name
(C{docs/configuration/master.md} of Apache Mesos) unless it says otherwise; times are seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address

from mesoskit.master.offer_constraints import Compile, no_patterns
from mesoskit.master.rate_limits import RateLimits
from mesoskit.messages.mesos_pb2 import MasterInfo
from mesoskit.model.authorization import IAuthorizer
from mesoskit.model.build import Build

MESOS_VERSION = "1.12.0"
"""The release of Apache Mesos whose protocol is spoken here, as C{MasterInfo.version} tells it."""


@dataclass(slots=True, frozen=True)
class MasterOptions:
    """
    The flags of a master, read.

    @ivar hostname: the name that is told to clients.
    @ivar ip: the IPv4 address in dotted form.
    @ivar port: the one port.
    @ivar cluster: a name for people, or L{None}.
    @ivar agent_ping_timeout: how long a ping may go unanswered.
    @ivar max_agent_ping_timeouts: so many in a row, and the agent is unreachable.
    @ivar agent_reregister_timeout: how long a known agent may take to come back after a
        new master was elected.
    @ivar recovery_agent_removal_limit: the part (0 to 1) of the known agents that may be
        given up after that time; if more are missing the master stops instead.
    @ivar agent_removal_interval: seconds between two agents that are given up, as
        C{--agent_removal_rate_limit} has it; 0 where there is no limit.
    @ivar offer_timeout: after which an offer is rescinded, or L{None} for never.
    @ivar roles: the only roles allowed, or L{None} for any.
    @ivar weights: by role, where not 1.
    @ivar root_submissions: whether a framework may run its tasks as root.
    @ivar max_completed_frameworks: how many are remembered after their end.
    @ivar max_completed_tasks_per_framework: likewise for tasks.
    @ivar max_unreachable_tasks_per_framework: likewise for tasks on unreachable agents.
    @ivar registry_gc_interval: how often old unreachable and gone agents are forgotten.
    @ivar registry_max_agent_age: those older than this.
    @ivar registry_max_agent_count: and those beyond this number.
    @ivar http_heartbeat_interval: how often a framework over HTTP gets a C{HEARTBEAT} event,
        as C{SUBSCRIBED} tells every framework (ours: Mesos' master has no flag for its 15 s).
    @ivar rate_limits: how many calls frameworks may make, or L{None} for as many as they like.
    @ivar max_executors_per_agent: an agent with so many is offered to nobody; L{None} for any.
    @ivar firewall_rules: paths of endpoints that nobody is given.
    @ivar max_operator_event_stream_subscribers: how many operators may watch the cluster; one
        more ends the stream of the one who came first.
    @ivar external_log_file: where somebody writes the master's log, to be shown.
    @ivar webui_dir: where Apache Mesos' web UI lies; L{None}: C{/} is a page of links.
    @ivar authorizer: who decides who may do what; L{None}: everything is allowed.
    @ivar log_dir: the directory that the master writes its log in, or L{None}.
    @ivar domain: the C{DomainInfo} of where the master is, serialized; empty for none. Agents of
        another region are offered to region-aware frameworks alone.
    @ivar require_agent_domain: take no agent that does not say where it is.
    @ivar whitelist: host names of the agents that are offered as the master starts; L{None}: all.
    @ivar publish_per_framework_metrics: show numbers of each framework among the metrics.
    @ivar compile_regex: makes matchers of regular expressions in offer constraints; the default
        refuses them.
    @ivar build: what is told of the build.
    @ivar story_length: how many past transitions L{mesoskit.master.story} can look back on
        (ours; not a flag of Mesos).
    """

    hostname: str = "localhost"
    ip: str = "127.0.0.1"
    port: int = 5050
    cluster: str | None = None
    agent_ping_timeout: float = 15.0
    max_agent_ping_timeouts: int = 5
    agent_reregister_timeout: float = 600.0
    recovery_agent_removal_limit: float = 1.0
    agent_removal_interval: float = 0.0
    offer_timeout: float | None = None
    roles: frozenset[str] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    root_submissions: bool = True
    max_completed_frameworks: int = 50
    max_completed_tasks_per_framework: int = 1000
    max_unreachable_tasks_per_framework: int = 1000
    registry_gc_interval: float = 900.0
    registry_max_agent_age: float = 1209600.0
    registry_max_agent_count: int = 102400
    http_heartbeat_interval: float = 15.0
    max_operator_event_stream_subscribers: int = 1000
    rate_limits: RateLimits | None = None
    max_executors_per_agent: int | None = None
    firewall_rules: tuple[str, ...] = ()
    story_length: int = 20000
    external_log_file: str | None = None
    webui_dir: str | None = None
    authorizer: IAuthorizer | None = None
    log_dir: str | None = None
    domain: bytes = b""
    require_agent_domain: bool = False
    whitelist: frozenset[str] | None = None
    publish_per_framework_metrics: bool = True
    compile_regex: Compile = no_patterns
    build: Build = field(default_factory=Build)

    def __post_init__(self) -> None:
        """Raise L{ValueError} for what cannot work."""
        for name in ("agent_ping_timeout", "agent_reregister_timeout", "registry_gc_interval"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be more than 0")
        if self.offer_timeout is not None and not 0 < self.offer_timeout < float("inf"):
            raise ValueError(f"offer_timeout is {self.offer_timeout!r}; it must be more than 0")
        for name in (
            "max_completed_frameworks",
            "max_completed_tasks_per_framework",
            "max_unreachable_tasks_per_framework",
            "registry_max_agent_count",
            "registry_max_agent_age",
            "story_length",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be 0 or more")
        if self.max_operator_event_stream_subscribers < 1:
            raise ValueError(
                "max_operator_event_stream_subscribers is"
                f" {self.max_operator_event_stream_subscribers}; it must be 1 or more"
            )
        if self.max_agent_ping_timeouts < 1:
            raise ValueError(
                f"max_agent_ping_timeouts is {self.max_agent_ping_timeouts}; it must be 1 or more"
            )

    @property
    def total_ping_timeout(self) -> float:
        """How long an agent may hear nothing before it must take itself for cut off."""
        return self.agent_ping_timeout * self.max_agent_ping_timeouts


def master_info(options: MasterOptions, master_id: str) -> MasterInfo:
    """
    Return what a master says of itself to agents, frameworks and in ZooKeeper.

    C{ip} is the address as Mesos writes it there: the four bytes in network order, read as
    a number by a little-endian machine (127.0.0.1 gives 16777343).
    """
    info = MasterInfo(
        id=master_id,
        ip=_network_order(options.ip),
        port=options.port,
        pid=f"master@{options.ip}:{options.port}",
        hostname=options.hostname,
        version=MESOS_VERSION,
    )
    info.address.hostname = options.hostname
    info.address.ip = options.ip
    info.address.port = options.port
    info.capabilities.add().type = MasterInfo.Capability.AGENT_UPDATE
    info.capabilities.add().type = MasterInfo.Capability.AGENT_DRAINING
    if options.domain:
        info.domain.ParseFromString(options.domain)
    return info


def _network_order(ip: str) -> int:
    try:
        return int.from_bytes(IPv4Address(ip).packed, "little")
    except AddressValueError:
        return 0
