"""The flags of master and agent, and what they become."""

import base64
import json
import os
import socket
from pathlib import Path

from twisted.internet.task import Clock

from mesoskit.app import agent, daemon, master
from mesoskit.flags import FlagError
from mesoskit.model.resources import Resources
from tests.base import SynchronousTestCase


class MasterFlagsTests(SynchronousTestCase):
    """C{twistd mesos-master}."""

    def parse(self, *arguments):
        return master.FLAGS.parse([f"--work_dir={self.mktemp()}", *arguments], {})

    def refused(self, *arguments):
        return str(self.assertRaises(FlagError, self.parse, *arguments))

    def test_defaults_are_mesos_own(self):
        values = self.parse()
        self.assertEqual(values.port, 5050)
        self.assertEqual(values.agent_ping_timeout, 15.0)
        self.assertEqual(values.max_agent_ping_timeouts, 5)
        self.assertEqual(values.agent_reregister_timeout, 600.0)
        self.assertEqual(values.allocation_interval, 1.0)

    def test_bad_values_are_named(self):
        for argument, part in (
            ("--weights=a", "--weights: cannot use 'a'"),
            ("--weights=a=0", "must be greater than 0"),
            ("--roles=a,..", "--roles: cannot use 'a,..'"),
            ("--role_sorter=fair", "expected one of drf, random"),
            ("--recovery_agent_removal_limit=120%", "from 0% to 100%"),
            ("--min_allocatable_resources=cpus", "--min_allocatable_resources"),
            ("--agent_removal_rate_limit=10mins", "expected a rate such as 1/10mins"),
            ("--agent_removal_rate_limit=0/10mins", "expected at least one"),
            ("--zk=zk://bob:hush@h:1/", "'zk://bob:***@h:1/' is not the URL of a ZooKeeper"),
            ("--registry=paper", "expected one of sqlite, in_memory, replicated_log, zookeeper"),
        ):
            self.assertIn(part, self.refused(argument))

    def test_weights_and_roles(self):
        values = self.parse("--weights=a=2,b/c=0.5", "--roles=a,b/c")
        self.assertEqual(values.weights, {"a": 2.0, "b/c": 0.5})
        self.assertEqual(values.roles, frozenset({"a", "b/c"}))

    def test_master_is_made_of_its_flags(self):
        made = master.make_master(Clock(), self.parse("--port=5999", "--ip=127.0.0.1"))
        self.assertEqual(made.state.options.port, 5999)
        self.assertEqual(made.state.options.ip, "127.0.0.1")

    def test_master_with_zookeeper_stands_for_election_and_shows_no_password(self):
        made = master.make_master(Clock(), self.parse("--zk=zk://bob:hush@h:1,i:2/m", "--quorum=2"))
        self.assertEqual(made.flags["zk"], "zk://bob:***@h:1,i:2/m")
        self.assertNotIn("hush", repr(made.flags))
        self.assertIsNone(made.leader)
        away = made.away("/state")
        assert away is not None
        self.assertEqual((away.status, away.why), (503, "No leader elected"))

    def test_registry_in_a_zookeeper_that_is_not_named_is_refused(self):
        error = self.assertRaises(
            daemon.StartError, master.make_master, Clock(), self.parse("--registry=zookeeper")
        )
        self.assertIn("--zk is missing", str(error))

    def test_removal_rate_is_a_time_between_two(self):
        for rate, seconds in (("1/10mins", 600.0), ("2/3hrs", 5400.0)):
            values = self.parse(f"--slave_removal_rate_limit={rate}")
            made = master.make_master(Clock(), values)
            self.assertEqual(made.state.options.agent_removal_interval, seconds)

    def test_allocator_is_as_its_flags_say(self):
        for flag in ("--role_sorter=random", "--framework_sorter=random"):
            self.assertTrue(master.make_master(Clock(), self.parse(flag)).state)
        values = self.parse("--allocation_interval=50ms", "--min_allocatable_resources=cpus:1")
        options = master.allocator_options(values)
        self.assertEqual(options.allocation_interval, 0.05)
        self.assertEqual(len(options.min_allocatable_resources), 1)

    def test_master_shows_its_flags_as_they_would_be_written(self):
        made = master.make_master(Clock(), self.parse("--weights=a=2"))
        for name, shown in (
            ("port", "5050"),
            ("weights", "a=2"),
            ("agent_reregister_timeout", "10mins"),
            ("recovery_agent_removal_limit", "100%"),
            ("min_allocatable_resources", "cpus:0.01|mem:32"),
            ("registry_max_agent_age", "2weeks"),
            ("registry", "replicated_log"),
            ("registry_fetch_timeout", "1mins"),
            ("registry_store_timeout", "20secs"),
            ("zk_session_timeout", "10secs"),
            ("root_submissions", "true"),
        ):
            self.assertEqual(made.flags[name], shown)
        self.assertNotIn("roles", made.flags)

    def test_what_a_flag_shows_as_its_default_is_its_default(self):
        for flags in (master.FLAGS, agent.FLAGS):
            for flag in flags.flags:
                written = flag.default_text
                if written is not None and flag.default is not None:
                    self.assertEqual(flag.parse(written), flag.default, flag.name)

    def test_address_may_be_what_a_command_prints(self):
        made = master.make_master(Clock(), self.parse("--ip_discovery_command=echo 127.0.0.7"))
        self.assertEqual("127.0.0.7", made.state.options.ip)
        for flags, part in (
            (["echo nothing"], "'echo nothing' printed 'nothing', which is no IPv4 address"),
            (["exit 3"], "'exit 3' ended with status 3"),
            (["echo 127.0.0.7", "--ip=127.0.0.1"], "Only one of --ip or --ip_discovery_command"),
        ):
            values = self.parse(f"--ip_discovery_command={flags[0]}", *flags[1:])
            error = self.assertRaises(daemon.StartError, master.make_master, Clock(), values)
            self.assertIn(part, str(error))

    def test_variables_of_libprocess_count_where_flags_are_silent(self):
        environment = {
            "LIBPROCESS_IP": "127.0.0.5",
            "LIBPROCESS_ADVERTISE_IP": "203.0.113.7",
            "LIBPROCESS_ADVERTISE_PORT": "31000",
            "LIBPROCESS_PORT": "1",
        }
        values = self.parse()
        daemon.find_ip(values, environment)
        found = values.ip, values.advertise_ip, values.advertise_port, values.port
        self.assertEqual(("127.0.0.5", "203.0.113.7", 31000, 5050), found)
        values = self.parse("--ip=127.0.0.1", "--advertise_port=7")
        daemon.find_ip(values, environment)
        self.assertEqual(("127.0.0.1", 7), (values.ip, values.advertise_port))
        error = self.assertRaises(
            daemon.StartError, daemon.find_ip, self.parse(), {"LIBPROCESS_IP": "eth0"}
        )
        self.assertIn("LIBPROCESS_IP: cannot use 'eth0'", str(error))

    def test_master_says_where_it_is(self):
        where = '{"fault_domain": {"region": {"name": "north"}, "zone": {"name": "n1"}}}'
        path = Path(self.mktemp()).absolute()
        path.write_text(where)
        for given in (where, path, f"file://{path}"):
            values = self.parse(f"--domain={given}", "--require_agent_domain")
            made = master.make_master(Clock(), values)
            self.assertEqual("n1", made.state.info.domain.fault_domain.zone.name)
            self.assertTrue(made.state.options.require_agent_domain)
            self.assertEqual("north", master.allocator_options(values).region)
        self.assertIsNone(master.allocator_options(self.parse()).region)

    def test_bad_domain_is_named(self):
        for given in ("north", "{}", '{"fault_domain": {"region": {"name": "north"}}}', "/none"):
            self.assertIn("--domain: cannot use", self.refused(f"--domain={given}"))

    def test_whitelist_is_read_before_anything_is_offered(self):
        path = Path(self.mktemp()).absolute()
        path.write_text("a.example\n\nb.example\n")
        made = master.make_master(Clock(), self.parse(f"--whitelist=file://{path}"))
        self.assertEqual({"a.example", "b.example"}, made.state.options.whitelist)
        path.write_text("a b\n")
        error = self.assertRaises(
            ValueError, master.make_master, Clock(), self.parse(f"--whitelist={path}")
        )
        self.assertIn(f"{path}, line 1: expected one host name a line", str(error))
        self.assertIsNone(self.parse("--whitelist=*").whitelist)

    def test_log_in_a_directory_is_shown_like_an_external_one(self):
        made = master.make_master(Clock(), self.parse("--log_dir=/var/log/mesos"))
        self.assertEqual("/var/log/mesos", made.state.options.log_dir)
        self.assertEqual("/var/log/mesos/mesos-master.INFO", made.state.options.external_log_file)

    def test_work_dir_that_cannot_be_made_is_named(self):
        values = master.FLAGS.parse(["--work_dir=/proc/nowhere"], {})
        error = self.assertRaises(daemon.StartError, master.make_master, Clock(), values)
        self.assertIn("--work_dir: cannot make /proc/nowhere", str(error))

    def test_endpoint_strings_take_the_place_of_ip_and_port(self):
        values = self.parse("--listen=tcp:5050 unix:/run/x.sock")
        self.assertEqual(daemon.endpoints(values), ["tcp:5050", "unix:/run/x.sock"])


