"""Who may do what in a cluster of processes: by ACLs, at every daemon, whichever way one comes."""

from __future__ import annotations

import getpass
import json
import os
import pwd
from typing import Any
from urllib.parse import quote

from mesoskit.driver import Credential
from mesoskit.messages.mesos_pb2 import FrameworkInfo
from mesoskit.model.tasks import Reason
from tests.cluster import asking
from tests.cluster.harness import Cluster, ClusterTestCase
from tests.cluster.test_authentication import credential, credentials, private
from tests.cluster.test_secrets import basic
from tests.cluster.waiting import until

SECRETS = {name: f"{name}-secret" for name in ("agents", "web", "viewer", "stranger", "ops")}

#: Whom the tests' own user is not, and the machine has.
OTHER = next(one.pw_name for one in pwd.getpwall() if one.pw_uid not in (0, os.getuid()))


def acls(user: str) -> dict[str, Any]:
    """Return what C{web} may do as C{user}, and who may see it."""

    def who(*names: str) -> dict[str, Any]:
        return {"values": list(names)}

    every = {"type": "ANY"}
    seen = [{"principals": who("viewer", "ops"), "users": every}]
    return {
        "permissive": False,
        "register_agents": [{"principals": who("agents"), "agents": every}],
        "register_frameworks": [{"principals": who("web"), "roles": who("web", "web/%")}],
        "run_tasks": [{"principals": who("web"), "users": who(user)}],
        "view_frameworks": seen,
        "view_tasks": seen,
        "view_executors": seen,
        "access_sandboxes": [{"principals": who("ops"), "users": every}],
        "get_endpoints": [{"principals": who("ops"), "paths": every}],
        "view_flags": [{"principals": who("ops"), "flags": every}],
    }


class AuthorizationTests(ClusterTestCase):
    """Daemons that allow nothing but what is said."""

    timeout = 600

    async def begin(self) -> Cluster:
        cluster = self.cluster()
        directory = cluster.directory
        told = private(directory / "credentials.json", credentials(SECRETS))
        own = private(directory / "agent.json", credential("agents", SECRETS["agents"]))
        rules = directory / "acls.json"
        rules.write_text(json.dumps(acls(getpass.getuser()), indent=2))
        http = {
            "authenticate_http_readonly": "true",
            "authenticate_http_readwrite": "true",
            "acls": rules,
        }
        cluster.make_master(
            {
                "authenticate_frameworks": "true",
                "authenticate_agents": "true",
                "credentials": told,
                **http,
            }
        )
        cluster.make_agent("a0", {"credential": own, "http_credentials": told, **http})
        cluster.authorization = basic("ops", SECRETS["ops"])
        cluster.master.start()
        cluster.agent.start()
        await cluster.master.ready()
        await cluster.registered()
        return cluster

    def framework(self, cluster: Cluster, principal: str, role: str) -> Any:
        info = FrameworkInfo(user=getpass.getuser(), name=f"{principal}-{role}", roles=[role])
        info.capabilities.add().type = FrameworkInfo.Capability.MULTI_ROLE
        return cluster.framework(info=info, credential=Credential(principal, SECRETS[principal]))

    async def refused(self, cluster: Cluster, principal: str, role: str) -> str:
        ledger = self.framework(cluster, principal, role)
        await until("an error", lambda: bool(ledger.errors))
        return str(ledger.errors[0])

    async def test_a_cluster_in_which_nothing_is_allowed_that_is_not_said(self) -> None:
        cluster = await self.begin()
        for principal, role in (("web", "other"), ("stranger", "web")):
            said = await self.refused(cluster, principal, role)
            self.assertIn(f"Not authorized to register framework  with roles {{ {role} }}", said)
        ledger = self.framework(cluster, "web", "web")
        await ledger.run("runs", "sleep 1000")
        await ledger.running("runs")
        other = ledger.task("other", "true")
        other.command.user = OTHER
        await ledger.launch(other)
        status = await ledger.over("other")
        self.assertEqual(status.reason, Reason.REASON_TASK_UNAUTHORIZED)
        self.assertIn(f"under user '{OTHER}'", status.message)
        self.assertEqual(ledger.states("other"), ["TASK_ERROR"])
        for port in (cluster.master.port, cluster.agent.port):
            for who, sees in (("viewer", True), ("stranger", False), ("web", False)):
                shown = await self.get(port, "/state", who)
                self.assertEqual("web-web" in json.dumps(shown), sees, (who, port))
                self.assertNotIn("flags", shown)
            for path in ("/flags", "/metrics/snapshot"):
                self.assertEqual(await self.status(port, path, "viewer"), 403, path)
                self.assertEqual(await self.status(port, path, "ops"), 200, path)
        state = await self.get(cluster.agent.port, "/state", "ops")
        directory = quote(state["frameworks"][0]["executors"][0]["directory"])
        for port in (cluster.master.port, cluster.agent.port):
            path = f"/files/browse?path={directory}"
            self.assertEqual(await self.status(port, path, "viewer"), 403)
            self.assertEqual(await self.status(port, path, "ops"), 200)

    async def get(self, port: int, path: str, who: str) -> Any:
        shown = basic(who, SECRETS[who])
        status, body = await asking.get(port, path, authorization=shown)
        self.assertEqual(status, 200)
        return json.loads(body)

    async def status(self, port: int, path: str, who: str) -> int:
        shown = basic(who, SECRETS[who])
        return (await asking.get(port, path, authorization=shown))[0]

    async def test_daemons_do_not_start_with_acls_that_are_wrong(self) -> None:
        cluster = self.cluster()
        rules = cluster.directory / "acls.json"
        rules.write_text('{\n  "permissive": false,\n  "run_task": []\n}\n')
        cluster.make_master({"acls": rules})
        cluster.master.start()
        self.assertEqual(await cluster.master.ended(), 1)
        self.assertIn(
            f"--acls: {rules}, line 3: there is no list of ACLs 'run_task': did you mean"
            " run_tasks?",
            cluster.master.log(),
        )
