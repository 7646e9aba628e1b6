"""The soak without processes: the real states and drivers on a network in memory, and the books.

What L{tests.soak.test_soak} does to processes in a minute, hypothesis does here to thousands of
short histories, and shrinks those that go wrong. The same reckoning holds at the end.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mesoskit.agent.container import ContainerSpec
from mesoskit.driver import (
    Framework,
    FrameworkError,
    Offer,
    Scheduler,
    TaskState,
    TaskStatus,
    command_task,
    executor_info,
    launch_group,
)
from mesoskit.testing.cluster import MASTER, TestCluster
from mesoskit.testing.network import Host
from tests import example_count
from tests.base import SynchronousTestCase
from tests.soak import books
from tests.soak.books import Entry, Mark
from tests.soak.reckoning import reckon

AGENTS = 2
FRAMEWORKS = 2


class Book(Scheduler):
    """
    A framework that launches what it is asked to, and writes all of it down.

    @ivar journal: as L{tests.soak.framework} writes it.
    @ivar wanted: what is to be launched: (group or not, names, seconds, exit status).
    """

    def __init__(self, cluster: TestCluster, name: str, scheme: str) -> None:
        self.cluster = cluster
        self.name = name
        self.journal: list[Entry] = []
        self.wanted: list[tuple[bool, list[str], float, int]] = []
        self.errors: list[str] = []
        self._master = scheme + MASTER
        self._ids = _Ids()
        # One that begins may be told of something before it is known here: only those of
        # former lives are not heard.
        self._before: list[Framework] = []
        self.framework = self._begin()

    def _begin(self) -> Framework:
        return self.cluster.framework(
            master=self._master,
            name=self.name,
            scheduler=self,
            id_file=self._ids,
            checkpoint=True,
            failover_timeout=1e6,
        )

    def come_back(self) -> None:
        """End without a word, and begin again with what was written down."""
        host = self.cluster.host_of(self.framework)
        before = self.framework
        host.isolate()
        self._before.append(before)
        before.stopService()
        self.framework = self._begin()
        for name, book in books.books(self.journal).items():
            if not _over(book):
                self.framework.adopt(name, book.intended["agent"])
        host.isolate(False)

    def write(self, what: str, **more: Any) -> None:
        """Write a line."""
        self.journal.append({"at": self.cluster.network.seconds(), "what": what, **more})

    def resource_offers(self, framework: Framework, offers: list[Offer]) -> None:
        for offer in offers:
            if framework in self._before or not self._fits(offer):
                framework.decline(offer, refuse_seconds=1.0).addErrback(lambda _: None)
                continue
            group, names, seconds, code = self.wanted.pop(0)
            tasks = [command_task(name, f"run {name} {seconds} {code}", id=name) for name in names]
            for name in names:
                self.write(
                    books.INTEND,
                    task=name,
                    agent=offer.agent_id,
                    kind="group" if group else "command",
                    group=names[0] if group else "",
                    code=code,
                    seconds=seconds,
                )
            given: list[Any] = list(tasks)
            if group:
                given = [launch_group(executor_info(f"g-{names[0]}"), tasks)]
            framework.accept(offer, given).addCallbacks(
                lambda _, names=names: self.write(books.TAKEN, tasks=names),
                lambda why, names=names: self.write(books.REFUSED, tasks=names, why=str(why.value)),
            )

    def _fits(self, offer: Offer) -> bool:
        """Tell whether there is room for what is to be launched next, and an executor of it."""
        if not self.wanted:
            return False
        _, names, _, _ = self.wanted[0]
        parts = len(names) + 1
        return offer.cpus > 0.1 * parts - 0.01 and offer.mem >= 32 * parts

    def status_update(self, framework: Framework, status: TaskStatus) -> None:
        if framework not in self._before:
            self.write(
                books.STATUS,
                task=status.task_id.value,
                state=TaskState(status.state).name,
                reason=status.reason if status.HasField("reason") else -1,
                source=status.source,
                message=status.message,
                agent=status.agent_id.value,
                uuid=status.uuid.hex(),
            )

    def error(self, framework: Framework, error: FrameworkError) -> None:
        if framework not in self._before:
            self.errors.append(str(error))

    def kill(self, name: str) -> None:
        """Kill a task."""
        self.write(books.KILL, task=name)
        self.framework.kill(name)

    def live(self) -> list[str]:
        """Return the tasks that have not ended."""
        return [name for name, book in books.books(self.journal).items() if not _over(book)]


class _Ids:
    """Keeps a framework's id in memory."""

    def __init__(self) -> None:
        self.id = ""

    def read(self) -> str:
        return self.id

    def write(self, framework_id: str) -> None:
        self.id = framework_id

    def forget(self) -> None:
        self.id = ""


def _over(book: books.Book) -> bool:
    if any(entry["what"] == books.REFUSED for entry in book.entries):
        return True
    return not reckon([book.intended, *book.entries], ()).stuck


