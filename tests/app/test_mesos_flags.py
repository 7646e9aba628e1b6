"""Every flag that Apache Mesos has is known, and says what becomes of it."""

import re
from pathlib import Path

from mesoskit.app import agent, master, mesos_flags
from mesoskit.flags import FlagError
from tests.base import SynchronousTestCase

DOCS = Path(__file__).parents[2] / "docs" / "flags.md"

COMMON = """
    advertise_ip advertise_port authenticate_http_readonly authenticate_http_readwrite domain
    external_log_file firewall_rules help hooks hostname hostname_lookup http_authenticators
    initialize_driver_logging ip ip_discovery_command log_dir logbufsecs logging_level
    memory_profiling modules modules_dir port quiet version zk_session_timeout
"""

MASTER = """
    acls agent_ping_timeout agent_removal_rate_limit agent_reregister_timeout allocation_interval
    allocator allocator_agent_recovery_factor allocator_recovery_timeout authenticate
    authenticate_agents authenticate_frameworks authenticate_http_frameworks authenticate_slaves
    authentication_v0_timeout authenticators authorizers cluster credentials
    fair_sharing_excluded_resource_names filter_gpu_resources framework_sorter
    http_framework_authenticators log_auto_initialize master_contender master_detector
    max_agent_ping_timeouts max_completed_frameworks max_completed_tasks_per_framework
    max_executors_per_agent max_executors_per_slave max_operator_event_stream_subscribers
    max_slave_ping_timeouts max_unreachable_tasks_per_framework min_allocatable_resources
    offer_constraints_re2_max_mem offer_constraints_re2_max_program_size offer_timeout
    publish_per_framework_metrics quorum rate_limits recovery_agent_removal_limit
    recovery_slave_removal_limit registry registry_fetch_timeout registry_gc_interval
    registry_max_agent_age registry_max_agent_count registry_store_timeout registry_strict
    require_agent_domain role_sorter roles root_submissions slave_ping_timeout
    slave_removal_rate_limit slave_reregister_timeout webui_dir weights whitelist work_dir zk
"""

AGENT = """
    acls agent_features agent_subsystems allowed_devices appc_simple_discovery_uri_prefix
    appc_store_dir attributes authenticate_http_executors authenticatee
    authentication_backoff_factor authentication_timeout_max authentication_timeout_min authorizer
    bounding_capabilities cgroups_cpu_enable_pids_and_tids_count cgroups_destroy_timeout
    cgroups_enable_cfs cgroups_hierarchy cgroups_limit_swap cgroups_net_cls_primary_handle
    cgroups_net_cls_secondary_handles cgroups_root check_agent_port_range_only
    container_disk_watch_interval container_logger container_ports_isolated_range
    container_ports_watch_interval containerizers credential csi_plugin_config_dir
    default_container_dns default_container_info default_container_shm_size default_role
    disallow_sharing_agent_ipc_namespace disallow_sharing_agent_pid_namespace
    disk_profile_adaptor disk_watch_interval docker docker_config docker_ignore_runtime
    docker_kill_orphans docker_mesos_image docker_registry docker_remove_delay docker_socket
    docker_stop_timeout docker_store_dir docker_volume_checkpoint_dir docker_volume_chown
    domain_socket_location effective_capabilities egress_burst egress_ceil_limit
    egress_flow_classifier_parent egress_rate_limit_per_container egress_rate_per_cpu
    egress_unique_flow_per_container enforce_container_disk_quota enforce_container_ports
    ephemeral_ports_per_container eth0_name executor_environment_variables
    executor_registration_timeout executor_reregistration_retry_interval
    executor_reregistration_timeout executor_shutdown_grace_period fetcher_cache_dir
    fetcher_cache_size fetcher_stall_timeout frameworks_home gc_delay gc_disk_headroom
    gc_non_executor_container_sandboxes hadoop_home host_path_volume_force_creation
    http_command_executor http_credentials http_executor_domain_sockets http_heartbeat_interval
    image_gc_config image_providers image_provisioner_backend ingress_burst ingress_ceil_limit
    ingress_isolate_existing_containers ingress_rate_limit_per_container ingress_rate_per_cpu ip6
    ip6_discovery_command isolation jwt_secret_key launcher launcher_dir lo_name master
    master_detector max_completed_executors_per_framework maximum_egress_rate_limit
    maximum_ingress_rate_limit minimum_egress_rate_limit minimum_ingress_rate_limit
    network_cni_config_dir network_cni_metrics network_cni_plugins_dir network_cni_root_dir_persist
    network_enable_rate_statistics network_enable_snmp_statistics
    network_enable_socket_statistics_details network_enable_socket_statistics_summary
    network_link_speed network_rate_statistics_interval network_rate_statistics_window
    nvidia_gpu_devices oversubscribed_resources_interval perf_duration perf_events perf_interval
    qos_controller qos_correction_interval_min reconfiguration_policy recover recovery_timeout
    registration_backoff_factor resource_estimator resource_provider_config_dir resources
    revocable_cpu_low_priority runtime_dir sandbox_directory seccomp_config_dir
    seccomp_profile_name secret_resolver slave_subsystems strict switch_user
    systemd_enable_support systemd_runtime_directory volume_gid_range work_dir xfs_kill_containers
    xfs_project_range xfs_quota_headroom
"""