class AgentFlagsTests(SynchronousTestCase):
    """C{twistd mesos-agent}."""

    def parse(self, *arguments):
        return agent.FLAGS.parse(
            [f"--work_dir={self.mktemp()}", "--master=127.0.0.1:5050", *arguments], {}
        )

    def make(self, *arguments):
        runtime = Path(self.mktemp())
        return agent.make_agent(
            Clock(), self.parse(f"--runtime_dir={runtime}", "--ip=127.0.0.1", *arguments)
        )

    def test_what_is_not_named_is_measured(self):
        values = self.parse("--resources=cpus:3;mem:100")
        found = agent.resources(values, os.getcwd())
        self.assertEqual(found.scalar("cpus"), 3000)
        self.assertEqual(found.scalar("mem"), 100_000)
        self.assertGreater(found.scalar("disk"), 0)
        self.assertEqual(found.with_name("ports"), Resources.parse("ports:[31000-32000]"))

    def test_default_role_is_given_to_what_is_measured_too(self):
        found = agent.resources(self.parse("--default_role=web"), os.getcwd())
        self.assertEqual(list(found.reserved()), ["web"])

    def test_bad_resources_are_named(self):
        error = self.assertRaises(daemon.StartError, self.make, "--resources=cpus:many")
        self.assertIn("--resources:", str(error))
        self.assertIn("many", str(error))

    def test_bad_master_address_is_named(self):
        error = self.assertRaises(daemon.StartError, self.make, "--master=nowhere")
        self.assertIn("--master:", str(error))
        self.assertIn("'nowhere'", str(error))

    def test_bad_role_is_named(self):
        error = self.assertRaises(FlagError, self.parse, "--default_role=web/")
        self.assertIn("--default_role: cannot use 'web/': Role 'web/' cannot end", str(error))

    def test_rounds_that_would_never_pause_are_refused(self):
        for name in ("disk_watch_interval", "executor_heartbeat_interval"):
            error = self.assertRaises(FlagError, self.parse, f"--{name}=0secs")
            self.assertIn(f"--{name}: cannot use '0secs': must be at least 100ms", str(error))

    def test_bad_place_of_masters_in_zookeeper_is_named_and_keeps_its_password(self):
        error = self.assertRaises(
            daemon.StartError, self.make, "--master=zk://bob:hush@127.0.0.1:2181"
        )
        self.assertIn("--master: 'zk://bob:***@127.0.0.1:2181'", str(error))
        self.assertIn("the path is missing", str(error))

    def test_masters_are_looked_up_in_zookeeper_and_its_password_is_shown_to_nobody(self):
        made = self.make(
            "--master=zk://bob:hush@127.0.0.1:2181/mesos", "--zk_session_timeout=2secs"
        )
        self.assertEqual("zk://bob:***@127.0.0.1:2181/mesos", made.state.options.flags["master"])
        self.assertNotIn("hush", repr(made.state.options))
        error = self.assertRaises(FlagError, self.parse, "--zk_session_timeout=100ms")
        self.assertIn("must be from 1secs to 1hrs", str(error))

    def test_secrets_of_the_default_container_are_shown_to_nobody(self):
        secret = base64.b64encode(b"hunter2").decode()
        source = {"type": "SECRET", "secret": {"type": "VALUE", "value": {"data": secret}}}
        volume = {"mode": "RO", "container_path": "s", "source": source}
        given = json.dumps({"type": "MESOS", "volumes": [volume]})
        found = self.make(f"--default_container_info={given}").state.options
        self.assertNotIn(secret, repr(found.flags))
        self.assertIn('"container_path":"s"', found.flags["default_container_info"])
        self.assertIn(b"hunter2", found.default_container)
        error = self.assertRaises(FlagError, self.parse, f"--default_container_info={given[:-1]}")
        self.assertNotIn(secret, str(error))
        plain = '{"type": "MESOS"}'
        values = self.parse(f"--default_container_info={plain}")
        self.assertEqual(plain, values.shown["default_container_info"])

    def test_agent_shows_where_things_are_that_nobody_said(self):
        found = self.make("--docker_store_dir=/srv/images").state.options
        self.assertEqual(found.runtime_dir, found.flags["runtime_dir"])
        self.assertEqual(f"{found.work_dir}/fetch", found.flags["fetcher_cache_dir"])
        self.assertEqual("/srv/images", found.flags["docker_store_dir"])

    def test_bad_environment_is_named(self):
        error = self.assertRaises(FlagError, self.parse, "--executor_environment_variables=[1]")
        self.assertIn("--executor_environment_variables", str(error))

    def test_executors_are_told_an_address_of_this_machine(self):
        found = self.make("--advertise_ip=203.0.113.7").state.options
        self.assertEqual(("203.0.113.7", "127.0.0.1"), (found.ip, found.local_ip))
        for given in ((), ("--ip=0.0.0.0",)):
            address = daemon.local_ip(self.parse(*given))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((address, 0))

    def test_name_that_is_somebody_elses_is_no_address_of_this_machine(self):
        elsewhere = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.7", 0))]
        self.patch(socket, "getaddrinfo", lambda *_: elsewhere)
        self.assertEqual("127.0.0.1", daemon.local_ip(self.parse()))

    def test_heartbeats_of_executors(self):
        self.assertEqual(1800.0, self.parse().executor_heartbeat_interval)
        made = self.make("--executor_heartbeat_interval=5mins")
        self.assertEqual(300.0, made.executors.heartbeats.interval)

    def test_runtime_directory_is_short_and_always_the_same(self):
        long = Path("/var/lib") / ("x" * 200)
        self.assertEqual(agent.runtime_path(long), agent.runtime_path(long))
        self.assertLess(len(agent.runtime_path(long)), 60)

    def test_runtime_directory_that_others_may_write_is_refused(self):
        runtime = Path(self.mktemp())
        runtime.mkdir()
        runtime.chmod(0o777)
        error = self.assertRaises(daemon.StartError, self.make, f"--runtime_dir={runtime}")
        self.assertIn("writable by no other", str(error))
