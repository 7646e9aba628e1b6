"""Who is let into a cluster: masters, agents and frameworks that have secrets, or not."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mesoskit.driver import AuthenticationFailed, Credential, DriverSettings, Framework
from mesoskit.messages.mesos_pb2 import FrameworkInfo
from mesoskit.wire.auth.identity import Patience
from tests.cluster import asking
from tests.cluster.harness import Cluster, ClusterTestCase
from tests.cluster.test_execute import Command
from tests.cluster.waiting import reactor, until

SECRETS = {"agents": "pl4nted-agent-secret", "ops": "pl4nted-ops-secret"}
WRONG = "pl4nted-wrong-secret"


def private(path: Path, content: object, mode: int = 0o600) -> Path:
    """Write a file of secrets, in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text(content if isinstance(content, str) else json.dumps(content))
    fresh.chmod(mode)
    fresh.rename(path)
    return path


def credentials(secrets: dict[str, str]) -> dict[str, Any]:
    return {"credentials": [credential(name, text) for name, text in secrets.items()]}


def credential(principal: str, secret: str) -> dict[str, str]:
    return {"principal": principal, "secret": secret}


class AuthenticationTests(ClusterTestCase):
    """A master that asks everybody who they are."""

    timeout = 600

    def prepare(self, **flags: object) -> Cluster:
        """Prepare a cluster with one agent; neither is started."""
        cluster = self.cluster()
        directory = cluster.directory
        self.credentials = private(directory / "credentials.json", credentials(SECRETS))
        self.credential = private(directory / "agent.json", credential("agents", SECRETS["agents"]))
        self.addCleanup(self.check_output, cluster)
        required: dict[str, object] = {
            "authenticate_frameworks": "true",
            "authenticate_agents": "true",
            "credentials": self.credentials,
        }
        cluster.make_master({**required, **flags})
        cluster.make_agent("a0", {"credential": self.credential})
        return cluster

    async def begin(self, **flags: object) -> Cluster:
        """Start a cluster, and wait until it is there."""
        cluster = self.prepare(**flags)
        cluster.master.start()
        cluster.agent.start()
        await cluster.master.ready()
        await cluster.registered()
        return cluster

    def check_output(self, cluster: Cluster) -> None:
        """No secret is in anything that the daemons and tasks have written."""
        planted = [*SECRETS.values(), WRONG]
        for directory, _, names in os.walk(cluster.directory):
            for path in (Path(directory, name) for name in names):
                content = b""
                with contextlib.suppress(
                    OSError
                ):  # the daemons run, and remove what they need no more
                    if path.is_file() and path.suffix != ".json":
                        content = path.read_bytes()
                for secret in planted:
                    self.assertNotIn(secret.encode(), content, f"{secret} is in {path}")

    def framework(self, cluster: Cluster, secret: str | None, **more: Any) -> Framework:
        framework = Framework(
            reactor,
            cluster.master.address,
            FrameworkInfo(name="asks"),
            credential=None if secret is None else Credential("ops", secret),
            **more,
        )
        self.addCleanup(framework.stopService)
        return framework

    async def refusal(self, framework: Framework) -> AuthenticationFailed:
        """Return what it fails with."""
        failed: list[Failure] = []
        running: Deferred[Any] = framework.run()
        running.addErrback(failed.append)
        await until("the framework was refused", lambda: bool(failed))
        error = failed[0].value
        self.assertIsInstance(error, AuthenticationFailed)
        assert isinstance(error, AuthenticationFailed)
        return error

    async def test_right_secrets(self) -> None:
        cluster = await self.begin()
        ledger = cluster.framework(credential=Credential("ops", SECRETS["ops"]))
        await ledger.framework.when_subscribed()
        run = Command(
            cluster.directory / "run",
            "execute",
            f"--master={cluster.master.address}",
            "--name=t",
            "--command=true",
            "--principal=ops",
            f"--secret=file://{private(cluster.directory / 'secret.json', SECRETS['ops'])}",
        )
        self.assertEqual(await run.ended(), 0, run.output)
        state = (await asking.get(cluster.master.port, "/state"))[1]
        shown = json.loads(state)
        self.assertEqual(
            {each["principal"] for each in shown["frameworks"] + shown["completed_frameworks"]},
            {"ops"},
        )
        for port in (cluster.master.port, cluster.agent.port):
            for path in ("/state", "/flags", "/metrics/snapshot"):
                answer = (await asking.get(port, path))[1]
                for secret in SECRETS.values():
                    self.assertNotIn(secret.encode(), bytes(answer))
        self.assertIn("is 'agents'", cluster.master.log())
        self.assertIn("Authenticated by SCRAM-SHA-256", cluster.agent.log())

    async def test_agent_with_a_wrong_secret_ends(self) -> None:
        cluster = self.prepare()
        private(self.credential, credential("agents", WRONG))
        cluster.master.start()
        await cluster.master.ready()
        for principal in ("agents", "nobody"):
            private(self.credential, credential(principal, WRONG))
            cluster.agent.start()
            self.assertEqual(await cluster.agent.ended(), 1, cluster.agent.log())
        said = "mesos-agent: Master refused authentication\n"
        self.assertEqual(cluster.agent.log().count(said), 2)
        self.assertEqual((await asking.metrics(cluster.master.port))["master/slaves_active"], 0)

    async def test_framework_with_a_wrong_secret_fails(self) -> None:
        cluster = await self.begin()
        error = await self.refusal(self.framework(cluster, WRONG))
        self.assertEqual(str(error), "Master refused authentication")
        run = Command(
            cluster.directory / "run",
            "execute",
            f"--master={cluster.master.address}",
            "--name=t",
            "--command=true",
            "--principal=ops",
            f"--secret={WRONG}",
        )
        self.assertEqual(await run.ended(), 1)
        self.assertEqual(run.output, "Master refused authentication\n")

    async def test_nobody_comes_in_without(self) -> None:
        cluster = await self.begin()
        error = await self.refusal(self.framework(cluster, None))
        self.assertIn("each framework must authenticate here", str(error))
        stranger = cluster.make_agent("a1")
        stranger.start()
        await until(
            "the agent was told",
            lambda: "each agent must authenticate here" in stranger.log(),
            seen=stranger.log,
        )
        self.assertTrue(stranger.running)
        metrics = await asking.metrics(cluster.master.port)
        self.assertEqual(metrics["master/slaves_active"], 1)
        self.assertEqual(metrics["master/frameworks_active"], 0)

    async def test_cram_md5_alone(self) -> None:
        """As between Mesos' own daemons."""
        cluster = self.prepare(authenticators="tests.cluster.plugged.cram_md5_alone")
        cluster.master.start()
        cluster.agent.start()
        await cluster.master.ready()
        await cluster.registered()
        self.assertIn("Authenticated by CRAM-MD5", cluster.agent.log())
        strict = DriverSettings(
            minimum_mechanism="SCRAM-SHA-256", authentication=Patience(0.2, 0.5, 0)
        )
        framework = self.framework(cluster, SECRETS["ops"], settings=strict)
        framework.startService()
        logged: list[str] = []
        self.patch(framework._subscription, "trouble", "")
        await until(
            "it goes on without",
            lambda: "no mechanism that will do" in framework.trouble,
            seen=lambda: logged,
        )
        self.assertFalse(framework.subscribed)
        self.assertIn("authentication went wrong", cluster.master.log())

    async def test_authentication_that_is_not_required_is_taken(self) -> None:
        cluster = await self.begin(authenticate_frameworks="false", authenticate_agents="false")
        self.assertIn("is 'agents'", cluster.master.log())
        anonymous = cluster.framework("anonymous")
        await anonymous.framework.when_subscribed()
        error = await self.refusal(self.framework(cluster, WRONG))
        self.assertEqual(str(error), "Master refused authentication")

    async def test_secret_is_changed_while_all_run(self) -> None:
        cluster = await self.begin()
        private(self.credentials, credentials({**SECRETS, "new": "pl4nted-new-secret"}))
        framework = Framework(
            reactor,
            cluster.master.address,
            FrameworkInfo(name="new"),
            credential=private(
                cluster.directory / "new.json", credential("new", "pl4nted-new-secret")
            ),
        )
        self.addCleanup(framework.stopService)
        framework.startService()
        await framework.when_subscribed()
        self.assertEqual(framework.info.principal, "new")
        private(self.credentials, '{"credentials": [\n{"principal": "ops"}]}')
        again = self.framework(cluster, SECRETS["ops"])
        again.startService()
        await again.when_subscribed()
        self.assertIn(f"{self.credentials}, line 2: credential 1 must be", cluster.master.log())

    async def test_framework_names_another_principal(self) -> None:
        cluster = await self.begin()
        framework = Framework(
            reactor,
            cluster.master.address,
            FrameworkInfo(name="asks", principal="somebody"),
            credential=Credential("ops", SECRETS["ops"]),
        )
        self.addCleanup(framework.stopService)
        failed: list[Failure] = []
        framework.run().addErrback(failed.append)
        await until("it was refused", lambda: bool(failed))
        self.assertIn("'somebody' set in `FrameworkInfo`", failed[0].getErrorMessage())

    async def test_files_that_cannot_be_used_are_refused_at_the_start(self) -> None:
        cluster = self.prepare()
        bad = cluster.directory / "bad.json"
        for content, mode, why in (
            (credentials(SECRETS), 0o644, f"{bad}: others than its owner may use it (mode 0644)"),
            ('{"credentials": [\n\n7]}', 0o600, f"{bad}, line 1: credential 1 must be"),
            ('{"credentials": [\n{"principal"', 0o600, f"{bad}, line 2: no JSON"),
        ):
            private(bad, content, mode)
            cluster.master.start(credentials=bad)
            self.assertEqual(await cluster.master.ended(), 1)
            self.assertIn(f"mesos-master: --credentials: {why}", cluster.master.log())
        cluster.agent.start(credential=private(bad, "[]"))
        self.assertEqual(await cluster.agent.ended(), 1)
        self.assertIn(f"mesos-agent: --credential: {bad}, line 1", cluster.agent.log())
        os.unlink(bad)
        cluster.agent.start()
        self.assertEqual(await cluster.agent.ended(), 1)
        self.assertIn("cannot be read: No such file", cluster.agent.log())
