"""Random histories: whatever happens, in whatever order, the invariants hold."""

from __future__ import annotations

from typing import Any, ClassVar

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

from mesoskit.master.operator import (
    DeactivateAgent,
    DrainAgent,
    MarkAgentGone,
    ReactivateAgent,
    Request,
    Requested,
)
from mesoskit.messages.internal_pb2 import PongSlaveMessage, UnregisterSlaveMessage
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.model.events import Drop, PeerKind, Send
from mesoskit.model.ids import AgentId, FrameworkId, PeerId
from mesoskit.model.resources import Resources
from mesoskit.model.tasks import TERMINAL
from tests import example_count
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    Bench,
    accept,
    decline,
    executor,
    registration,
    reregistration,
    scheduler_call,
    subscription,
    task,
    uuid,
)
from tests.master.sim import SimAgent, SimFramework


class ClusterMachine(RuleBasedStateMachine):
    """
    A cluster in which links break, messages come late or twice, and operators interfere.

    @cvar flags: those of all of its masters.
    """

    flags: ClassVar[dict[str, Any]] = {
        "max_unreachable_tasks_per_framework": 3,
        "offer_timeout": 40.0,
    }

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(**self.flags)
        self.agents: list[SimAgent] = []
        self.frameworks: list[SimFramework] = []
        self.peers: dict[PeerId, SimAgent | SimFramework] = {}
        self.ended: dict[int, tuple[Any, int]] = {}
        self.tasks = self.masters = 0

    # What the master does.

    def give(self, effects: list[Any]) -> list[Any]:
        """Carry out effects: messages go into inboxes, or to frameworks at once."""
        for effect in effects:
            if isinstance(effect, Send):
                sim = self.peers.get(effect.peer)
                if isinstance(sim, SimFramework):
                    if sim.link == effect.peer:
                        sim.take(effect.message)
                elif isinstance(sim, SimAgent) and sim.link == effect.peer:
                    name = type(effect.message).__name__
                    if name in ("SlaveRegisteredMessage", "SlaveReregisteredMessage"):
                        agent_id = effect.message.slave_id.value
                        # One that is back, and has drained for good, is gone in the same turn.
                        known = {f"agents/{agent_id}", f"gone/{agent_id}"}
                        assert known & set(self.bench.stored), "not yet stored"
                    if name != "PingSlaveMessage":
                        sim.inbox.append(effect.message)
                    elif not sim.frozen:
                        self.give(self.bench.receive(effect.peer, PongSlaveMessage()))
            elif isinstance(effect, Drop):
                self._cut(self.peers.get(effect.peer), effect.peer)
        return effects

    def _cut(self, sim: SimAgent | SimFramework | None, peer: PeerId) -> None:
        if sim is not None and sim.link == peer:
            sim.link = None
            if isinstance(sim, SimAgent):
                sim.inbox.clear()
            else:
                sim.offers.clear()

    # Who is there.

    @initialize(
        agents=st.integers(1, 3),
        frameworks=st.lists(
            st.tuples(st.booleans(), st.booleans(), st.sampled_from([0.0, 30.0, 1000.0])),
            min_size=1,
            max_size=3,
        ),
        tasks=st.integers(0, 3),
    )
    def begin(self, agents: int, frameworks: list[tuple[bool, bool, float]], tasks: int) -> None:
        for number in range(agents):
            self.new_agent(number + 2)
        for framework in frameworks:
            self.new_framework(*framework)
        self.time_passes(1.0)
        for _ in range(tasks and 2):
            self.everybody_works(tasks, "RUNNING")

    @rule(count=st.integers(0, 2), state=st.sampled_from(["", "RUNNING", "FINISHED"]))
    def everybody_works(self, count: int, state: str) -> None:
        """A while of ordinary business."""
        self.time_passes(1.0)
        for framework in self.frameworks:
            while framework.link is not None and framework.offers:
                self._launch(framework, next(iter(framework.offers)), count, 0.5)
        self.agents_take_messages()
        for agent in self.agents:
            for key in agent.tasks if state and not agent.frozen else ():
                agent.move(*key, f"TASK_{state}")
            for message in agent.heads():
                if agent.link is not None and not agent.frozen:
                    self.give(self.bench.receive(agent.link, message))

    @precondition(lambda self: len(self.agents) < 4)
    @rule(cpus=st.integers(1, 4))
    def new_agent(self, cpus: int) -> None:
        agent = SimAgent(f"host{len(self.agents)}")
        self.agents.append(agent)
        agent.link = self._link(agent, PeerKind.AGENT)
        effects = self.give(
            self.bench.receive(agent.link, registration(agent.hostname, f"cpus:{cpus};mem:512"))
        )
        del effects
        agent.id = agent.inbox.pop().slave_id.value

    @precondition(lambda self: len(self.frameworks) < 4)
    @rule(
        aware=st.booleans(),
        checkpoint=st.booleans(),
        failover_timeout=st.sampled_from([0.0, 30.0, 1000.0]),
    )
    def new_framework(self, aware: bool, checkpoint: bool, failover_timeout: float) -> None:
        fields = {"checkpoint": checkpoint, "failover_timeout": failover_timeout}
        framework = SimFramework(fields, (AWARE,) if aware else ())
        self.frameworks.append(framework)
        self.subscribe(framework)

    def _link(self, sim: SimAgent | SimFramework, kind: PeerKind) -> PeerId:
        peer = self.bench.connect(kind)
        self.peers[peer] = sim
        return peer

    def subscribe(self, framework: SimFramework) -> None:
        framework.offers.clear()
        framework.link = self._link(framework, PeerKind.FRAMEWORK)
        self.give(
            self.bench.receive(
                framework.link,
                subscription(*framework.capabilities, id=framework.id, **framework.fields),
            )
        )

    def _agents(self, **wanted: bool) -> list[SimAgent]:
        """Return those that are linked, frozen, have tasks, or are not and have none."""
        return [
            agent
            for agent in self.agents
            if not agent.dead
            and all(
                {
                    "linked": agent.link is not None,
                    "frozen": agent.frozen,
                    "tasks": bool(agent.tasks),
                    "heads": bool(agent.heads()),
                    "executors": bool(agent.executors),
                }[name]
                is value
                for name, value in wanted.items()
            )
        ]

    def _some_agent(self, data: st.DataObject, **wanted: bool) -> SimAgent:
        agent: SimAgent = data.draw(st.sampled_from(self._agents(**wanted)))
        return agent

    def _frameworks(self, linked: bool = True, has: str = "id") -> list[SimFramework]:
        """Return those that are linked or not, and have something."""
        return [
            framework
            for framework in self.frameworks
            if not framework.ended
            and (framework.link is not None) is linked
            and getattr(framework, has)
        ]

    def _some_framework(
        self, data: st.DataObject, linked: bool = True, has: str = "id"
    ) -> SimFramework:
        framework: SimFramework = data.draw(st.sampled_from(self._frameworks(linked, has)))
        return framework

    # Offers and tasks.

    def _somebody_offered(self, data: st.DataObject) -> SimFramework | None:
        """Return a framework that has offers, for which it may take a while."""
        for seconds in (0.0, 1.0, 6.0):
            self.time_passes(seconds)
            if self._frameworks(has="offers"):
                return self._some_framework(data, has="offers")
        return None

    @precondition(lambda self: self._frameworks())
    @rule(data=st.data(), count=st.integers(0, 3), cpus=st.sampled_from([0.5, 1, 3]))
    def accept(self, data: st.DataObject, count: int, cpus: float) -> None:
        framework = self._somebody_offered(data)
        if framework is None:
            return
        self._launch(framework, data.draw(st.sampled_from(list(framework.offers))), count, cpus)

    def _launch(self, framework: SimFramework, offer_id: str, count: int, cpus: float) -> None:
        offer = framework.offers.pop(offer_id)
        infos = []
        for _ in range(count):
            self.tasks += 1
            task_id = f"t{self.tasks}"
            infos.append(task(offer, task_id, f"cpus:{cpus};mem:64"))
            framework.launched[task_id] = offer.agent_id.value
        assert framework.link is not None
        self.give(self.bench.receive(framework.link, accept(offer, *infos)))

    @precondition(lambda self: self._frameworks())
    @rule(data=st.data())
    def launch_with_executor(self, data: st.DataObject) -> None:
        framework = self._somebody_offered(data)
        if framework is None:
            return
        offer = framework.offers.pop(next(iter(framework.offers)))
        self.tasks += 1
        info = task(offer, f"t{self.tasks}", "cpus:0.1;mem:32", executor=executor("e"))
        framework.launched[info.task_id.value] = offer.agent_id.value
        assert framework.link is not None
        self.give(self.bench.receive(framework.link, accept(offer, info)))

    @precondition(lambda self: self._frameworks())
    @rule(data=st.data(), refuse_seconds=st.sampled_from([0.0, 5.0, 60.0]))
    def decline(self, data: st.DataObject, refuse_seconds: float) -> None:
        framework = self._somebody_offered(data)
        if framework is None:
            return
        offer = framework.offers.pop(next(iter(framework.offers)))
        assert framework.link is not None
        self.give(self.bench.receive(framework.link, decline(offer, refuse_seconds)))

    @precondition(lambda self: any(agent.inbox for agent in self._agents(linked=True)))
    @rule()
    def agents_take_messages(self) -> None:
        for agent in self.agents:
            if not agent.frozen and agent.link is not None:
                for message in agent.inbox:
                    agent.take(message)
                agent.inbox.clear()
                if agent.dead:
                    self._lose(agent)

    @precondition(lambda self: self._agents(frozen=False, tasks=True))
    @rule(data=st.data(), state=st.sampled_from(["RUNNING", "FINISHED", "FAILED", "KILLING"]))
    def task_moves(self, data: st.DataObject, state: str) -> None:
        agent = self._some_agent(data, frozen=False, tasks=True)
        framework_id, task_id = data.draw(st.sampled_from(list(agent.tasks)))
        agent.move(framework_id, task_id, f"TASK_{state}")

    @precondition(lambda self: self._agents(linked=True, frozen=False, heads=True))
    @rule(data=st.data(), times=st.integers(1, 3))
    def updates_come(self, data: st.DataObject, times: int) -> None:
        """Updates come in any order, and more than once."""
        agent = self._some_agent(data, linked=True, frozen=False, heads=True)
        for message in data.draw(st.permutations(agent.heads())):
            for _ in range(times):
                if agent.link is not None:
                    self.give(self.bench.receive(agent.link, message))

    @precondition(lambda self: self._frameworks(has="unacknowledged"))
    @rule(data=st.data(), late=st.booleans())
    def framework_acknowledges(self, data: st.DataObject, late: bool) -> None:
        framework = self._some_framework(data, has="unacknowledged")
        place = -1 if late else 0
        agent_id, task_id, state = framework.unacknowledged.pop(place)
        self._acknowledge(framework, agent_id, task_id, state)

    def _acknowledge(
        self, framework: SimFramework, agent_id: str, task_id: str, state: str
    ) -> None:
        call = scheduler_call(Call.ACKNOWLEDGE, framework.id)
        call.acknowledge.agent_id.value = agent_id
        call.acknowledge.task_id.value = task_id
        call.acknowledge.uuid = uuid(task_id + state)
        assert framework.link is not None
        self.give(self.bench.receive(framework.link, call))

    @precondition(lambda self: self._frameworks(has="launched"))
    @rule(data=st.data(), kind=st.sampled_from([Call.KILL, Call.RECONCILE]), whole=st.booleans())
    def kill_or_reconcile(self, data: st.DataObject, kind: int, whole: bool) -> None:
        framework = self._some_framework(data, has="launched")
        call = scheduler_call(kind, framework.id)
        task_id = data.draw(st.sampled_from(list(framework.launched)))
        if kind == Call.KILL:
            call.kill.task_id.value = task_id
        elif whole:
            call.reconcile.SetInParent()
        else:
            call.reconcile.tasks.add().task_id.value = task_id
        assert framework.link is not None
        self.give(self.bench.receive(framework.link, call))

    # Links, time and operators.

    @rule(seconds=st.sampled_from([0.02, 1.0, 6.0, 15.0, 90.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.bench.now + seconds
        while (deadline := self.bench.state.deadline()) is not None and deadline <= until:
            self.give(self.bench.wake())
        self.bench.now = max(self.bench.now, until)

    @precondition(lambda self: self._agents(linked=True))
    @rule(data=st.data())
    def agent_s_link_breaks(self, data: st.DataObject) -> None:
        self._lose(self._some_agent(data, linked=True))

    def _lose(self, sim: SimAgent | SimFramework) -> None:
        peer = sim.link
        assert peer is not None
        self._cut(sim, peer)
        self.give(self.bench.lose(peer))

    @precondition(lambda self: self._agents())
    @rule(data=st.data())
    def agent_restarts(self, data: st.DataObject) -> None:
        agent = self._some_agent(data)
        if agent.link is not None:
            self._lose(agent)
        agent.restart()

    @precondition(lambda self: self._agents())
    @rule(data=st.data())
    def agent_freezes_or_thaws(self, data: st.DataObject) -> None:
        agent = self._some_agent(data)
        agent.frozen = not agent.frozen

    @precondition(lambda self: self._agents(linked=False, frozen=False))
    @rule(data=st.data())
    def agent_comes_back(self, data: st.DataObject) -> None:
        self._come_back(self._some_agent(data, linked=False, frozen=False))

    @precondition(lambda self: self._agents(linked=True, frozen=False))
    @rule(data=st.data())
    def agent_comes_back_before_its_old_link_is_lost(self, data: st.DataObject) -> None:
        self._come_back(self._some_agent(data, linked=True, frozen=False))

    def _come_back(self, agent: SimAgent, link: PeerId | None = None) -> None:
        """Register again, over a new link or one that it has."""
        if link is None:
            agent.inbox.clear()
            link = self._link(agent, PeerKind.AGENT)
        agent.link = link
        tasks, frameworks = agent.report()
        known = self.bench.state.agents.get(AgentId(agent.id))
        total = known.total if known is not None else None
        executors = agent.executors.values()
        message = reregistration(
            agent.id, agent.hostname, "cpus:4;mem:512", tasks, executors, frameworks
        )
        if total is not None:
            del message.slave.resources[:]
            message.slave.resources.extend(total.to_message())
        self.give(self.bench.receive(agent.link, message))

    @precondition(lambda self: self._agents(linked=True, frozen=False) and len(self.agents) > 3)
    @rule(data=st.data())
    def agent_unregisters(self, data: st.DataObject) -> None:
        agent = self._some_agent(data, linked=True, frozen=False)
        message = UnregisterSlaveMessage()
        message.slave_id.value = agent.id
        assert agent.link is not None
        self.give(self.bench.receive(agent.link, message))
        agent.dead = True

    @precondition(lambda self: self._agents() and len(self.agents) > 3)
    @rule(data=st.data())
    def agent_is_marked_gone(self, data: st.DataObject) -> None:
        agent = self._some_agent(data)
        self.give(self.bench.give(Requested(1, MarkAgentGone(AgentId(agent.id)))))

    @precondition(lambda self: self._agents())
    @rule(data=st.data(), how=st.sampled_from(["deactivate", "drain", "drain for good"]))
    def agent_is_not_offered_any_more(self, data: st.DataObject, how: str) -> None:
        agent = self._some_agent(data)
        if how == "drain for good" and len(self.agents) < 4:
            return
        agent_id = AgentId(agent.id)
        request: Request = DeactivateAgent(agent_id)
        if how != "deactivate":
            request = DrainAgent(agent_id, None, how == "drain for good")
        self.give(self.bench.give(Requested(1, request)))

    @precondition(lambda self: self.bench.state.deactivated and self._agents())
    @rule(data=st.data())
    def agent_is_reactivated(self, data: st.DataObject) -> None:
        agent = self._some_agent(data)
        self.give(self.bench.give(Requested(1, ReactivateAgent(AgentId(agent.id)))))

    @precondition(lambda self: self._frameworks())
    @rule(data=st.data())
    def framework_s_link_breaks(self, data: st.DataObject) -> None:
        self._lose(self._some_framework(data))

    @precondition(lambda self: self._frameworks(linked=False))
    @rule(data=st.data())
    def framework_comes_back(self, data: st.DataObject) -> None:
        self.subscribe(self._some_framework(data, linked=False))

    @precondition(lambda self: self._frameworks())
    @rule(data=st.data())
    def framework_subscribes_again(self, data: st.DataObject) -> None:
        self.subscribe(self._some_framework(data))

    @precondition(lambda self: self._frameworks() and len(self.frameworks) > 3)
    @rule(data=st.data())
    def framework_tears_down(self, data: st.DataObject) -> None:
        framework = self._some_framework(data)
        assert framework.link is not None
        self.give(self.bench.receive(framework.link, scheduler_call(Call.TEARDOWN, framework.id)))
        framework.ended = True

    @rule(chance=st.integers(0, 5))
    def master_fails_over(self, chance: int) -> None:
        if chance:
            return
        self.masters += 1
        before = self.bench
        self.bench = Bench(
            before.stored,
            seed=f"master{self.masters}".encode(),
            now=before.now,
            **self.flags,
        )
        self.peers.clear()
        self.ended.clear()
        everybody: list[SimAgent | SimFramework] = [*self.agents, *self.frameworks]
        for sim in everybody:
            if sim.link is not None:
                self._cut(sim, sim.link)
        self.failed_over()

    def failed_over(self) -> None:
        """Forget what was known of the former master's links."""

    # What must hold.

    @invariant()
    def terminal_stays_terminal(self) -> None:
        state = self.bench.state
        everybody = [*state.frameworks.values(), *state.completed]
        for framework in everybody:
            for one in (*framework.tasks.values(), *framework.completed):
                if one.state in TERMINAL:
                    _, before = self.ended.setdefault(id(one), (one, one.state))
                    assert before == one.state, one

    @invariant()
    def frameworks_know_their_offers(self) -> None:
        for framework in self.frameworks:
            known = self.bench.state.frameworks.get(FrameworkId(framework.id))
            if framework.link is not None and known is not None:
                assert set(framework.offers) == set(known.offers), framework.id

    def teardown(self) -> None:
        """Let everything be well again, and see what becomes of it all."""
        for agent in self.agents:
            agent.frozen = False
        for framework in self.frameworks:
            if framework.link is None and not framework.ended:
                self.subscribe(framework)
        for agent in self.agents:
            known = self.bench.state.agents.get(AgentId(agent.id))
            registered = known is not None and known.peer is not None
            if not agent.dead and agent.id and (agent.link is None or not registered):
                self._come_back(agent)
        for _ in range(12):
            self._settle()
        for agent_id in list(self.bench.state.deactivated):
            self.give(self.bench.give(Requested(1, ReactivateAgent(agent_id))))
        self._every_task_is_accounted_for()
        self._everything_free_is_offered()

    def _settle(self) -> None:
        for agent in self.agents:
            if agent.link is not None and not agent.dead:
                for message in agent.inbox:
                    agent.take(message)
                agent.inbox.clear()
                for head in agent.heads():
                    if agent.link is not None:
                        self.give(self.bench.receive(agent.link, head))
        for framework in self.frameworks:
            waiting, framework.unacknowledged = framework.unacknowledged, []
            for agent_id, task_id, state in waiting:
                if framework.link is not None:
                    self._acknowledge(framework, agent_id, task_id, state)
            for offer in list(framework.offers.values()):
                if framework.link is not None:
                    del framework.offers[offer.id.value]
                    self.give(self.bench.receive(framework.link, decline(offer, 0)))
        self.time_passes(2.0)

    def _every_task_is_accounted_for(self) -> None:
        """What the master takes to be live, its agent has; and the other way round."""
        state = self.bench.state
        for agent in self.agents:
            known = state.agents.get(AgentId(agent.id))
            if known is None or agent.dead:
                continue
            mine = {key for key, one in agent.tasks.items() if not one.over}
            theirs = {
                (one.framework.id, one.id) for one in known.tasks if one.state not in TERMINAL
            }
            assert theirs <= mine, f"{agent.id}: {theirs - mine} is not there"
            unknown = {key for key in mine - theirs if key[0] in state.frameworks}
            assert not unknown, f"{agent.id}: {unknown} is not known"

    def _everything_free_is_offered(self) -> None:
        state = self.bench.state
        if not any(framework.active for framework in state.frameworks.values()):
            return
        # Until the longest filter has ended, and past the moment in which offers time out.
        self.time_passes(70.0)
        if any(agent.active and not agent.offers for agent in state.agents.values()):
            self.time_passes(2.0)
        for agent in state.agents.values():
            if agent.active and not agent.offers:
                used = [held for roles in agent.used().values() for held in roles.values()]
                free = agent.total - Resources.sum(used)
                assert free.scalar("cpus") < 10, f"{agent}: {free} is not offered"


class MachineTests(SynchronousTestCase):
    """Run the machine."""

    def test_invariants_hold_whatever_happens(self) -> None:
        run_state_machine_as_test(
            ClusterMachine,
            settings=settings(
                max_examples=example_count(25),
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
