"""What an agent is told at its start: Mesos' flags, as plain values.

The command line turns flags into these (C{app}); everything is checked there, so that
the state may rely on it. Durations are seconds, fractions 0.0 to 1.0.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mesoskit.agent.docker import DockerSettings
from mesoskit.agent.images import ImageSettings
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.log_sizes import Sizes
from mesoskit.messages.mesos_pb2 import Attribute
from mesoskit.model.authorization import IAuthorizer
from mesoskit.model.build import Build
from mesoskit.model.resources import Resources

CLEANUP: Final = "cleanup"
"""C{--recover}: destroy what ran before the agent restarted, keep its id and its updates."""

RECONNECT: Final = "reconnect"
"""C{--recover}: what ran before the agent restarted runs on."""

VERSION: Final = "1.12.0"
"""The version of Mesos whose behaviour this agent announces to a master."""


@dataclass(slots=True, frozen=True)
class AgentOptions:
    """
    The flags of one agent.

    @ivar hostname: what the agent advertises.
    @ivar ip: the address that it advertises and binds.
    @ivar port: the port of its HTTP API, also part of its PID (C{slave(1)@ip:port}).
    @ivar local_ip: an address of this machine at which the agent is reached where it listens
        on all of them; empty: as C{ip}.
    @ivar local_endpoint: what executors are told (C{MESOS_AGENT_ENDPOINT}); empty: C{ip:port}.
    @ivar resources: all that the agent has.
    @ivar attributes: as they go on the wire.
    @ivar work_dir: absolute path: sandboxes and checkpoints.
    @ivar runtime_dir: absolute, short path: sockets, the launcher's notes.
    @ivar switch_user: run tasks as C{CommandInfo.user} or C{FrameworkInfo.user}, which
        needs the rights to do so; otherwise all run as the agent's own user.
    @ivar executor_environment_variables: what executors get besides Mesos' own variables.
    @ivar libprocess_ip: C{LIBPROCESS_IP} of the agent's environment, handed on where set.
    @ivar executor_registration_timeout: an executor that has not subscribed by then, or
        not again after its link broke, is destroyed.
    @ivar executor_reregistration_timeout: so is one that has not subscribed again so long after
        the agent has restarted.
    @ivar executor_shutdown_grace_period: between C{SHUTDOWN} and destruction.
    @ivar executor_heartbeat_interval: how often executors over HTTP get a C{HEARTBEAT} event,
        so that nothing between takes their connection for dead.
    @ivar http_heartbeat_interval: how often whoever is attached to a container's output hears that
        he still is.
    @ivar gc_delay: how long a sandbox stays after its container's end, at most.
    @ivar gc_disk_headroom: the fraction of the disk that the GC tries to keep free.
    @ivar gc_non_executor_container_sandboxes: whether that is so, too, of containers that are
        no task's and no executor's; otherwise they stay as long as what they are nested in.
    @ivar disk_watch_interval: between two looks at the disk.
    @ivar usage_interval: between two readings of what containers use.
    @ivar registration_backoff_factor: the first wait between two attempts to register.
    @ivar fetcher_stall_timeout: a download that brings too little for so long is given up.
    @ivar fetcher_cache_size: bytes that are kept of what was fetched, at most; 0 for nothing.
    @ivar fetcher_cache_dir: in a directory of this agent's own below it; L{None}: below the work
        directory.
    @ivar hadoop_home: where the client is that fetches what else nobody knows; L{None}: in
        C{PATH}, if there.
    @ivar containerizers: what runs containers: C{"mesos"}, C{"docker"}, in the order in which they
        are asked.
    @ivar docker: the flags of the second.
    @ivar isolation: the flags that say how containers are kept apart.
    @ivar frameworks_home: where relative paths to fetch begin.
    @ivar log_sizes: what C{stdout} and C{stderr} of containers are held to; L{None}: nothing.
    @ivar recover: C{reconnect} or C{cleanup}.
    @ivar strict: an agent that cannot read all that it has stored does not start.
    @ivar recovery_timeout: what runs here ends when no agent was there for so long; at once
        where its framework does not checkpoint.
    @ivar boot_id: names the time since the machine was started last, so that a restarted agent
        knows whether anything of before can be left; empty where that is not known.
    @ivar reconfiguration_policy: which changes of the flags a restarted agent keeps its
        id with: C{equal}, C{additive} (C{src/slave/compatibility.cpp}) or C{any}.
    @ivar flags: all flags as given, for the pages that show them.
    @ivar log_dir: the directory that the agent writes its log in, or L{None}.
    @ivar domain: the C{DomainInfo} of where the agent is, serialized; empty for none.
    @ivar build: what is told of the build.
    @ivar external_log_file: where somebody writes the agent's log, to be shown.
    @ivar firewall_rules: paths of endpoints that nobody is given.
    @ivar images: the flags about images of containers.
    @ivar default_container: the C{ContainerInfo} of those that bring none, serialized.
    @ivar authorizer: who decides who may do what; L{None}: everything is allowed.
    @ivar authenticate_http_executors: whether executors must prove which container they are,
        whatever way they come.
    @ivar authentication_token: returns what an executor proves that by over HTTP, of the ids of
        its framework, of itself and of its container; L{None}: it is given nothing.
    """

    hostname: str
    ip: str = "127.0.0.1"
    port: int = 5051
    local_ip: str = ""
    local_endpoint: str = ""
    resources: Resources = Resources.EMPTY
    attributes: tuple[Attribute, ...] = ()
    work_dir: str = "/var/lib/mesos"
    runtime_dir: str = "/var/run/mesos"
    version: str = VERSION
    switch_user: bool = True
    executor_environment_variables: tuple[tuple[str, str], ...] = ()
    libprocess_ip: str | None = None
    executor_registration_timeout: float = 60.0
    executor_reregistration_timeout: float = 2.0
    executor_shutdown_grace_period: float = 5.0
    executor_heartbeat_interval: float = 30 * 60.0
    http_heartbeat_interval: float = 30.0
    gc_delay: float = 7 * 24 * 3600.0
    gc_disk_headroom: float = 0.1
    gc_non_executor_container_sandboxes: bool = False
    disk_watch_interval: float = 60.0
    usage_interval: float = 15.0
    registration_backoff_factor: float = 1.0
    fetcher_stall_timeout: float = 60.0
    fetcher_cache_size: int = 2 << 30
    fetcher_cache_dir: str | None = None
    hadoop_home: str | None = None
    containerizers: tuple[str, ...] = ("mesos",)
    isolation: IsolationSettings = field(default_factory=IsolationSettings)
    docker: DockerSettings = field(default_factory=DockerSettings)
    frameworks_home: str | None = None
    log_sizes: Sizes | None = None
    firewall_rules: tuple[str, ...] = ()
    recover: str = RECONNECT
    strict: bool = True
    recovery_timeout: float = 15 * 60.0
    boot_id: str = ""
    reconfiguration_policy: str = "equal"
    max_completed_frameworks: int = 50
    max_completed_executors_per_framework: int = 150
    max_completed_tasks_per_executor: int = 200
    flags: dict[str, str] = field(default_factory=dict)
    log_dir: str | None = None
    domain: bytes = b""
    build: Build = field(default_factory=Build)
    external_log_file: str | None = None
    authorizer: IAuthorizer | None = None
    authenticate_http_executors: bool = False
    authentication_token: Callable[[str, str, str], str] | None = field(default=None, repr=False)

    images: ImageSettings = field(default_factory=ImageSettings)
    default_container: bytes = b""

    @property
    def pid(self) -> str:
        """The PID that the agent names itself by."""
        return f"slave(1)@{self.ip}:{self.port}"

    @property
    def executor_socket(self) -> str:
        """
        The path of the executors' door: always the same for a runtime directory. It has a
        directory to itself, that containers with a file system of their own can be given.
        """
        return f"{self.runtime_dir}/door/socket"
