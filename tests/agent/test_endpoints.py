"""The agent's endpoints beside those of a recorded cluster, and what sandboxes may show."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from hypothesis import given, settings

from mesoskit.messages import internal_pb2 as internal
from mesoskit.model.attributes import parse_attributes
from mesoskit.model.resources import Resources
from mesoskit.web.verbosity import VERBOSITY
from tests.agent.bench import AGENT_ID, framework, task
from tests.agent.test_service import World
from tests.base import SynchronousTestCase
from tests.web import recorded
from tests.web.asking import Answer, ask
from tests.web.nonsense import ALLOWED, requests


class Cluster(SynchronousTestCase):
    """An agent with a running task, and a framework that has ended with a finished one."""

    def setUp(self) -> None:
        work_dir = os.path.realpath(self.mktemp())
        os.makedirs(work_dir)
        self.world = world = World(work_dir)
        attributes = tuple(parse_attributes("rack:r1;zone:z").to_message())
        flags = {"port": "25051"}
        world.options = replace(world.options, attributes=attributes, flags=flags)
        self.service = world.agent()
        self.master = master = world.register(self.service)
        ended = framework(name="ended")
        ended.id.value = "m-0001"
        world.send(master, internal.RunTaskMessage(framework=ended, task=task("done", "exit 0")))
        world.acknowledge(master)
        info = framework(name="running", role="r1", failover_timeout=100.0)
        message = internal.RunTaskMessage(framework=info, task=task("run-1", "sleep 1000"))
        message.task.labels.labels.add(key="a", value="b")
        message.task.discovery.visibility = 1  # type: ignore[assignment]
        message.task.discovery.name = "svc"
        message.task.discovery.ports.ports.add(number=31005, name="http", protocol="tcp")
        ports = Resources.parse("ports:[31005-31006]").allocated("r1").to_message()
        message.task.resources.extend(ports)
        world.send(master, message)
        world.turn(16)
        ((container, spec),) = (
            (name, one)
            for name, one in world.launcher.specs.items()
            if name in world.launcher.running
        )
        self.sandbox = Path(spec.sandbox)
        (self.sandbox / "stdout").write_text("started\n")
        (self.sandbox / "stderr").write_text("x" * 521)
        self.names = {
            "framework": info.id.value,
            "agent": AGENT_ID,
            "container": container,
            "runs": str(self.sandbox.parent),
        }

    def ask(self, request: str) -> Answer:
        return ask(self.service.port, request, self.world.turn)

    def get(self, what: str, path: str, more: str = "") -> Answer:
        return self.ask(f"GET /files/{what}?path={quote(path)}{more}")


class Recorded(Cluster):
    """Answer for answer."""

    def test_answers_are_as_recorded(self) -> None:
        for row in recorded.rows("agent"):
            path: str = row["path"]
            if ".json" in path and row["status"] == 404:
                continue
            for name, value in self.names.items():
                path = path.replace(f"{{{name}}}", value)
            answer = self.ask(f"{row['method']} {path}")
            wrong = recorded.compare(row, answer, self.names)
            self.assertEqual([], wrong, f"{row['method']} {path}")

    def test_old_names_with_json_are_answered_too(self) -> None:
        for path in ("/state.json", "/slave(1)/state.json", "/monitor/statistics.json"):
            self.assertEqual(200, self.ask(f"GET {path}").status)
        self.assertEqual(
            {"data": "started\n", "offset": 0},
            self.ask(f"GET /files/read.json?path={self.sandbox}/stdout&offset=0").json(),
        )

    def test_state(self) -> None:
        view = self.ask("GET /state").json()
        (running,), (ended,) = view["frameworks"], view["completed_frameworks"]
        (executor,) = running["executors"]
        self.assertEqual(
            "Command Executor (Task: run-1) (Command: sh -c 'sleep 1000')", executor["name"]
        )
        self.assertEqual(str(self.sandbox), executor["directory"])
        self.assertEqual("[31005-31006]", executor["resources"]["ports"])
        self.assertEqual(["TASK_RUNNING"], [one["state"] for one in executor["tasks"]])
        (executor,) = ended["completed_executors"]
        self.assertEqual(["done"], [one["id"] for one in executor["completed_tasks"]])
        self.assertEqual({"port": "25051"}, view["flags"])

    def test_figures_are_read_when_they_are_asked_for(self) -> None:
        (one,) = self.ask("GET /containers").json()
        self.assertEqual(1, one["statistics"]["processes"])
        self.service.state.usage.clear()
        (one,) = self.ask("GET /containers?container_id=" + self.names["container"]).json()
        self.assertEqual(1, one["statistics"]["processes"])
        self.assertEqual([], self.ask("GET /containers?container_id=another").json())

    def test_what_is_being_done_for_containers(self) -> None:
        self.assertEqual({"pending": []}, self.ask("GET /containerizer/debug").json())
        self.patch(self.service.hands, "pending", lambda: [("c", "fetch")])
        self.assertEqual(
            {"pending": [{"operation": "fetch", "args": {"containerId": "c"}}]},
            self.ask("GET /slave(1)/containerizer/debug").json(),
        )

    def test_containers_can_be_picked_by_framework_and_executor(self) -> None:
        framework_id = self.names["framework"]
        for query, count in (
            (f"framework_id={framework_id}", 1),
            ("framework_id=another", 0),
            (f"framework_id={framework_id}&executor_id=run-1", 1),
            (f"framework_id={framework_id}&executor_id=another", 0),
        ):
            self.assertEqual(count, len(self.ask(f"GET /containers?{query}").json()), query)
        for query in ("executor_id=run-1", "container_id=c&framework_id=f"):
            answer = self.ask(f"GET /containers?{query}")
            self.assertEqual(400, answer.status, query)
            self.assertIn(b"Supported query parameters are container_id only", answer.body)


class Files(Cluster):
    """Nothing outside what is attached can be read, and nothing keeps the agent waiting."""

    def test_what_was_finished_is_there_until_it_is_collected(self) -> None:
        view = self.ask("GET /state").json()
        (executor,) = view["completed_frameworks"][0]["completed_executors"]
        directory = executor["directory"]
        Path(directory, "stdout").write_text("over")
        latest = "/frameworks/m-0001/executors/done/runs/latest"
        for path in (directory, latest, f"{os.path.dirname(directory)}/latest"):
            answer = self.get("read", f"{path}/stdout", "&offset=0")
            self.assertEqual({"data": "over", "offset": 0}, answer.json(), path)
        self.assertEqual(directory, self.ask("GET /files/debug").json()[latest])
        self.world.turn(8 * 24 * 3600)
        self.assertEqual(404, self.get("browse", directory).status)
        self.assertNotIn(latest, self.ask("GET /files/debug").json())

    def test_nothing_else_of_the_machine_can_be_read(self) -> None:
        secret = Path(self.world.options.work_dir) / "secret"
        secret.write_text("secret")
        inside = str(self.sandbox)
        deep = "../" * 30
        for path in (
            "/etc/passwd",
            str(secret),
            self.world.options.work_dir,
            f"{inside}/{deep}etc/passwd",
            f"{inside}/..",
            f"{inside}/../latest/../../../../../../../../secret",
            f"{inside}/stdout/../../..",
            f"//{inside}/../../../../../../../secret",
            "/frameworks/../../secret",
            "/frameworks/m-0000/executors/../runs/latest",
            "/frameworks/m-0000/executors/run-1/runs/..",
            f"{inside}x",
            inside + "\0/etc/passwd",
            "a" * 10_000,
        ):
            for what in ("read", "browse", "download"):
                for name in (path, quote(path, safe="")):
                    answer = self.get(what, name, "&offset=0")
                    self.assertIn(answer.status, (400, 404), (what, path))
                    self.assertNotIn(b"secret\n", answer.body)
                    self.assertNotIn(b"root:", answer.body)

    def test_links_are_followed_inside_only(self) -> None:
        links = {
            "inside": "stdout",
            "absolute": f"{self.sandbox}/stdout",
            "up": "dir/../stdout",
            "again": "inside",
            "out": "/etc/passwd",
            "above": "../../../../../../../../../../etc/passwd",
            "root": "/",
            "round": "round",
            "self": "/proc/self/environ",
            "brother": f"{self.sandbox}x/stdout",
        }
        (self.sandbox / "dir").mkdir()
        for name, target in links.items():
            (self.sandbox / name).symlink_to(target)
        for name in ("inside", "absolute", "up", "again"):
            answer = self.get("read", f"{self.sandbox}/{name}", "&offset=0")
            self.assertEqual("started\n", answer.json()["data"], name)
        for name in ("out", "above", "root", "round", "self", "brother", "root/etc/passwd"):
            for what in ("read", "download", "browse"):
                answer = self.get(what, f"{self.sandbox}/{name}", "&offset=0")
                self.assertIn(answer.status, (400, 404), (what, name))
        shown = {Path(one["path"]).name for one in self.get("browse", str(self.sandbox)).json()}
        self.assertEqual({"stdout", "stderr", "dir", "inside", "absolute", "up", "again"}, shown)

    def test_pipes_and_devices_are_not_opened(self) -> None:
        os.mkfifo(self.sandbox / "pipe")
        for what in ("read", "download"):
            answer = self.get(what, f"{self.sandbox}/pipe", "&offset=0")
            self.assertEqual(
                (400, f"'{self.sandbox}/pipe' is inaccessible.\n"),
                (answer.status, answer.body.decode()),
            )

    def test_a_read_is_bounded(self) -> None:
        (self.sandbox / "big").write_bytes(b"b" * 300_000)
        for more in ("&offset=0", "&offset=0&length=999999999", "&offset=0&length=-1"):
            shown = self.get("read", f"{self.sandbox}/big", more).json()
            self.assertEqual(64 * 1024, len(shown["data"]))
        shown = self.get("read", f"{self.sandbox}/big", "&offset=299999").json()
        self.assertEqual({"data": "b", "offset": 299999}, shown)

    def test_a_character_is_not_torn(self) -> None:
        (self.sandbox / "text").write_text("äö")
        shown = self.get("read", f"{self.sandbox}/text", "&offset=0&length=3").json()
        self.assertEqual("ä", shown["data"])
        (self.sandbox / "text").write_bytes(b"\xff\xfe")
        shown = self.get("read", f"{self.sandbox}/text", "&offset=0").json()
        self.assertEqual("\ufffd\ufffd", shown["data"])

    def test_a_download_is_whole(self) -> None:
        data = os.urandom(1_000_000)
        (self.sandbox / 'no "name').write_bytes(data)
        answer = self.get("download", f'{self.sandbox}/no "name')
        self.assertEqual(data, answer.body)
        self.assertEqual(
            "attachment; filename=no__name; filename*=UTF-8''no%20%22name",
            answer.headers["content-disposition"],
        )
        (self.sandbox / "empty").touch()
        answer = self.get("download", f"{self.sandbox}/empty")
        self.assertEqual((200, "0", b""), (answer.status, answer.headers["content-length"], b""))

    def test_no_descriptor_is_left_open(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for name in ("stdout", "nosuch", "", "..") * 5:
            for what in ("download", "read", "browse"):
                self.get(what, f"{self.sandbox}/{name}", "&offset=0")
        self.assertEqual(before, len(os.listdir("/proc/self/fd")))


class Nonsense(Cluster):
    """Whatever is asked, an answer or nothing, and the daemon goes on."""

    @settings(max_examples=200, deadline=None, database=None)
    @given(request=requests)
    def test_it_is_answered_or_refused(self, request: str) -> None:
        # Logging is the process' own.
        self.addCleanup(VERBOSITY.set, 0, 0.0, self.world.reactor)
        self.assertIn(self.ask(request).status, ALLOWED, request)
        self.assertEqual(200, self.ask("GET /health").status)
