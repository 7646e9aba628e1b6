"""Messages in a line, and amounts out of offers."""

from __future__ import annotations

from math import inf, nan
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.driver import (
    ExecutorInfo,
    NotEnough,
    Resources,
    command_info,
    command_task,
    create,
    destroy,
    executor_info,
    launch_group,
    reserve,
    resources,
    task,
    unreserve,
)
from mesoskit.driver.masters import NoLeader, _locator
from mesoskit.driver.offers import Offer
from mesoskit.driver.packing import take
from mesoskit.messages.mesos_pb2 import CommandInfo
from mesoskit.messages.mesos_pb2 import Offer as OfferMessage
from mesoskit.wire.endpoints import EndpointError
from tests.base import SynchronousTestCase


class BuilderTests(SynchronousTestCase):
    """Each says what its arguments say, in Mesos' words."""

    def test_resources(self) -> None:
        cpus, ports = resources(cpus=0.5, ports=[(31000, 31001)])
        self.assertEqual((cpus.name, cpus.scalar.value), ("cpus", 0.5))
        self.assertEqual(ports.ranges.range[0].end, 31001)

    def test_command_for_a_shell(self) -> None:
        info = command_task(
            "hello",
            "echo $WHO",
            environment={"WHO": "you"},
            uris=["http://127.0.0.1/a.tgz", CommandInfo.URI(value="/b", executable=True)],
            user="alice",
            label={"k": "v"},
            kill_grace=2,
        )
        command = info.command
        self.assertEqual((command.shell, command.value, command.user), (True, "echo $WHO", "alice"))
        self.assertEqual(command.environment.variables[0].value, "you")
        self.assertEqual([each.value for each in command.uris], ["http://127.0.0.1/a.tgz", "/b"])
        self.assertEqual(str(Resources.from_message(info.resources)), "cpus:0.1; mem:32")
        self.assertEqual(info.labels.labels[0].key, "k")
        self.assertEqual(info.kill_policy.grace_period.nanoseconds, 2_000_000_000)

    def test_command_without_a_shell(self) -> None:
        info = command_info(["/bin/echo", "$HOME"])
        self.assertEqual((info.shell, info.value), (False, "/bin/echo"))
        self.assertEqual(list(info.arguments), ["/bin/echo", "$HOME"])

    def test_ids_differ(self) -> None:
        first, second = command_task("t", "true"), command_task("t", "true")
        self.assertNotEqual(first.task_id.value, second.task_id.value)
        self.assertTrue(first.task_id.value.startswith("t."))

    def test_task_of_an_executor(self) -> None:
        executor = executor_info("e", "python e.py", name="mine", data=b"1", shutdown_grace=3)
        info = task("t", id="t1", executor=executor, amounts="cpus:2;mem:5", data=b"2")
        self.assertEqual((info.task_id.value, info.data), ("t1", b"2"))
        self.assertEqual(info.executor.type, ExecutorInfo.CUSTOM)
        self.assertEqual((info.executor.name, info.executor.data), ("mine", b"1"))
        self.assertEqual(info.executor.shutdown_grace_period.nanoseconds, 3_000_000_000)
        self.assertEqual(str(Resources.from_message(info.resources)), "cpus:2; mem:5")

    def test_executor_of_the_agent_has_the_disk_that_it_must_have(self) -> None:
        pod = executor_info("pod")
        self.assertEqual(pod.type, ExecutorInfo.DEFAULT)
        self.assertEqual(str(Resources.from_message(pod.resources)), "cpus:0.1; mem:32; disk:32")

    def test_operations(self) -> None:
        reserved = Resources.parse("disk(role):5")
        kinds = [each(reserved).type for each in (reserve, unreserve, create, destroy)]
        self.assertEqual(kinds, [2, 3, 4, 5])
        group = launch_group(executor_info("pod"), [command_task("t", "true")])
        self.assertEqual(group.type, 6)


class PackingTests(SynchronousTestCase):
    """Amounts out of what is offered."""

    def offer(self, text: str) -> Offer:
        message = OfferMessage(hostname="h", resources=Resources.parse(text).to_message())
        message.id.value = message.agent_id.value = message.framework_id.value = "x"
        offer = Offer(message, None)  # type: ignore[arg-type]
        offer.fate = "it is a test's"
        return offer

    def test_pieces_do_not_overlap(self) -> None:
        offer = self.offer("cpus:2;mem:100;ports:[5-6, 8-9]")
        first = offer.take(cpus=0.5, ports=3)
        second = offer.take(cpus=1.5, ports=1)
        self.assertEqual(str(first), "cpus:0.5; ports:[5-6, 8-8]")
        self.assertEqual(str(second), "cpus:1.5; ports:[9-9]")
        self.assertEqual(str(offer.remaining), "mem:100")

    def test_reserved_ones_first(self) -> None:
        offer = self.offer("cpus:1;cpus(role):1")
        self.assertEqual(
            {key.role: value for key, value in offer.take(cpus=1.5)}, {"role": 1000, "*": 500}
        )

    def test_not_enough(self) -> None:
        offer = self.offer("cpus:1;ports:[5-5]")
        with self.assertRaisesRegex(NotEnough, r"1\.5 cpus are wanted, and 1 are left"):
            offer.take(cpus=1.5)
        with self.assertRaisesRegex(NotEnough, "2 ports are wanted, and 1 are left"):
            offer.take(cpus=1, ports=2)
        self.assertEqual(str(offer.remaining), str(offer.resources))

    @given(
        st.lists(st.sampled_from(["cpus:1.5", "cpus(a):2", "mem:64", "cpus(b):0.25"]), max_size=5),
        st.integers(0, 8000),
    )
    def test_what_is_taken_was_there_and_is_as_much_as_wanted(
        self, parts: list[str], wanted: int
    ) -> None:
        offered = Resources.sum([Resources.parse(each) for each in parts])
        try:
            taken = take(offered, cpus=wanted / 1000)
        except NotEnough:
            self.assertLess(offered.scalar("cpus"), wanted)
        else:
            self.assertTrue(offered.contains(taken))
            self.assertEqual((taken.scalar("cpus"), taken.scalar("mem")), (wanted, 0))


class AmountTests(SynchronousTestCase):
    """What a task may want."""

    def test_what_is_no_amount_is_refused_by_name(self) -> None:
        for name, amount in (("mem", -1.0), ("cpus", nan), ("disk", inf)):
            wanted: dict[str, Any] = {name: amount}
            for make in (task, executor_info):
                error = self.assertRaises(ValueError, make, "t", **wanted)
                self.assertIn(f"{name}={amount}: expected a finite amount", str(error))


class MasterTests(SynchronousTestCase):
    """Where the master is."""

    def test_detector_is_asked(self) -> None:
        from twisted.internet.defer import succeed

        class Detector:
            leader: str | None = "127.0.0.1:5050"

            def detect(self, previous: str | None) -> Any:
                return succeed(self.leader)

        detector = Detector()
        locate = _locator(detector, lambda place: None)
        self.assertEqual(self.successResultOf(locate()), "127.0.0.1:5050")
        detector.leader = None
        self.failureResultOf(locate(), NoLeader)

    def test_address_that_needs_a_detector(self) -> None:
        with self.assertRaisesRegex(EndpointError, "a detector is needed"):
            _locator("zk://127.0.0.1:2181/mesos", lambda place: None)