#: What a master and an agent of Mesos 1.12 show at C{/flags} although nobody gave it, but for
#: C{webui_dir}, C{fetcher_cache_dir}, C{docker_store_dir}, C{frameworks_home}, C{runtime_dir} and
#: C{resources}, which depend on where things are.
SHOWN = {
    master: {
        "allocator": "hierarchical",
        "allocator_agent_recovery_factor": "0.8",
        "allocator_recovery_timeout": "10mins",
        "help": "false",
        "initialize_driver_logging": "true",
        "log_auto_initialize": "true",
        "logbufsecs": "0",
        "memory_profiling": "false",
        "offer_constraints_re2_max_mem": "4KB",
        "offer_constraints_re2_max_program_size": "100",
        "publish_per_framework_metrics": "true",
        "registry_strict": "false",
        "require_agent_domain": "false",
        "version": "false",
    },
    agent: {
        "appc_simple_discovery_uri_prefix": "http://",
        "appc_store_dir": "/tmp/mesos/store/appc",
        "docker": "docker",
        "docker_volume_checkpoint_dir": "/var/run/mesos/isolators/docker/volume",
        "docker_volume_chown": "false",
        "help": "false",
        "http_command_executor": "false",
        "http_executor_domain_sockets": "false",
        "initialize_driver_logging": "true",
        "launcher_dir": "/usr/local/libexec/mesos",
        "logbufsecs": "0",
        "memory_profiling": "false",
        "network_cni_metrics": "true",
        "network_cni_root_dir_persist": "false",
        "oversubscribed_resources_interval": "15secs",
        "qos_correction_interval_min": "0ns",
        "revocable_cpu_low_priority": "true",
        "systemd_runtime_directory": "/run/systemd/system",
        "version": "false",
    },
}


def needed(program):
    """Return what a program does not start without."""
    return ["--work_dir=/w", *(["--master=127.0.0.1:5050"] if program is agent else [])]


def names_of(flags):
    """Return all names of flags, the other names of each among them."""
    return {name for flag in flags for name in (flag.name, *flag.aliases)}


