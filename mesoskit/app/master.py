"""The master as a program: its flags, and the service they make."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from mesoskit.app import (
    authentication,
    authorization,
    domain,
    http_authentication,
    limits,
    mesos_flags,
    patterns,
    tls,
    zookeeper,
)
from mesoskit.app.build import build
from mesoskit.app.daemon import (
    Daemon,
    DaemonOptions,
    StartError,
    advertised_ip,
    common_flags,
    directory,
    endpoints,
    find_ip,
    host_name,
    interval,
    log_file,
    one_of,
    refuse,
)
from mesoskit.flags import Flag, Flags, Values, boolean, duration, integer, number, text
from mesoskit.model.quantities import parse_alternatives
from mesoskit.model.roles import validate_role

if TYPE_CHECKING:
    from mesoskit.allocator.options import Options as AllocatorOptions
    from mesoskit.cluster.store import IStore
    from mesoskit.master.service import MasterService


def roles(value: str) -> frozenset[str]:
    """Read C{--roles}: names separated by commas."""
    names = [name.strip() for name in value.split(",") if name.strip()]
    for name in names:
        wrong = validate_role(name)
        if wrong is not None:
            raise ValueError(wrong)
    return frozenset(names)


def weights(value: str) -> dict[str, float]:
    """Read C{--weights}: C{role=weight,role=weight}."""
    result: dict[str, float] = {}
    for part in filter(None, value.split(",")):
        role, equals, weight = part.partition("=")
        wrong = validate_role(role)
        if not equals or wrong is not None:
            raise ValueError(wrong or f"{part!r} is not role=weight")
        result[role] = number(weight)
        if result[role] <= 0:
            raise ValueError(f"the weight of {role!r} must be greater than 0")
    return result


def interval_of_rate(value: str) -> float:
    """Read C{1/10mins}, so many in such a time, as the seconds between two."""
    count, slash, span = value.partition("/")
    if not slash:
        raise ValueError("expected a rate such as 1/10mins")
    number_of, seconds = integer(count), duration(span)
    if number_of < 1 or seconds <= 0:
        raise ValueError("expected at least one in a time that is not 0, such as 1/10mins")
    return seconds / number_of


def percentage(value: str) -> float:
    """Read C{50%} as 0.5."""
    if not value.endswith("%"):
        raise ValueError("expected a percentage such as 50%")
    part = number(value[:-1]) / 100
    if not 0 <= part <= 1:
        raise ValueError("expected a percentage from 0% to 100%")
    return part


def whitelist(value: str) -> str | None:
    """Read C{--whitelist}: a path, also as a URL; C{*} is everybody, as it once was in Mesos."""
    return None if value == "*" else value.removeprefix("file://")


def region(serialized: bytes) -> str | None:
    """Return the name of the region of a C{DomainInfo}, if it is one."""
    from mesoskit.messages.mesos_pb2 import DomainInfo

    return DomainInfo.FromString(serialized).fault_domain.region.name or None


def web_pages(value: str) -> str:
    """Read C{--webui_dir}: a directory that a web UI is in."""
    path = Path(value).absolute()
    if not (path / "index.html").is_file():
        raise ValueError(f"there is no index.html in {value}")
    return str(path.resolve())


FLAGS = Flags(
    "mesos-master",
    [
        *common_flags(5050),
        Flag("work_dir", text, None, "Where the registry is kept.", required=True, is_path=True),
        Flag("runtime_dir", text, is_path=True, idle="all that a master keeps is in --work_dir"),
        *authentication.MASTER_FLAGS,
        *http_authentication.MASTER_FLAGS,
        *authorization.MASTER_FLAGS,
        *tls.FLAGS,
        *limits.MASTER_FLAGS,
        *mesos_flags.MASTER_FLAGS,
        Flag("cluster", text, None, "A name of the cluster for people."),
        Flag(
            "webui_dir",
            web_pages,
            None,
            "Where Apache Mesos' web UI lies (src/webui of its source, share/mesos/webui of an"
            " installation): the master then shows it at /. Without, / leads to the endpoints.",
            is_path=True,
        ),
        Flag(
            "registry",
            one_of("sqlite", "in_memory", "replicated_log", "zookeeper"),
            "replicated_log",
            "Where the registry is kept: sqlite (in --work_dir), zookeeper (where --zk says), or"
            " in_memory. replicated_log, Mesos' name for a durable registry, is zookeeper where"
            " --zk is given and sqlite where it is not.",
        ),
        Flag(
            "registry_fetch_timeout",
            duration,
            60.0,
            "How long reading the registry may take.",
            written="1mins",
        ),
        Flag(
            "registry_store_timeout",
            duration,
            20.0,
            "How long writing into the registry may take; after that the master ends.",
            written="20secs",
        ),
        *zookeeper.MASTER_FLAGS,
        Flag(
            "agent_ping_timeout",
            duration,
            15.0,
            "How long an agent may leave a ping unanswered.",
            aliases=("slave_ping_timeout",),
        ),
        Flag(
            "max_agent_ping_timeouts",
            integer,
            5,
            "After so many unanswered pings in a row an agent is unreachable.",
            aliases=("max_slave_ping_timeouts",),
        ),
        Flag(
            "agent_reregister_timeout",
            duration,
            600.0,
            "How long known agents may take to come back after the master has started.",
            aliases=("slave_reregister_timeout",),
        ),
        Flag(
            "recovery_agent_removal_limit",
            percentage,
            1.0,
            "Stop rather than give up more than this part of the agents after a start.",
            written="100%",
            aliases=("recovery_slave_removal_limit",),
        ),
        Flag(
            "agent_removal_rate_limit",
            interval_of_rate,
            None,
            "How fast silent agents are given up, such as 1/10mins or 2/3hrs; as fast as they fall"
            " silent where it is not given.",
            aliases=("slave_removal_rate_limit",),
        ),
        Flag(
            "allocation_interval",
            duration,
            1.0,
            "How long what a framework declined is kept from it at least, and after which what"
            " could not be offered is looked at again.",
        ),
        Flag(
            "min_allocatable_resources",
            parse_alternatives,
            None,
            "Less than this is not offered.",
            written="cpus:0.01|mem:32",
        ),
        Flag("role_sorter", one_of("drf", "random"), "drf", "How roles share."),
        Flag("framework_sorter", one_of("drf", "random"), "drf", "How frameworks of a role share."),
        Flag(
            "fair_sharing_excluded_resource_names",
            text,
            None,
            "Names of resources that do not count for fairness, separated by commas.",
        ),
        Flag(
            "filter_gpu_resources",
            boolean,
            True,
            "Offer agents with GPUs only to frameworks that know GPU_RESOURCES.",
        ),
        Flag(
            "http_heartbeat_interval",
            interval,
            15.0,
            "Time between two heartbeats to a framework over HTTP.",
            written="15secs",
        ),
        Flag(
            "max_operator_event_stream_subscribers",
            integer,
            1000,
            "How many operators may watch the cluster over HTTP.",
        ),
        Flag("offer_timeout", duration, None, "After which an unanswered offer is rescinded."),
        Flag("roles", roles, None, "The only roles that frameworks may have, comma-separated."),
        Flag(
            "weights",
            weights,
            None,
            "Weights of roles: role=weight,role=weight. Written down the first time, and changed by"
            " /weights from then on.",
        ),
        Flag(
            "whitelist",
            whitelist,
            None,
            "The path of a file of the host names of the agents that are offered, one a line. It is"
            " looked at every 5 seconds.",
            is_path=True,
        ),
        domain.FLAG,
        Flag("require_agent_domain", boolean, False, "Take no agent that has no --domain."),
        Flag(
            "publish_per_framework_metrics",
            boolean,
            True,
            "Show numbers of each framework in /metrics/snapshot.",
        ),
        Flag(
            "allocator",
            one_of("hierarchical", "HierarchicalDRF"),
            "hierarchical",
            "How offers are made: hierarchical; allocators of your own are for masters within"
            " Python programs.",
        ),
        *patterns.FLAGS,
        Flag("root_submissions", boolean, True, "Whether frameworks may run tasks as root."),
        Flag("max_completed_frameworks", integer, 50, "How many ended frameworks to remember."),
        Flag(
            "max_completed_tasks_per_framework", integer, 1000, "How many ended tasks to remember."
        ),
        Flag(
            "max_unreachable_tasks_per_framework",
            integer,
            1000,
            "How many tasks on unreachable agents to remember.",
        ),
        Flag("registry_gc_interval", duration, 900.0, "How often gone agents are forgotten."),
        Flag(
            "registry_max_agent_age",
            duration,
            1209600.0,
            "How long unreachable and gone agents are remembered.",
        ),
        Flag(
            "registry_max_agent_count",
            integer,
            102400,
            "How many unreachable and gone agents are remembered.",
        ),
    ],
)


class Options(DaemonOptions):
    """The options of C{twistd mesos-master}."""

    flags = FLAGS


def make_master(
    reactor: Any,
    values: Values,
    stopped: Callable[[str, int], None] | None = None,
    secure: tls.DaemonTLS = tls.NONE,
) -> "MasterService":
    """
    Make a master of its flags; nothing is opened before it is started.

    @param secure: what the flags say about TLS.
    @param stopped: called with why and an exit status when the master ends by itself.
    @raise StartError: where what the flags name cannot be used.
    """
    from mesoskit.allocator.hierarchical import HierarchicalAllocator
    from mesoskit.master.options import MasterOptions
    from mesoskit.master.service import MasterService

    if values.zk is None and values.registry == "zookeeper":
        raise StartError("--registry=zookeeper: --zk is missing, which says where that is")
    find_ip(values)
    listed = None
    if values.whitelist is not None:
        from mesoskit.master.whitelist_file import read_whitelist

        listed = read_whitelist(values.whitelist)
    admission = authentication.admission(values)
    guard = http_authentication.master_guard(values, reactor)
    work_dir = directory("work_dir", values.work_dir)
    ip = advertised_ip(values)
    options = MasterOptions(
        hostname=host_name(values, ip),
        ip=ip,
        port=values.port if values.advertise_port is None else values.advertise_port,
        cluster=values.cluster,
        agent_ping_timeout=values.agent_ping_timeout,
        max_agent_ping_timeouts=values.max_agent_ping_timeouts,
        agent_reregister_timeout=values.agent_reregister_timeout,
        recovery_agent_removal_limit=values.recovery_agent_removal_limit,
        agent_removal_interval=values.agent_removal_rate_limit or 0.0,
        http_heartbeat_interval=values.http_heartbeat_interval,
        max_operator_event_stream_subscribers=values.max_operator_event_stream_subscribers,
        offer_timeout=values.offer_timeout,
        roles=values.roles,
        weights=values.weights or {},
        root_submissions=values.root_submissions,
        max_completed_frameworks=values.max_completed_frameworks,
        max_completed_tasks_per_framework=values.max_completed_tasks_per_framework,
        max_unreachable_tasks_per_framework=values.max_unreachable_tasks_per_framework,
        rate_limits=values.rate_limits,
        max_executors_per_agent=values.max_executors_per_agent,
        firewall_rules=values.firewall_rules,
        registry_gc_interval=values.registry_gc_interval,
        registry_max_agent_age=values.registry_max_agent_age,
        registry_max_agent_count=values.registry_max_agent_count,
        external_log_file=log_file(values, FLAGS.command),
        log_dir=values.log_dir,
        webui_dir=values.webui_dir,
        domain=values.domain,
        require_agent_domain=values.require_agent_domain,
        whitelist=listed,
        publish_per_framework_metrics=values.publish_per_framework_metrics,
        build=build(),
        authorizer=authorization.authorizer(values, "authorizers", reactor.seconds),
        compile_regex=patterns.compiler(
            values.offer_constraints_re2_max_mem, values.offer_constraints_re2_max_program_size
        ),
    )
    election = store = None
    if values.zk is not None:
        election, store = zookeeper.election(reactor, values, f"{options.ip}:{options.port}")
    if store is None or values.registry in ("sqlite", "in_memory"):
        store = registry(values, work_dir)
    return MasterService(
        reactor,
        options,
        store,
        endpoints(values),
        allocator=HierarchicalAllocator(allocator_options(values), Random()),
        settings=limits.stream_settings(values, settle_timeout=values.authentication_v0_timeout),
        admission=admission,
        port_settings=limits.port_settings(values, secure),
        tls=secure.shown,
        stopped=stopped,
        flags=values.shown,
        guard=guard,
        election=election,
        registry_fetch_timeout=values.registry_fetch_timeout,
        registry_store_timeout=values.registry_store_timeout,
        whitelist=values.whitelist,
    )


def registry(values: Values, work_dir: Path) -> "IStore":
    """Return the store that the flags name, where that is not ZooKeeper."""
    if values.registry == "in_memory":
        from mesoskit.cluster.memory import MemoryStore

        return MemoryStore()
    from mesoskit.cluster.sqlite import SQLiteStore

    return SQLiteStore(work_dir / "registry.sqlite", full=True)


def allocator_options(values: Values) -> "AllocatorOptions":
    """Return the allocator's part of the flags."""
    from mesoskit.allocator.options import Options as AllocatorOptions

    given: dict[str, Any] = {}
    if values.min_allocatable_resources is not None:
        given["min_allocatable_resources"] = values.min_allocatable_resources
    if values.fair_sharing_excluded_resource_names:
        names = values.fair_sharing_excluded_resource_names.split(",")
        given["fair_sharing_excluded_resource_names"] = frozenset(names)
    return AllocatorOptions(
        allocation_interval=values.allocation_interval,
        role_sorter=values.role_sorter,
        framework_sorter=values.framework_sorter,
        filter_gpu_resources=values.filter_gpu_resources,
        roles=values.roles,
        region=region(values.domain),
        **given,
    )


def makeService(options: Options) -> Daemon:
    """Make what C{twistd mesos-master} runs."""
    from twisted.internet import reactor

    daemon: Daemon

    def stopped(why: str, status: int) -> None:
        daemon.end(why, status)

    try:
        master = make_master(reactor, options.given, stopped, tls.daemon_tls(options.given))
    except (StartError, ValueError) as error:
        refuse(FLAGS.command, str(error))
    daemon = Daemon(FLAGS.command, master, reactor, options)
    return daemon
