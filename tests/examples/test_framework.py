"""The image framework on a cluster without a reactor: what it launches, and what it makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater

from mesoskit.driver import Executor, TaskInfo
from mesoskit.testing.cluster import TestCluster
from tests.base import SynchronousTestCase
from tests.examples.loading import load_beside

framework = load_beside("images/framework.py")


class Case(SynchronousTestCase):
    """Inverts images of which nobody looks at the pixels."""

    def start(self, names: list[str], work: Any = None, **cluster: Any) -> Deferred[None]:
        """Begin; C{self.inverter} is the framework's part."""
        self.tasks: list[dict[str, str]] = []
        case = self

        class Double(Executor):
            def launch(self, driver: Any, task: TaskInfo) -> Any:
                data = json.loads(task.data)
                case.tasks.append(data)
                return succeed(b"done") if work is None else work(data)

        self.cluster = TestCluster(
            **{"agents": 3, "resources": "cpus:1.5;mem:512", **cluster},
            executors={"inverter": Double},
        )
        self.addCleanup(self.cluster.stop)
        self.lines: list[str] = []
        self.inverter = framework.ImageInverter(
            self.cluster.framework(),
            [Path("pictures", name) for name in names],
            Path("results"),
            "http://127.0.0.1:1234",
            lambda inverter: self.lines.append(framework.progress(inverter, 10)),
            self.cluster.network.seconds,
        )
        return Deferred.fromCoroutine(self.inverter.run())

    def invert(self, names: list[str], work: Any = None, **cluster: Any) -> dict[str, str]:
        """Run to the end; returns the state of each image."""
        self.cluster_wait(self.start(names, work, **cluster))
        return {job.image.name: job.state for job in self.inverter.jobs}

    def cluster_wait(self, waited: Deferred[None]) -> None:
        self.cluster.wait(waited, 300)


class InverterTests(Case):
    """Tasks, offers and ends."""

    def test_every_image_is_inverted_once(self) -> None:
        names = [f"{number}.jpg" for number in range(9)]
        states = self.invert(names)
        self.assertEqual(states, dict.fromkeys(names, "TASK_FINISHED"))
        self.assertEqual(
            sorted(task["name"] for task in self.tasks), [f"{n}_inverted.jpg" for n in range(9)]
        )
        self.assertEqual({job.message for job in self.inverter.jobs}, {"done"})

    def test_task_says_where_its_image_is(self) -> None:
        self.invert(["a b.png"])
        self.assertEqual(
            self.tasks,
            [
                {
                    "image": "http://127.0.0.1:1234/images/a%20b.png",
                    "upload": "http://127.0.0.1:1234/upload",
                    "name": "a b_inverted.png",
                }
            ],
        )

    def test_all_agents_take_part(self) -> None:
        self.invert([f"{number}.jpg" for number in range(6)])
        hosts = {job.hostname for job in self.inverter.jobs}
        self.assertEqual(hosts, {"agent0.test", "agent1.test", "agent2.test"})

    def test_more_images_than_room_come_in_turns(self) -> None:
        def slow(_: Any) -> Deferred[bytes]:
            return deferLater(self.cluster.agents[0].host, 1.0, lambda: b"done")

        states = self.invert([f"{number}.jpg" for number in range(7)], slow, agents=1)
        self.assertEqual(set(states.values()), {"TASK_FINISHED"})
        self.assertTrue(all(line.count("under way") == 1 for line in self.lines))
        self.assertFalse(any("3 under way" in line for line in self.lines))

    def test_bad_image_fails_with_its_reason(self) -> None:
        def work(data: dict[str, str]) -> Deferred[bytes]:
            if "bad" in data["name"]:
                return fail(ValueError("cannot identify image file"))
            return succeed(b"done")

        states = self.invert(["good.jpg", "bad.jpg"], work)
        self.assertEqual(states, {"good.jpg": "TASK_FINISHED", "bad.jpg": "TASK_FAILED"})
        self.assertIn("cannot identify image file", self.inverter.jobs[1].message)
        # The executor's own log has it as well.
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(len(self.tasks), 2)

    def test_agent_that_dies_has_its_image_done_elsewhere(self) -> None:
        hanging: list[Deferred[bytes]] = []

        def work(data: dict[str, str]) -> Deferred[bytes]:
            if not hanging:
                hanging.append(Deferred())
                return hanging[0]
            return succeed(b"done")

        run = self.start(["a.jpg"], work, agents=2)
        for _ in range(100):
            if hanging:
                break
            self.cluster.advance(0.1)
        [agent] = [
            each for each in self.cluster.agents if each.hostname == self.inverter.jobs[0].hostname
        ]
        agent.kill()
        self.cluster_wait(run)
        self.assertEqual(self.inverter.jobs[0].state, "TASK_FINISHED")
        self.assertNotEqual(self.inverter.jobs[0].hostname, agent.hostname)

    def test_offers_without_room_are_declined(self) -> None:
        run = self.start(["a.jpg"], resources="cpus:0.5;mem:512")
        self.cluster.advance(30)
        self.assertEqual(self.tasks, [])
        run.cancel()
        self.failureResultOf(run)

    def test_progress_is_drawn(self) -> None:
        self.invert([f"{number}.jpg" for number in range(4)])
        self.assertEqual(self.lines[-1], "[██████████] 4 of 4 tasks finished, 0 under way")
        self.assertTrue(self.lines[0].startswith("[··········] 0 of 4"))
