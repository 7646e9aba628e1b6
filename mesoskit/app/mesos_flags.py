"""Flags of Apache Mesos that have nothing to do here.

Whoever moves a cluster brings its command lines, C{/etc/mesos-master} and variables along. None of
their flags is unknown: it does what Mesos says, or it is here. Most are taken and say in the log
why they change nothing (C{Flag.idle}); those on which people rely, so that it must not pass in
silence, are refused with what to do in their place (C{Flag.instead}). Names and defaults are those
of C{docs/configuration/} and C{src/{master,slave,logging}/flags.*} of Apache Mesos. They are shown
by C{docs/flags.md}.
"""

from collections.abc import Callable
from typing import Any, Final

from mesoskit.flags import Flag, boolean, text

_LIBRARIES: Final = (
    "there are no libraries of modules; Python functions take their place, named by --isolation,"
    " --authorizers, --authenticators, --authenticatee and --http_authenticators"
)
_LOGGER: Final = (
    "; the logger that rotates files is there without any: --container_logger=logrotate"
)
_FOUND: Final = "masters meet in ZooKeeper, and are found there"
_PROVIDERS: Final = (
    "there are no resource providers; mount the storage, and name it in --resources as disks of the"
    " types PATH or MOUNT"
)
_APPC: Final = "images are Docker's and OCI's (--image_providers)"
_CNI: Final = (
    "there are no CNI networks, and a container that wants one by its name fails with these words"
)
_PORT_MAPPING: Final = "it belongs to the isolator network/port_mapping, which is not here"
_XFS: Final = "it belongs to the isolator disk/xfs, which is not here"
_OVERSUBSCRIPTION: Final = "nothing is oversubscribed"
_SYSTEMD: Final = (
    "the agent's unit keeps what runs alive: KillMode=process, Delegate=yes (conf/systemd)"
)
_AT_ONCE: Final = "after a failover offers are made at once, and nothing waits for agents"


def _flag(name: str, default: Any = None, **more: Any) -> Flag:
    parse: Callable[[str], Any] = boolean if isinstance(default, bool) else text
    return Flag(name, parse, default, is_path=True, **more)


def idle(name: str, why: str, default: str | bool | None = None, *aliases: str) -> Flag:
    """
    Return a flag that is taken, and changes nothing.

    @param why: the end of a sentence, for the log.
    @param default: what it is in Mesos.
    """
    return _flag(name, default, idle=why, aliases=aliases)


def refused(name: str, instead: str, default: str | bool | None = None) -> Flag:
    """Return a flag that is refused with any value but its default; C{instead}: what to do."""
    return _flag(name, default, instead=instead)


_COMMON: Final = (
    idle(
        "initialize_driver_logging", "drivers log to the log of the program that they are in", True
    ),
    idle("logbufsecs", "lines are written to the log at once", "0"),
    idle("memory_profiling", "that is jemalloc's; Python has tracemalloc for it", False),
    refused("hooks", f"hooks are modules, and {_LIBRARIES}"),
    refused("modules", _LIBRARIES + _LOGGER),
    refused("modules_dir", _LIBRARIES + _LOGGER),
)

MASTER_FLAGS: Final = (
    *_COMMON,
    idle("allocator_agent_recovery_factor", _AT_ONCE, "0.8"),
    idle("allocator_recovery_timeout", _AT_ONCE, "10mins"),
    idle("log_auto_initialize", "there is no replicated log that could be without beginning", True),
    idle("quorum", "ZooKeeper knows its own quorum, and without --zk there is one master"),
    idle(
        "registry_strict", "the registry is always strict: who is not in it is not believed", False
    ),
    refused("master_contender", f"{_FOUND}: --zk"),
    refused("master_detector", f"{_FOUND}: --zk"),
)
"""Of the master."""

