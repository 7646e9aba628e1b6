"""A cluster that trusts nobody, with secrets of every kind: who comes in, and where none may be."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import sys
from pathlib import Path

from mesoskit.driver import Credential, TaskInfo, TaskState, command_task, executor_info, task
from mesoskit.messages.mesos_pb2 import CommandInfo, Secret
from mesoskit.testing.certificates import make
from tests.cluster import asking
from tests.cluster.harness import Cluster, ClusterTestCase
from tests.cluster.test_authentication import credential, credentials, private
from tests.cluster.waiting import until

SCRIPT = Path(__file__).with_name("token_executor.py")
SECRETS = {
    "agents": "pl4nted-agent-secret",
    "ops": "pl4nted-ops-secret",
    "web": "pl4nted:web:secret",
}
TASK_SECRET = "pl4nted-task-secret"
KEY = "pl4nted-key-of-the-tokens-of-executors"
WRONG = "pl4nted-wrong-secret"


def basic(principal: str, secret: str) -> str:
    """Return an C{Authorization} header."""
    return "Basic " + base64.b64encode(f"{principal}:{secret}".encode()).decode()


def give(command: CommandInfo) -> None:
    """Let a command find the task's secret in its environment."""
    variable = command.environment.variables.add(name="PASSWORD", type=2)
    variable.secret.type = Secret.VALUE
    variable.secret.value.data = TASK_SECRET.encode()


