"""Flags: Mesos' names, environment, files, and errors that name the bad part."""

from pathlib import Path

from mesoskit.flags import (
    FLAGS_DIR,
    Flag,
    FlagError,
    Flags,
    boolean,
    duration,
    integer,
    port,
    size,
    text,
)
from tests.base import SynchronousTestCase

FLAGS = Flags(
    "mesos-thing",
    [
        Flag("work_dir", text, help="Where things are kept.", required=True, is_path=True),
        Flag("port", port, 5050, "Port to listen on."),
        Flag("quiet", boolean, False, "Say nothing."),
        Flag("agent_ping_timeout", duration, 15.0, aliases=("slave_ping_timeout",)),
        Flag("cache", size, 2 * 1024**3),
        Flag("count", integer, 1),
        Flag("secret", integer, None, secret=True),
        Flag("resources", text),
    ],
)


class FlagsTests(SynchronousTestCase):
    """Reading a command line and an environment."""

    def parse(self, *arguments, **environment):
        return FLAGS.parse(["--work_dir=/w", *arguments], environment)

    def refused(self, *arguments, **environment):
        return str(self.assertRaises(FlagError, self.parse, *arguments, **environment))

    def test_defaults(self):
        values = self.parse()
        self.assertEqual(
            (values.port, values.quiet, values.agent_ping_timeout, values.cache, values.resources),
            (5050, False, 15.0, 2 * 1024**3, None),
        )
        self.assertEqual(values.given, {"work_dir": "/w"})

    def test_all_that_has_a_value_is_shown_but_for_secrets(self):
        self.assertEqual(
            self.parse("--secret=7", "--no-quiet", MESOS_AGENT_PING_TIMEOUT="20secs").shown,
            {
                "work_dir": "/w",
                "port": "5050",
                "quiet": "false",
                "agent_ping_timeout": "20secs",
                "cache": "2147483648",
                "count": "1",
            },
        )
        self.assertEqual(self.parse().shown["agent_ping_timeout"], "15secs")
        self.assertIn("(default: 15secs)", FLAGS.usage())

    def test_dash_and_underscore_are_alike(self):
        self.assertEqual(self.parse("--agent-ping-timeout=5secs").agent_ping_timeout, 5.0)
        self.assertEqual(self.parse("--agent_ping_timeout=5secs").agent_ping_timeout, 5.0)

    def test_value_may_stand_apart(self):
        self.assertEqual(self.parse("--port", "80").port, 80)

    def test_alias(self):
        self.assertEqual(self.parse("--slave_ping_timeout=1mins").agent_ping_timeout, 60.0)

    def test_booleans(self):
        for argument, expected in (
            ("--quiet", True),
            ("--no-quiet", False),
            ("--no_quiet", False),
            ("--quiet=true", True),
            ("--quiet=0", False),
        ):
            self.assertIs(self.parse(argument).quiet, expected, argument)

    def test_environment_is_read_and_overridden(self):
        self.assertEqual(self.parse(MESOS_PORT="81").port, 81)
        self.assertEqual(self.parse("--port=82", MESOS_PORT="81").port, 82)
        self.assertEqual(self.parse(MESOS_SLAVE_PING_TIMEOUT="2secs").agent_ping_timeout, 2.0)
        self.assertEqual(self.parse(MESOS_NOTHING_WE_KNOW="x").port, 5050)

    def test_environment_may_be_for_some_flags_alone(self):
        some = Flags("mesos-test", FLAGS.flags, variables={"work_dir"})
        values = some.parse([], {"MESOS_WORK_DIR": "/v", "MESOS_PORT": "81"})
        self.assertEqual((values.work_dir, values.port), ("/v", 5050))

    def test_later_flag_wins(self):
        self.assertEqual(self.parse("--port=1", "--port=2").port, 2)

    def test_file_values_are_read_but_paths_are_left(self):
        path = Path(self.mktemp())
        path.write_text(" cpus:4;mem:10\n")
        self.assertEqual(
            self.parse(f"--resources=file://{path.absolute()}").resources, "cpus:4;mem:10"
        )
        self.assertEqual(FLAGS.parse(["--work_dir=file:///x"], {}).work_dir, "file:///x")

    def test_file_that_is_not_there(self):
        self.assertEqual(
            self.refused("--resources=file:///no/such"),
            "--resources: cannot read /no/such: No such file or directory",
        )

    def test_file_that_is_not_text(self):
        path = Path(self.mktemp())
        path.write_bytes(b"\xff\xfe")
        self.assertIn("is not UTF-8 text", self.refused(f"--resources=file://{path.absolute()}"))

    def test_unknown_flag_is_named_with_the_nearest_one(self):
        self.assertEqual(
            self.refused("--work-dri=/x"), "unknown flag --work_dri: did you mean --work_dir?"
        )
        self.assertEqual(self.refused("--zzz"), "unknown flag --zzz: see --help")
        self.assertEqual(self.refused("--no-port"), "unknown flag --no_port: did you mean --port?")

    def test_what_is_no_flag(self):
        self.assertEqual(self.refused("stray"), "'stray' is not a flag: expected --name=value")

    def test_missing_value(self):
        self.assertEqual(self.refused("--port"), "--port needs a value: --port=VALUE")
        self.assertEqual(self.refused("--port", "--quiet"), "--port needs a value: --port=VALUE")

    def test_required_flag(self):
        error = self.assertRaises(FlagError, FLAGS.parse, [], {})
        self.assertEqual(str(error), "--work_dir is required: Where things are kept.")

    def test_required_flag_must_say_something(self):
        self.assertEqual(
            str(self.assertRaises(FlagError, FLAGS.parse, ["--work_dir="], {})),
            "--work_dir must not be empty: Where things are kept.",
        )

    def test_bad_values_name_flag_and_value(self):
        for argument, part in (
            ("--port=70000", "--port: cannot use '70000': expected a port number"),
            ("--port=-1", "--port: cannot use '-1': expected a whole number"),
            ("--quiet=perhaps", "--quiet: cannot use 'perhaps': expected true or false"),
            ("--agent_ping_timeout=-1secs", "expected a duration that is not negative"),
            ("--agent_ping_timeout=soon", "--agent_ping_timeout: cannot use 'soon'"),
            ("--cache=lots", "--cache: cannot use 'lots'"),
        ):
            self.assertIn(part, self.refused(argument))

    def test_negation_with_a_value(self):
        self.assertIn("takes no value", self.refused("--no-quiet=true"))

    def test_secrets_are_not_read_from_files_of_everybody(self):
        path = Path(self.mktemp())
        path.write_text("7\n")
        for mode in (0o644, 0o640, 0o602):
            path.chmod(mode)
            self.assertIn(f"secrets want chmod 600 {path}", self.refused(f"--secret=file://{path}"))
        path.chmod(0o600)
        self.assertEqual(7, self.parse(f"--secret=file://{path}").secret)

    def test_secrets_are_not_shown(self):
        self.assertNotIn("hunter2", self.refused("--secret=hunter2"))

    def test_usage_names_every_flag(self):
        usage = FLAGS.usage()
        for flag in FLAGS.flags:
            self.assertIn(flag.name, usage)
        self.assertIn("--[no-]quiet", usage)


