"""The samples of conf/ together, as they stand: credentials, ACLs, TLS and limits."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from mesoskit.driver import TLS, AuthenticationFailed, Credential, Framework, FrameworkInfo
from mesoskit.testing.certificates import make
from tests.cluster.harness import Cluster, ClusterTestCase
from tests.cluster.test_tls import run
from tests.cluster.waiting import reactor, until

CONF = Path(__file__).parents[2] / "conf"


class SampleTests(ClusterTestCase):
    """A cluster that trusts nobody."""

    timeout = 600

    def install(self, cluster: Cluster) -> Path:
        """Do what conf/README.md says, with another directory for /etc/mesoskit."""
        etc = cluster.directory / "etc"
        make(etc)
        for path in (CONF / "auth").glob("*.json"):
            shutil.copy(path, etc)
            (etc / path.name).chmod(0o600)
        for path in (CONF / "limits").glob("*.json"):
            shutil.copy(path, etc)
        key = etc / "jwt-key"
        key.write_text(secrets.token_hex(32))
        key.chmod(0o600)
        return etc

    def flags(self, daemon: str, etc: Path) -> dict[str, object]:
        """Return what the samples say for a daemon, as flags."""
        given: dict[str, object] = {}
        for path in CONF.glob(f"*/mesos-{daemon}.env.more"):
            for line in path.read_text().splitlines():
                if line and not line.startswith("#"):
                    name, _, value = line.partition("=")
                    name = name.removeprefix("MESOS_").lower()
                    given[name] = value.replace("/etc/mesoskit", str(etc))
        return given

    async def test_who_is_known_gets_in_and_nobody_else(self) -> None:
        cluster = self.cluster()
        etc = self.install(cluster)
        cluster.make_master(self.flags("master", etc)).start()
        cluster.make_agent("a0", self.flags("agent", etc)).start()
        ours = TLS(
            ca_file=etc / "ca.pem",
            cert_file=etc / "client.pem",
            key_file=etc / "client-key.pem",
        )
        known = json.loads((etc / "credentials.json").read_text())["credentials"]
        ops = next(each["secret"] for each in known if each["principal"] == "ops")
        user = "nobody" if os.geteuid() == 0 else ""
        ledger = cluster.framework(
            "known",
            credential=Credential("ops", ops),
            tls=ours,
            fields={"user": user} if user else {},
        )
        await ledger.framework.when_subscribed()
        await ledger.run("t", "true")
        await ledger.over("t")
        self.assertEqual(ledger.states("t")[-1], "TASK_FINISHED", ledger.story("t"))

        stranger = Framework(
            reactor, cluster.master.address, FrameworkInfo(name="stranger"), tls=ours
        )
        self.addCleanup(stranger.stopService)
        failed: list[Any] = []
        stranger.run().addErrback(lambda reason: failed.append(reason.value))
        await until("the stranger is refused", lambda: bool(failed), seen=cluster.logs)
        self.assertIsInstance(failed[0], AuthenticationFailed)
        await self.check_http(cluster, etc, f"ops:{ops}")

    async def check_http(self, cluster: Cluster, etc: Path, proof: str) -> None:
        """Over HTTP both are asked for: a certificate, and who one is."""
        where = f"https://127.0.0.1:{cluster.master.port}/state"
        shown = ("--cert", str(etc / "client.pem"), "--key", str(etc / "client-key.pem"))
        asked = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert")
        for more, status in (
            ((), b"000"),
            (shown, b"401"),
            ((*shown, "-u", proof), b"200"),
        ):
            got = await run(*asked, str(etc / "ca.pem"), *more, where)
            self.assertEqual(got.stdout, status)
