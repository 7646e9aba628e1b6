"""The agent as a program: its flags, and the service they make."""

import json
import os
import signal
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from mesoskit.app import (
    authentication,
    authorization,
    container_logger,
    docker,
    domain,
    http_authentication,
    images,
    isolation,
    limits,
    mesos_flags,
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
    local_ip,
    log_file,
    one_of,
    refuse,
)
from mesoskit.cluster.zk_url import URLError, hidden
from mesoskit.flags import Flag, Flags, Values, boolean, duration, integer, number, size, text
from mesoskit.model.attributes import parse_attributes
from mesoskit.model.roles import validate_role

if TYPE_CHECKING:
    from mesoskit.agent.service import AgentService
    from mesoskit.model.resources import Resources


REREGISTRATION_LIMIT = 15.0
"""Seconds that C{--executor_reregistration_timeout} may not exceed, as in Mesos."""


def environment(value: str) -> tuple[tuple[str, str], ...]:
    """Read C{--executor_environment_variables}: a JSON object of texts."""
    try:
        given = json.loads(value)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise ValueError('expected a JSON object of texts such as {"PATH": "/bin:/usr/bin"}')
    return tuple(given.items())


def role(value: str) -> str:
    """Read the name of a role."""
    wrong = validate_role(value)
    if wrong is not None:
        raise ValueError(wrong)
    return value


def reregistration(value: str) -> float:
    """Read C{--executor_reregistration_timeout}, which Mesos limits."""
    result = duration(value)
    if result > REREGISTRATION_LIMIT:
        raise ValueError("expected a duration of 15secs at most")
    return result


def fraction(value: str) -> float:
    """Read a number from 0 to 1."""
    result = number(value)
    if not 0 <= result <= 1:
        raise ValueError("expected a number from 0.0 to 1.0")
    return result


FLAGS = Flags(
    "mesos-agent",
    [
        *common_flags(5051),
        Flag(
            "master",
            text,
            None,
            "Where the master is: host:port, or zk://host1:port1,host2:port2/path, where masters"
            " meet; or file:///path of a file with that.",
            required=True,
            show=hidden,
        ),
        *zookeeper.FLAGS,
        *authentication.AGENT_FLAGS,
        *http_authentication.AGENT_FLAGS,
        *authorization.AGENT_FLAGS,
        *tls.FLAGS,
        *limits.FLAGS,
        *container_logger.FLAGS,
        *isolation.FLAGS,
        *docker.FLAGS,
        *images.FLAGS,
        *mesos_flags.AGENT_FLAGS,
        domain.FLAG,
        Flag(
            "work_dir",
            text,
            None,
            "Where sandboxes and checkpoints are kept.",
            required=True,
            is_path=True,
        ),
        Flag(
            "runtime_dir", text, None, "Where sockets and other traces of a run are.", is_path=True
        ),
        Flag(
            "resources",
            text,
            None,
            "What the agent offers: cpus:4;mem:1024;ports:[31000-32000], or JSON. What is not"
            " named is measured.",
        ),
        Flag("default_role", role, "*", "The role of resources that name none."),
        Flag("attributes", parse_attributes, None, "What to say of the machine: rack:2;os:linux."),
        Flag("switch_user", boolean, True, "Run tasks as the user that their framework names."),
        Flag(
            "executor_environment_variables",
            environment,
            (),
            "A JSON object of environment variables for executors and tasks.",
        ),
        Flag(
            "executor_registration_timeout",
            duration,
            60.0,
            "An executor that has not registered by then is killed.",
        ),
        Flag(
            "executor_shutdown_grace_period",
            duration,
            5.0,
            "How long an executor may take to shut down.",
        ),
        Flag(
            "executor_heartbeat_interval",
            interval,
            1800.0,
            "How often executors over HTTP get a HEARTBEAT event.",
            written="30mins",
        ),
        Flag(
            "http_heartbeat_interval",
            interval,
            30.0,
            "How often whoever is attached to the output of a container gets a HEARTBEAT.",
            written="30secs",
        ),
        Flag("gc_delay", duration, 604800.0, "How long sandboxes of the past are kept, at most."),
        Flag(
            "gc_disk_headroom",
            fraction,
            0.1,
            "The part of the disk that is kept free of sandboxes.",
        ),
        Flag(
            "gc_non_executor_container_sandboxes",
            boolean,
            False,
            "Let sandboxes of containers launched over the API go as those of executors do.",
        ),
        Flag(
            "disk_watch_interval",
            interval,
            60.0,
            "Time between two looks at the disk.",
            written="1mins",
        ),
        Flag(
            "fetcher_stall_timeout", duration, 60.0, "A download that stalls so long is given up."
        ),
        Flag(
            "fetcher_cache_size",
            size,
            2 << 30,
            "How much is kept of what tasks fetch with `cache`; 0B for nothing.",
            written="2GB",
        ),
        Flag(
            "fetcher_cache_dir",
            text,
            None,
            "Where that is kept, in a directory of each agent's own; fetch below the work directory"
            " where not given.",
            is_path=True,
        ),
        Flag(
            "hadoop_home",
            text,
            None,
            "Where bin/hadoop is, which fetches URIs of other schemes than file, http, https and"
            " ftp; it is looked for in PATH where not given.",
            is_path=True,
        ),
        Flag(
            "registration_backoff_factor",
            duration,
            1.0,
            "The longest first wait before the agent registers; it doubles to a minute.",
        ),
        Flag(
            "frameworks_home",
            text,
            None,
            "Where relative paths of URIs to fetch begin.",
            is_path=True,
        ),
        Flag(
            "recover",
            one_of("reconnect", "cleanup"),
            "reconnect",
            "What becomes of what ran before a restart: reconnect lets it run on, cleanup ends it"
            " and reports it.",
        ),
        Flag(
            "strict",
            boolean,
            True,
            "Do not start where a part of what was stored cannot be read; --no-strict goes on"
            " without that part.",
        ),
        Flag(
            "recovery_timeout",
            duration,
            900.0,
            "What runs here ends when no agent was there for so long.",
            written="15mins",
        ),
        Flag(
            "executor_reregistration_timeout",
            reregistration,
            2.0,
            "An executor that has not registered again so long after the agent was restarted is"
            " killed; 15secs at most.",
            written="2secs",
        ),
        Flag(
            "reconfiguration_policy",
            one_of("equal", "additive", "any"),
            "equal",
            "Which changes of flags keep the agent's id.",
        ),
        Flag("max_completed_executors_per_framework", integer, 150, "How many to remember."),
    ],
)