class DirectoryTests(SynchronousTestCase):
    """Flags as files in a directory."""

    FLAGS = Flags("mesos-thing", [*FLAGS.flags, Flag(FLAGS_DIR, text, is_path=True)])

    def setUp(self):
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def parse(self, *arguments, **environment):
        where = f"--flags_dir={self.directory}"
        return self.FLAGS.parse(["--work_dir=/w", where, *arguments], environment)

    def write(self, name, value=""):
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(value)
        path.chmod(0o600)
        return path

    def test_file_is_a_flag(self):
        self.write("port", "7\n")
        self.write("agent-ping-timeout", "3secs")
        self.write("?quiet")
        values = self.parse()
        self.assertEqual((7, 3.0, True), (values.port, values.agent_ping_timeout, values.quiet))

    def test_command_line_counts_more_and_the_environment_less(self):
        self.write("port", "7")
        self.write("count", "2")
        values = self.parse("--port=8", MESOS_COUNT="3")
        self.assertEqual((8, 2), (values.port, values.count))

    def test_environment_may_name_the_directory(self):
        self.write("?no-quiet")
        self.write("port", "7")
        named = {"MESOS_FLAGS_DIR": str(self.directory)}
        values = self.FLAGS.parse(["--work_dir=/w"], named)
        self.assertEqual((7, False), (values.port, values.quiet))

    def test_resources_may_be_a_file_each(self):
        self.write("resources/cpus", "4\n")
        self.write("resources/ports", "[1-2]")
        self.assertEqual("cpus:4;ports:[1-2]", self.parse().resources)

    def test_what_editors_and_packages_leave_is_passed_over(self):
        for name in ("port~", ".port.swp", "port.dpkg-old", "port.rpmsave"):
            self.write(name, "70000")
        self.assertEqual(5050, self.parse().port)

    def test_what_cannot_be_used_is_named(self):
        def refused():
            return str(self.assertRaises(FlagError, self.parse))

        path = self.write("secret", "7")
        path.chmod(0o644)
        self.assertIn(f"secrets want chmod 600 {path}", refused())
        path.unlink()
        self.write("prot", "7")
        self.assertIn("unknown flag --prot: did you mean --port?", refused())
        (self.directory / "prot").unlink()
        (self.directory / "more").mkdir()
        self.assertIn("more is a directory", refused())
        self.directory = self.directory / "none"
        self.assertIn("none: No such file", refused())