class MesosFlagsTests(SynchronousTestCase):
    """What a team with a cluster of Mesos brings along."""

    def test_no_flag_of_mesos_is_unknown(self):
        for program, own in ((master, MASTER), (agent, AGENT)):
            missing = {*COMMON.split(), *own.split()} - names_of(program.FLAGS.flags)
            self.assertEqual(set(), missing)

    def test_what_has_nothing_to_do_here_is_mesos_own(self):
        for flags, own in ((mesos_flags.MASTER_FLAGS, MASTER), (mesos_flags.AGENT_FLAGS, AGENT)):
            self.assertEqual(set(), names_of(flags) - {*COMMON.split(), *own.split()})
            for flag in flags:
                self.assertTrue(bool(flag.idle) != bool(flag.instead), flag.name)

    def test_flag_without_effect_says_so_once_and_why(self):
        values = agent.FLAGS.parse([*needed(agent), "--launcher_dir=/usr/libexec/mesos"], {})
        (note,) = values.notes
        self.assertTrue(note.startswith("--launcher_dir has no effect: all programs"), note)
        self.assertEqual("/usr/libexec/mesos", values.shown["launcher_dir"])

    def test_every_flag_without_effect_is_taken_from_the_environment_too(self):
        for program, flags in (
            (master, mesos_flags.MASTER_FLAGS),
            (agent, mesos_flags.AGENT_FLAGS),
        ):
            for flag in (one for one in flags if one.idle):
                value = str(not flag.default).lower() if flag.is_boolean else "7"
                for arguments, environment in (
                    ([f"--{flag.name}={value}"], {}),
                    ([], {f"MESOS_{flag.name.upper()}": value}),
                ):
                    values = program.FLAGS.parse([*needed(program), *arguments], environment)
                    self.assertEqual(1, len(values.notes), flag.name)
                    self.assertEqual(value, values.shown[flag.name])

    def test_default_of_mesos_changes_nothing_and_is_not_remarked_upon(self):
        for program in (master, agent):
            given = [f"--{name}={value}" for name, value in SHOWN[program].items()]
            self.assertEqual((), program.FLAGS.parse([*needed(program), *given], {}).notes)

    def test_defaults_are_shown_as_mesos_shows_them(self):
        for program, expected in SHOWN.items():
            shown = program.FLAGS.parse(needed(program), {}).shown
            self.assertEqual(expected, {name: shown[name] for name in expected})

    def test_what_people_rely_on_is_refused_with_what_to_do(self):
        for program, flags in (
            (master, mesos_flags.MASTER_FLAGS),
            (agent, mesos_flags.AGENT_FLAGS),
        ):
            for flag in (one for one in flags if one.instead):
                for arguments, environment in (
                    ([f"--{flag.name}=file:///etc/mesos/x"], {}),
                    ([], {f"MESOS_{flag.name.upper()}": "x"}),
                ):
                    error = self.assertRaises(
                        FlagError,
                        program.FLAGS.parse,
                        [*needed(program), *arguments],
                        environment,
                    )
                    self.assertEqual(
                        f"--{flag.name} cannot be had here: {flag.instead}", str(error)
                    )
                # What says nothing is nothing to be afraid of.
                program.FLAGS.parse([*needed(program), f"--{flag.name}="], {})

    def test_other_allocators_are_refused(self):
        master.FLAGS.parse([*needed(master), "--allocator=HierarchicalDRF"], {})
        error = self.assertRaises(
            FlagError, master.FLAGS.parse, [*needed(master), "--allocator=org_x_Y"], {}
        )
        self.assertIn("expected one of hierarchical, HierarchicalDRF", str(error))

    def test_misspelt_flag_of_mesos_is_recognised(self):
        error = self.assertRaises(
            FlagError, agent.FLAGS.parse, [*needed(agent), "--launcher-dirr=/x"], {}
        )
        self.assertIn("did you mean --launcher_dir?", str(error))

    def test_help_ends_with_what_has_no_effect(self):
        usage = agent.FLAGS.usage()
        self.assertIn("\n  --launcher_dir: all programs", usage)
        self.assertNotIn("--modules", usage)

    def test_page_about_flags_has_each_of_them(self):
        rows = re.findall(r"^\| `--(\w+)` \| (\w+) \| (\w+) \| (.*) \|$", DOCS.read_text(), re.M)
        told = {(of, name): (what, why) for name, of, what, why in rows}
        expected = {}
        for of, flags in (
            ("master", mesos_flags.MASTER_FLAGS),
            ("agent", mesos_flags.AGENT_FLAGS),
        ):
            for flag in flags:
                what = ("taken", flag.idle) if flag.idle else ("refused", flag.instead)
                expected[of, flag.name] = what
        both = {
            name: what
            for (of, name), what in expected.items()
            if of == "master" and expected.get(("agent", name)) == what
        }
        for name, what in both.items():
            del expected["master", name], expected["agent", name]
            expected["both", name] = what
        self.assertEqual(expected, told)