class Options(DaemonOptions):
    """The options of C{twistd mesos-agent}."""

    flags = FLAGS


def make_agent(
    reactor: Any,
    values: Values,
    stopped: Callable[[str, int], None] | None = None,
    secure: tls.DaemonTLS = tls.NONE,
) -> "AgentService":
    """
    Make an agent of its flags; nothing is opened before it is started.

    @param secure: what the flags say about TLS.
    @param stopped: called with why and an exit status when the agent ends by itself.
    @raise StartError: where what the flags name cannot be used.
    """
    from mesoskit.agent.launcher_proc import boot_id
    from mesoskit.agent.options import AgentOptions
    from mesoskit.agent.service import AgentService
    from mesoskit.cluster.sqlite import SQLiteStore
    from mesoskit.wire.endpoints import EndpointError, client_endpoint

    find_ip(values)
    try:
        detector = zookeeper.detector(reactor, values.master, values, secure.ours is not None)
        if detector is None:
            client_endpoint(reactor, values.master)
    except (EndpointError, URLError) as error:
        raise StartError(f"--master: {error}") from None
    port = values.port if values.advertise_port is None else values.advertise_port
    identity = authentication.identity(values, f"slave(1)@{advertised_ip(values)}:{port}")
    key = http_authentication.secret_key(values)
    guard = http_authentication.agent_guard(values, reactor, key)
    work_dir = directory("work_dir", values.work_dir)
    runtime_dir = directory("runtime_dir", values.runtime_dir or runtime_path(work_dir), own=True)
    ip = advertised_ip(values)
    apart = isolation.settings(values)
    options = AgentOptions(
        hostname=host_name(values, ip),
        ip=ip,
        local_ip=local_ip(values),
        port=values.port if values.advertise_port is None else values.advertise_port,
        resources=resources(values, str(work_dir)),
        attributes=tuple(values.attributes.to_message()) if values.attributes else (),
        work_dir=str(work_dir),
        runtime_dir=str(runtime_dir),
        switch_user=values.switch_user,
        executor_environment_variables=values.executor_environment_variables,
        libprocess_ip=os.environ.get("LIBPROCESS_IP"),
        executor_registration_timeout=values.executor_registration_timeout,
        executor_shutdown_grace_period=values.executor_shutdown_grace_period,
        executor_heartbeat_interval=values.executor_heartbeat_interval,
        http_heartbeat_interval=values.http_heartbeat_interval,
        gc_delay=values.gc_delay,
        gc_disk_headroom=values.gc_disk_headroom,
        gc_non_executor_container_sandboxes=values.gc_non_executor_container_sandboxes,
        disk_watch_interval=values.disk_watch_interval,
        registration_backoff_factor=values.registration_backoff_factor,
        fetcher_stall_timeout=values.fetcher_stall_timeout,
        fetcher_cache_size=values.fetcher_cache_size,
        fetcher_cache_dir=values.fetcher_cache_dir,
        hadoop_home=values.hadoop_home,
        containerizers=values.containerizers,
        images=images.settings(values),
        default_container=values.default_container_info or b"",
        isolation=apart,
        docker=docker.docker_settings(values),
        frameworks_home=values.frameworks_home,
        log_sizes=container_logger.log_sizes(values),
        firewall_rules=values.firewall_rules,
        recover=values.recover,
        strict=values.strict,
        recovery_timeout=values.recovery_timeout,
        executor_reregistration_timeout=values.executor_reregistration_timeout,
        boot_id=boot_id(),
        reconfiguration_policy=values.reconfiguration_policy,
        max_completed_executors_per_framework=values.max_completed_executors_per_framework,
        flags={
            **values.shown,
            "launcher": "linux" if apart.linux else "posix",
            "runtime_dir": str(runtime_dir),
            "fetcher_cache_dir": values.fetcher_cache_dir or f"{work_dir}/fetch",
            "docker_store_dir": values.docker_store_dir or f"{work_dir}/store/docker",
        },
        external_log_file=log_file(values, FLAGS.command),
        log_dir=values.log_dir,
        domain=values.domain,
        build=build(),
        authenticate_http_executors=values.authenticate_http_executors,
        authentication_token=http_authentication.token_maker(key),
        authorizer=authorization.authorizer(values, "authorizer", reactor.seconds),
    )
    return AgentService(
        reactor,
        options,
        SQLiteStore(
            work_dir / "checkpoints.sqlite",
            full=False,
            salvage=not values.strict,
            advice=". Start the agent with --strict=false to go on with what can be read of it, or"
            " remove it to start as a new agent",
        ),
        detector or values.master,
        endpoints(values),
        identity=identity,
        guard=guard,
        port_settings=limits.port_settings(values, secure),
        tls=secure.shown,
        master_tls=secure.ours,
        stopped=stopped,
    )


