"""Flags about TLS and limits, and what daemons become of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from mesoskit.app import agent, master
from mesoskit.app.tls import NONE, DaemonTLS, TLSFlagError, daemon_tls
from mesoskit.flags import FlagError, Values
from mesoskit.master.rate_limits import RateLimit
from mesoskit.testing.certificates import make
from tests.base import SynchronousTestCase

CONF = Path(__file__).parents[2] / "conf" / "limits"


class FlagsCase(SynchronousTestCase):
    """A directory, and command lines."""

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="mk-", dir="/tmp")
        self.addCleanup(temporary.cleanup)
        self.home = Path(temporary.name)

    def parse(self, *arguments: str) -> Values:
        return master.FLAGS.parse([f"--work_dir={self.home / 'w'}", *arguments], {})


class LimitTests(FlagsCase):
    """C{--rate_limits} and its like."""

    def test_rate_limits_as_text_and_as_files(self) -> None:
        text = '{"limits": [{"principal": "p", "qps": 5}]}'
        path = self.home / "limits.json"
        path.write_text(text)
        for value in (text, str(path), f"file://{path}"):
            limits = self.parse(f"--rate_limits={value}").rate_limits
            self.assertEqual(limits.by_principal, {"p": RateLimit(5.0)})

    def test_the_samples_are_read_as_they_stand(self) -> None:
        text = (CONF / "mesos-master.env.more").read_text()
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        said = dict(line.replace("/etc/mesoskit", str(CONF)).split("=", 1) for line in lines)
        values = master.FLAGS.parse([f"--work_dir={self.home / 'w'}"], said)
        self.assertEqual(values.rate_limits.by_principal["batch"], RateLimit(100.0, 2000))
        self.assertIn("/logging/toggle", values.firewall_rules)
        self.assertEqual(len(values.given), len(said) + 1)

    def test_mistakes_are_named(self) -> None:
        for argument, words in (
            ('--rate_limits={"limits": [{"principal": "p", "qps": 0}]}', "Invalid qps: 0"),
            ("--rate_limits=/no/such/file", "cannot read /no/such/file: No such file"),
            ("--firewall_rules=[]", "--firewall_rules: cannot use '[]': rules must be an object"),
            ("--max_connections_per_address=0", "expected a whole number from 1 on"),
            ("--tls_min_version=1.1", "--tls_min_version: cannot use '1.1': expected 1.2 or 1.3"),
        ):
            self.assertIn(words, str(self.assertRaises(FlagError, self.parse, argument)))

    def test_a_master_is_made_of_them(self) -> None:
        values = self.parse(
            '--rate_limits={"aggregate_default_qps": 3}',
            "--max_executors_per_slave=4",
            '--firewall_rules={"disabled_endpoints": {"paths": ["/state"]}}',
            "--max_connections_per_address=5",
            "--max_http_connections=6",
            "--max_unauthenticated_connections=7",
        )
        made = master.make_master(Clock(), values)
        options, port = made.state.options, made.port.settings
        assert options.rate_limits is not None
        self.assertEqual(options.rate_limits.default, RateLimit(3.0))
        self.assertEqual(options.max_executors_per_agent, 4)
        self.assertEqual(options.firewall_rules, ("/state",))
        self.assertEqual((port.per_address, port.maximum_http, port.undecided), (5, 6, 7))
        self.assertEqual(made.factory.settings.maximum_unsettled, 7)

    def test_an_agent_is_made_of_them(self) -> None:
        arguments = [
            f"--work_dir={self.home / 'w'}",
            f"--runtime_dir={self.home / 'r'}",
            "--master=127.0.0.1:5050",
            "--ip=127.0.0.1",
            '--firewall_rules={"disabled_endpoints": {"paths": ["/state"]}}',
            "--max_connections_per_address=5",
        ]
        made = agent.make_agent(Clock(), agent.FLAGS.parse(arguments, {}))
        self.assertEqual(made.state.options.firewall_rules, ("/state",))
        self.assertEqual(made.port.settings.per_address, 5)


class TLSFlagTests(FlagsCase):
    """C{--tls_...}, and Mesos' own variables."""

    def setUp(self) -> None:
        super().setUp()
        make(self.home)

    def tls(self, *names: str, environment: Any = None, **more: str) -> DaemonTLS:
        files = {"cert": "server.pem", "key": "server-key.pem", "ca": "ca.pem"}
        arguments = [f"--tls_{name}_file={self.home / files[name]}" for name in names]
        arguments += [f"--tls_{name}={value}" for name, value in more.items()]
        return daemon_tls(self.parse(*arguments), environment or {})

    def refused(self, words: str, *names: str, **more: Any) -> None:
        error = self.assertRaises(TLSFlagError, self.tls, *names, **more)
        self.assertIn(words, str(error))

    def test_nothing_is_said(self) -> None:
        self.assertEqual(self.tls(), NONE)

    def test_a_certificate_closes_the_port_to_others(self) -> None:
        made = self.tls("cert", "key", "ca")
        self.assertIsNotNone(made.shown)
        self.assertFalse(made.plain)
        self.assertTrue(self.tls("cert", "key", support_downgrade="true").plain)

    def test_trust_alone_is_for_dialling(self) -> None:
        made = self.tls("ca")
        self.assertIsNotNone(made.ours)
        self.assertEqual((made.shown, made.plain), (None, True))

    def test_mesos_variables_count_where_no_flag_is_given(self) -> None:
        variables = {
            "LIBPROCESS_SSL_ENABLED": "1",
            "LIBPROCESS_SSL_CERT_FILE": str(self.home / "server.pem"),
            "LIBPROCESS_SSL_KEY_FILE": str(self.home / "server-key.pem"),
            "LIBPROCESS_SSL_SUPPORT_DOWNGRADE": "1",
        }
        made = self.tls(environment=variables)
        self.assertTrue(made.shown is not None and made.plain)
        self.assertIsNone(self.tls("ca", environment=variables).shown)
        off = {**variables, "LIBPROCESS_SSL_ENABLED": "false"}
        self.assertEqual(self.tls(environment=off), NONE)

    def test_the_samples_are_read_as_they_stand(self) -> None:
        for name, flags in (("master", master.FLAGS), ("agent", agent.FLAGS)):
            lines = (CONF.parent / "tls" / f"mesos-{name}.env.more").read_text().splitlines()
            told = [line for line in lines if not line.startswith("#")]
            said = dict(
                line.replace("/etc/mesoskit", str(self.home)).split("=", 1) for line in told
            )
            needed = [f"--work_dir={self.home / 'w'}", "--master=127.0.0.1:5050"]
            values = flags.parse(needed[: 1 if name == "master" else 2], said)
            made = daemon_tls(values, {})
            assert made.ours is not None
            self.assertEqual((made.plain, made.ours.min_version), (False, "1.3"))
            self.assertEqual(made.ours.require_client_cert, name == "master")

    def test_what_does_not_go_together(self) -> None:
        self.refused("--tls: the certificate", "cert")
        self.refused("certificates cannot be verified", "cert", "key", verify_client="true")
        self.refused("the port has no TLS without", "ca", support_downgrade="true")
        self.refused("which has no certificate", require_client_cert="true")
        (self.home / "server-key.pem").chmod(0o644)
        self.refused("others than its owner may use it", "cert", "key")
        nothing = {"LIBPROCESS_SSL_ENABLED": "true", "LIBPROCESS_SSL_CA_FILE": "/no/such"}
        self.refused("LIBPROCESS_SSL_ENABLED: /no/such: cannot be read", environment=nothing)