class SoakMachine(RuleBasedStateMachine):
    """Frameworks that keep launching, on a cluster that keeps breaking."""

    @initialize(schemes=st.lists(st.sampled_from(["", "http://"]), min_size=2, max_size=2))
    def begin(self, schemes: list[str]) -> None:
        self.marks: list[Mark] = []
        self.count = 0
        self.cluster = TestCluster(agents=AGENTS, commands=self.command)
        self.books = [Book(self.cluster, f"f{n}", scheme) for n, scheme in enumerate(schemes)]
        for number in range(FRAMEWORKS):
            self.want(number, False, 3, 300.0, 0)
            self.want(number, True, 2, 60.0, 0)
        self.cluster.advance(2.0)

    def command(self, spec: ContainerSpec) -> int | float | None:
        """Run a task: mark its start, and its end where it comes to that."""
        words = spec.argv[2].split() if len(spec.argv) == 3 else []
        if words[:1] != ["run"]:
            return None
        _, name, seconds, code = words
        self.mark("start", name)
        self.cluster.network.callLater(float(seconds), self.finish, spec, name, int(code))
        return None

    def finish(self, spec: ContainerSpec, name: str, code: int) -> None:
        for agent in self.cluster.agents:
            if spec.id in agent.containers.running:
                self.mark("end", name)
                agent.containers.finish(spec.id, code << 8)

    def mark(self, what: str, name: str) -> None:
        self.marks.append(Mark(what, name, 0, self.cluster.network.seconds()))

    # What frameworks do

    @rule(
        number=st.integers(0, FRAMEWORKS - 1),
        group=st.booleans(),
        count=st.integers(1, 3),
        seconds=st.sampled_from([0.0, 3.0, 60.0, 300.0]),
        code=st.sampled_from([0, 0, 3]),
    )
    def want(self, number: int, group: bool, count: int, seconds: float, code: int) -> None:
        names = [f"t{self.count + each}" for each in range(count)]
        self.count += count
        self.books[number].wanted.append((group, names, seconds, 0 if group else code))
        # Offers come again after a second; what goes wrong next may meet the launch in its midst.
        self.cluster.advance(1.0 if self.count % 2 else 0.95)

    @rule(number=st.integers(0, FRAMEWORKS - 1), which=st.integers(0, 100))
    def kill(self, number: int, which: int) -> None:
        live = self.books[number].live()
        if live:
            self.books[number].kill(live[which % len(live)])

    @rule(number=st.integers(0, FRAMEWORKS - 1))
    def framework_comes_back(self, number: int) -> None:
        self.books[number].come_back()

    # What goes wrong

    @rule(seconds=st.sampled_from([0.0, 0.1, 2.0, 20.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.cluster.advance(seconds)

    @rule(who=st.integers(0, AGENTS + FRAMEWORKS - 1))
    def cut(self, who: int) -> None:
        self.host(who).cut()

    @rule(who=st.integers(0, AGENTS + FRAMEWORKS - 1), isolated=st.booleans())
    def isolate(self, who: int, isolated: bool) -> None:
        self.host(who).isolate(isolated)

    @rule(who=st.integers(0, AGENTS + FRAMEWORKS - 1), deaf=st.booleans())
    def one_way(self, who: int, deaf: bool) -> None:
        for transport in self.host(who).connections:
            (transport if deaf else transport.other).stall(True)

    @rule(who=st.integers(0, AGENTS + FRAMEWORKS - 1))
    def both_ways(self, who: int) -> None:
        self.both(self.host(who))

    @rule(number=st.integers(0, AGENTS - 1))
    def agent_restarts(self, number: int) -> None:
        if self.cluster.agents[number].service is not None:
            self.cluster.agents[number].restart()

    @rule(number=st.integers(0, AGENTS - 1))
    def agent_dies(self, number: int) -> None:
        self.cluster.agents[number].stop()

    @rule(number=st.integers(0, AGENTS - 1))
    def agent_starts(self, number: int) -> None:
        if self.cluster.agents[number].service is None:
            self.cluster.agents[number].start()

    @rule()
    def master_restarts(self) -> None:
        self.cluster.stop_master()
        self.cluster.start_master()

    @rule()
    @precondition(lambda self: self.cluster.master_service is not None)
    def master_dies(self) -> None:
        self.cluster.stop_master()

    @rule()
    @precondition(lambda self: self.cluster.master_service is None)
    def master_starts(self) -> None:
        self.cluster.start_master()

    def host(self, who: int) -> Host:
        if who < AGENTS:
            return self.cluster.agents[who].host
        return self.cluster.host_of(self.books[who - AGENTS].framework)

    def both(self, host: Host) -> None:
        for transport in host.connections:
            transport.stall(False)
            transport.other.stall(False)

    @invariant()
    def nothing_runs_twice(self) -> None:
        starts = [mark.task for mark in getattr(self, "marks", ()) if mark.what == "start"]
        assert len(starts) == len(set(starts)), starts

    def teardown(self) -> None:
        """All is well again: then whatever was launched ends, and the books agree."""
        if not hasattr(self, "books"):
            return
        if self.cluster.master_service is None:
            self.cluster.start_master()
        for agent in self.cluster.agents:
            if agent.service is None:
                agent.start()
        for who in range(AGENTS + FRAMEWORKS):
            self.host(who).isolate(False)
            self.both(self.host(who))
        # As long as an agent may take to be given up, and a task to be asked for again.
        self.cluster.advance(1500)
        for book in self.books:
            assert not book.errors, book.errors
            found = reckon(book.journal, [mark for mark in self.marks if _of(book, mark)])
            assert not found.wrong, found.wrong
        for agent in self.cluster.agents:
            running = {spec.argv for spec in agent.containers.specs.values()}
            assert not any("run " in " ".join(argv) for argv in running), running
        self.cluster.stop()


def _of(book: Book, mark: Mark) -> bool:
    return any(entry.get("task") == mark.task for entry in book.journal)


class MachineTests(SynchronousTestCase):
    """The machine, run."""

    def test_nothing_is_lost_whatever_happens(self) -> None:
        run_state_machine_as_test(
            SoakMachine,
            settings=settings(
                max_examples=example_count(6),
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