def runtime_path(work_dir: Path) -> str:
    """
    Return where sockets are kept where C{--runtime_dir} is not given.

    Always the same for a work directory, for that is how an agent finds its launcher again,
    and short, for the path of a UNIX socket has room for 107 bytes.
    """
    name = blake2b(str(work_dir).encode(), digest_size=6).hexdigest()
    if os.geteuid() == 0:
        return f"/run/mesoskit/{name}"
    base = os.environ.get("XDG_RUNTIME_DIR") or gettempdir()
    return f"{base}/mesoskit-{os.geteuid()}-{name}"


def resources(values: Values, work_dir: str) -> "Resources":
    """Return what the agent offers: what C{--resources} says, the rest as measured."""
    from mesoskit.agent.machine import detect
    from mesoskit.model.resources import InvalidResources, Resources

    try:
        given = Resources.parse(values.resources or "", values.default_role)
    except InvalidResources as error:
        raise StartError(f"--resources: {error}") from None
    measured = Resources.parse(detect(work_dir).text, values.default_role)
    named = set(given.names())
    return given + measured.filter(lambda key: key.name not in named)


def makeService(options: Options) -> Daemon:
    """Make what C{twistd mesos-agent} runs."""
    from twisted.internet import reactor

    daemon: Daemon

    def stopped(why: str, status: int) -> None:
        daemon.end(why, status)

    try:
        agent = make_agent(reactor, options.given, stopped, tls.daemon_tls(options.given))
    except (StartError, ValueError) as error:
        refuse(FLAGS.command, str(error))

    def leave(name: str) -> None:
        agent.shut_down(f"Received {name}; unregistering and shutting down")

    daemon = Daemon(FLAGS.command, agent, reactor, options, {signal.SIGUSR1: leave})
    return daemon