AGENT_FLAGS: Final = (
    *_COMMON,
    idle("agent_features", "an agent always has all the capabilities that it can have"),
    idle(
        "agent_subsystems",
        "whoever starts the agent puts it into its cgroups, as a unit of systemd does",
        None,
        "slave_subsystems",
    ),
    idle("appc_simple_discovery_uri_prefix", _APPC, "http://"),
    idle("appc_store_dir", _APPC, "/tmp/mesos/store/appc"),
    idle(
        "cgroups_cpu_enable_pids_and_tids_count", "processes and threads are always counted", False
    ),
    idle("docker", "the engine is asked over its socket, not by the docker command", "docker"),
    idle("docker_mesos_image", "no executor runs in a container of its own"),
    idle(
        "docker_volume_checkpoint_dir",
        "Docker mounts the volumes of its drivers, and remembers them",
        "/var/run/mesos/isolators/docker/volume",
    ),
    idle("docker_volume_chown", "Docker mounts the volumes of its drivers", False),
    idle("domain_socket_location", "executors come over HTTP at the agent's port"),
    idle("egress_burst", _PORT_MAPPING),
    idle("egress_ceil_limit", _PORT_MAPPING),
    idle("egress_flow_classifier_parent", _PORT_MAPPING),
    idle("egress_rate_limit_per_container", _PORT_MAPPING),
    idle("egress_rate_per_cpu", _PORT_MAPPING),
    idle("egress_unique_flow_per_container", _PORT_MAPPING, False),
    idle("ephemeral_ports_per_container", _PORT_MAPPING, "1024"),
    idle("eth0_name", _PORT_MAPPING),
    idle(
        "executor_reregistration_retry_interval",
        "executors come back to this agent by themselves, and need not be called",
    ),
    idle("http_command_executor", "commands are run without an executor of their own", False),
    idle("http_executor_domain_sockets", "executors come over HTTP at the agent's port", False),
    idle("image_provisioner_backend", "layers are always laid upon each other by overlay"),
    idle("ingress_burst", _PORT_MAPPING),
    idle("ingress_ceil_limit", _PORT_MAPPING),
    idle("ingress_isolate_existing_containers", _PORT_MAPPING, False),
    idle("ingress_rate_limit_per_container", _PORT_MAPPING),
    idle("ingress_rate_per_cpu", _PORT_MAPPING),
    idle("ip6", "agents listen where --ip or --listen says, and containers are told of IPv4"),
    idle("ip6_discovery_command", "agents listen where --ip or --listen says"),
    idle(
        "launcher_dir", "all programs that an agent needs come with it", "/usr/local/libexec/mesos"
    ),
    idle("lo_name", _PORT_MAPPING),
    idle("maximum_egress_rate_limit", _PORT_MAPPING),
    idle("maximum_ingress_rate_limit", _PORT_MAPPING),
    idle("minimum_egress_rate_limit", _PORT_MAPPING),
    idle("minimum_ingress_rate_limit", _PORT_MAPPING),
    idle("network_cni_config_dir", _CNI),
    idle("network_cni_metrics", _CNI, True),
    idle("network_cni_plugins_dir", _CNI),
    idle("network_cni_root_dir_persist", _CNI, False),
    idle("network_enable_rate_statistics", _PORT_MAPPING, False),
    idle("network_enable_snmp_statistics", _PORT_MAPPING, False),
    idle("network_enable_socket_statistics_details", _PORT_MAPPING, False),
    idle("network_enable_socket_statistics_summary", _PORT_MAPPING, False),
    idle("network_link_speed", _PORT_MAPPING),
    idle("network_rate_statistics_interval", _PORT_MAPPING),
    idle("network_rate_statistics_window", _PORT_MAPPING),
    idle(
        "nvidia_gpu_devices",
        "the isolator gpu/nvidia is not here; --allowed_devices gives containers their devices",
    ),
    idle("oversubscribed_resources_interval", _OVERSUBSCRIPTION, "15secs"),
    idle("qos_correction_interval_min", _OVERSUBSCRIPTION, "0ns"),
    idle("revocable_cpu_low_priority", _OVERSUBSCRIPTION, True),
    idle("systemd_enable_support", _SYSTEMD, True),
    idle("systemd_runtime_directory", _SYSTEMD, "/run/systemd/system"),
    idle("xfs_kill_containers", _XFS, False),
    idle("xfs_project_range", _XFS),
    idle("xfs_quota_headroom", _XFS),
    refused("csi_plugin_config_dir", _PROVIDERS),
    refused(
        "default_container_dns",
        "containers have the machine's name servers; for those of Docker give dns as a parameter of"
        " ContainerInfo.DOCKER, or in the engine's daemon.json",
    ),
    refused("disk_profile_adaptor", _PROVIDERS),
    refused("master_detector", f"{_FOUND}: --master=zk://..."),
    refused("qos_controller", "nothing is oversubscribed, and there are no modules: leave it out"),
    refused(
        "resource_estimator", "nothing is oversubscribed, and there are no modules: leave it out"
    ),
    refused("resource_provider_config_dir", _PROVIDERS),
    refused(
        "secret_resolver",
        "secrets by reference are not resolved; give tasks their values (Secret.VALUE)",
    ),
    refused(
        "volume_gid_range",
        "volumes that several tasks share belong to no group of their own; have those tasks run as"
        " one user",
    ),
)
"""Of the agent."""
