"""Masters hear of executors that have ended, even where it could get lost on the way."""

from __future__ import annotations

from typing import Any

from mesoskit.agent.container import ContainerExited
from mesoskit.agent.exits import REMEMBERED, STORING
from mesoskit.messages import internal_pb2 as internal
from mesoskit.model.events import Connected, Lost, PeerKind, Store, StoreFailed
from mesoskit.model.ids import ContainerId, PeerId
from tests.agent.bench import FRAMEWORK_ID, MASTER, Bench, custom_executor, task
from tests.base import SynchronousTestCase

SECOND = PeerId(2)


class _Exits(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = Bench().register()
        self.launch()

    def launch(self, task_id: str = "t") -> None:
        self.bench.run(task(task_id, executor=custom_executor()), launch=True)

    def container(self) -> ContainerId:
        framework = self.bench.state.frameworks[FRAMEWORK_ID]  # type: ignore[index]
        return framework.executors["e"].container  # type: ignore[index]

    def end(self) -> list[Any]:
        return self.bench.give(ContainerExited(self.container(), 256))

    def told(self) -> list[tuple[str, int]]:
        found = [one for one in self.bench.sent if isinstance(one, internal.ExitedExecutorMessage)]
        return [(one.executor_id.value, one.status) for one in found]


class WhileRegistering(_Exits):
    """An executor ends when a registration that names it is on its way."""

    def setUp(self) -> None:
        super().setUp()
        self.bench.give(Lost(MASTER))
        self.bench.clear()
        self.bench.give(Connected(SECOND, PeerKind.MASTER, "127.0.0.1:5050"))
        self.bench.wait(1.5)
        (message,) = self.bench.sent
        self.assertEqual(["e"], [one.executor_id.value for one in message.executor_infos])
        self.bench.clear()

    def accept(self) -> None:
        message = internal.SlaveReregisteredMessage()
        message.slave_id.value = self.bench.state.agent_id
        self.bench.receive(message, SECOND)

    def test_master_is_told_when_it_has_answered(self) -> None:
        self.end()
        self.assertEqual([], self.told())
        self.accept()
        self.assertEqual([("e", 256)], self.told())

    def test_and_not_again(self) -> None:
        self.end()
        self.accept()
        self.bench.clear()
        self.accept()
        self.assertEqual([], self.told())

    def test_what_the_registration_named_no_more_is_not_told(self) -> None:
        self.end()
        self.bench.wait(2.5)
        (again,) = self.bench.sent
        self.assertEqual([], list(again.executor_infos))
        self.accept()
        self.assertEqual([], self.told())


class WhereNothingIsStored(_Exits):
    """What stands beside a change that was refused is not sent."""

    def refuse(self, effects: list[Any]) -> None:
        changes = tuple(
            change for one in effects if isinstance(one, Store) for change in one.changes
        )
        self.bench.clear()
        self.bench.give(StoreFailed(changes, "disk full"))

    def test_master_is_told_all_the_same(self) -> None:
        self.refuse(self.end())
        self.assertEqual([("e", 256)], self.told())

    def test_of_one_that_is_here_again_nothing_is_told(self) -> None:
        effects = self.end()
        self.bench.acknowledge()
        self.launch("u")
        self.refuse(effects)
        self.assertEqual([], self.told())

    def test_what_was_long_ago_is_not_told_again(self) -> None:
        effects = self.end()
        self.bench.now += STORING + 1
        self.refuse(effects)
        self.assertEqual([], self.told())

    def test_only_so_many_are_remembered(self) -> None:
        for number in range(REMEMBERED + 10):
            self.end()
            self.bench.acknowledge()
            info = custom_executor(f"e{number}")
            self.bench.run(task(f"t{number}", executor=info), launch=True)
            for container in list(self.bench.state.containers):
                self.bench.give(ContainerExited(container, 0))
            self.bench.acknowledge()
            self.bench.clear()
            self.launch()
        self.assertEqual(REMEMBERED, len(self.bench.state.exits))