class SecretsTests(ClusterTestCase):
    """All that there is of authentication, at once."""

    timeout = 600

    async def begin(self) -> Cluster:
        cluster = self.cluster()
        where = self.where = cluster.directory / "secret"
        where.mkdir(mode=0o755)
        make(where)
        tls: dict[str, object] = {
            "tls_cert_file": where / "server.pem",
            "tls_key_file": where / "server-key.pem",
            "tls_ca_file": where / "ca.pem",
            "tls_support_downgrade": "true",
        }
        known = private(where / "credentials.json", credentials(SECRETS))
        asked: dict[str, object] = {
            "authenticate_http_readonly": "true",
            "authenticate_http_readwrite": "true",
            **tls,
        }
        cluster.authorization = basic("web", SECRETS["web"])
        master: dict[str, object] = {
            **asked,
            "authenticate_agents": "true",
            "authenticate_frameworks": "true",
            "authenticate_http_frameworks": "true",
            "http_framework_authenticators": "basic",
            "credentials": known,
        }
        agent: dict[str, object] = {
            **asked,
            "credential": private(where / "agent.json", credential("agents", SECRETS["agents"])),
            "http_credentials": known,
            "authenticate_http_executors": "true",
            "jwt_secret_key": private(where / "key", KEY),
        }
        await cluster.start(1, master, agent)
        return cluster

    async def test_no_secret_is_anywhere(self) -> None:
        cluster = await self.begin()
        ledger = cluster.framework(credential=Credential("ops", SECRETS["ops"]))
        plain = command_task("plain", 'printf %s "$PASSWORD" | sha256sum >digest; sleep 1000')
        plain.task_id.value = "plain"
        give(plain.command)
        await ledger.launch(plain, self.task_over_http())
        over = await ledger.over("http")
        self.assertEqual(TaskState.TASK_FINISHED, over.state, over)
        tried, seen = json.loads(over.data)
        digest = hashlib.sha256(TASK_SECRET.encode()).hexdigest()
        self.assertEqual(([401, 401, 200], digest), (tried, seen))
        await ledger.until("plain", TaskState.TASK_RUNNING)
        found = cluster.agent.sandbox(ledger.id, "plain") / "digest"
        await until("the task saw it", lambda: found.exists() and found.read_text()[:64] == digest)
        self.tokens = self.tokens_of_executor(cluster)
        await self.ask_everything(cluster)
        self.check_processes(cluster)
        self.check_files(cluster)

    def task_over_http(self) -> TaskInfo:
        """Return a task of the executor over HTTP."""
        command = f"exec {shlex.quote(sys.executable)} {shlex.quote(str(SCRIPT))}"
        executor = executor_info("e", command)
        give(executor.command)
        return task("http", id="http", executor=executor, cpus=0.1, mem=32.0)

    def tokens_of_executor(self, cluster: Cluster) -> list[bytes]:
        """Return what the executor over HTTP was given to prove itself by."""
        (pid,) = (
            pid
            for pid in cluster.running()
            if SCRIPT.name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        tokens = [one.partition(b"=")[2] for one in variables if b"_TOKEN=" in one]
        self.assertEqual(2, len(tokens))
        return tokens

    async def ask_everything(self, cluster: Cluster) -> None:
        """Whoever may ask sees no secret, and whoever may not sees nothing."""
        shown = cluster.authorization
        bodies = []
        for port in (cluster.master.port, cluster.agent.port):
            names = json.loads((await asking.get(port, "/help?format=json"))[1])
            paths = [
                f"/{process['id']}{endpoint['name']}".rstrip("/")
                for process in names["processes"]
                for endpoint in process["endpoints"]
            ]
            self.assertGreater(len(paths), 12)
            for path in paths:
                status, body = await asking.get(port, path)
                if path.split("/")[1] not in ("health", "version", "help", "system"):
                    self.assertIn(status, (200, 307, 401, 404), path)
                bodies.append(body)
                if "logging" not in path:
                    bodies.append((await asking.get(port, path, authorization=shown))[1])
            for path in ("/state", "/metrics/snapshot", "/flags"):
                self.assertEqual(401, (await asking.get(port, path))[0])
                wrong = basic("web", WRONG)
                self.assertEqual(401, (await asking.get(port, path, authorization=wrong))[0])
                self.assertEqual(200, (await asking.get(port, path, authorization=shown))[0])
            for name in ("GET_STATE", "GET_EXECUTORS", "GET_TASKS", "GET_FLAGS"):
                answer = await self.call(port, name, shown)
                self.assertIn(b"200 OK", answer)
                bodies.append(answer)
        # What there is to be seen is in there.
        self.assertTrue(any(b"PASSWORD" in body for body in bodies))
        for planted in self.planted():
            for body in bodies:
                self.assertNotIn(planted, body)

    async def call(self, port: int, name: str, shown: str) -> bytes:
        """Return the answer to a call of an operator."""
        body = json.dumps({"type": name})
        head = (
            f"POST /api/v1 HTTP/1.0\r\nHost: x\r\nAuthorization: {shown}\r\n"
            "Content-Type: application/json\r\nAccept: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return await asking.exchange(port, (head + body).encode())

    def planted(self) -> list[bytes]:
        """Return all secrets, in the forms that they may be met in."""
        texts = [*SECRETS.values(), TASK_SECRET, KEY, WRONG]
        key = (self.where / "server-key.pem").read_text().splitlines()[1]
        said = [text.encode() for text in texts]
        coded = [base64.b64encode(text)[:-4] for text in said]
        headers = [basic("web", SECRETS["web"])[6:].encode()]
        return [*said, *coded, *headers, key.encode(), *self.tokens]

    def check_processes(self, cluster: Cluster) -> None:
        """No secret is in the arguments of a process; others cannot read environments."""
        for pid in cluster.running():
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            for planted in self.planted():
                self.assertNotIn(planted, arguments)

    def check_files(self, cluster: Cluster) -> None:
        """No secret is in a file that others can read, and in no log at all."""
        for path in cluster.directory.rglob("*"):
            if not path.is_file() or path.is_symlink() or self.where in path.parents:
                continue
            content = path.read_bytes()
            for planted in self.planted():
                if planted in content:
                    self.assertIn("checkpoints.sqlite", path.name, f"{planted!r} is in {path}")
                    self.assertEqual(0, path.stat().st_mode & 0o077, path)
