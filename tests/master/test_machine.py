"""Random histories: whatever happens, in whatever order, the invariants hold."""

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

from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.allocator.options import Options as AllocatorOptions
from mesoskit.master.operator import (
    DeactivateAgent,
    DrainAgent,
    MarkAgentGone,
    ReactivateAgent,
    Request,
    Requested,
)
from mesoskit.master.state import MasterState
from mesoskit.messages.internal_pb2 import PongSlaveMessage, UnregisterSlaveMessage
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.model.events import Drop, PeerKind, Send
from mesoskit.model.ids import AgentId, FrameworkId, Ids, PeerId
from mesoskit.model.resources import Resources
from mesoskit.model.tasks import TERMINAL
from tests import example_count
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    SEED,
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
    """A cluster in which links break, messages come late or twice, and operators interfere."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(max_unreachable_tasks_per_framework=3, offer_timeout=40.0)
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
    )
    def begin(self, agents: int, frameworks: list[tuple[bool, bool, float]]) -> None:
        for number in range(agents):
            self.new_agent(number + 2)
        for framework in frameworks:
            self.new_framework(*framework)
        self.time_passes(1.0)

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

    def _some_agent(self, data: st.DataObject, **wanted: bool) -> SimAgent | None:
        agent: SimAgent | None = _choose(
            data,
            [
                agent
                for agent in self.agents
                if not agent.dead
                and all(
                    {"linked": agent.link is not None, "frozen": agent.frozen}[name] is value
                    for name, value in wanted.items()
                )
            ],
        )
        return agent

    def _some_framework(self, data: st.DataObject, linked: bool = True) -> SimFramework | None:
        framework: SimFramework | None = _choose(
            data,
            [
                framework
                for framework in self.frameworks
                if not framework.ended and (framework.link is not None) is linked
            ],
        )
        return framework

    # Offers and tasks.

    @rule(data=st.data(), count=st.integers(0, 3), cpus=st.sampled_from([0.5, 1, 3]))
    def accept(self, data: st.DataObject, count: int, cpus: float) -> None:
        framework = self._some_framework(data)
        if framework is None or not framework.offers:
            return
        self._launch(framework, _choose(data, list(framework.offers)), count, cpus)

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

    @rule(data=st.data())
    def launch_with_executor(self, data: st.DataObject) -> None:
        framework = self._some_framework(data)
        if framework is None or not framework.offers:
            return
        offer = framework.offers.pop(next(iter(framework.offers)))
        self.tasks += 1
        info = task(offer, f"t{self.tasks}", "cpus:0.1;mem:32", executor=executor("e"))
        framework.launched[info.task_id.value] = offer.agent_id.value
        assert framework.link is not None
        self.give(self.bench.receive(framework.link, accept(offer, info)))

    @rule(data=st.data(), refuse_seconds=st.sampled_from([0.0, 5.0, 60.0]))
    def decline(self, data: st.DataObject, refuse_seconds: float) -> None:
        framework = self._some_framework(data)
        if framework is None or not framework.offers:
            return
        offer = framework.offers.pop(next(iter(framework.offers)))
        assert framework.link is not None
        self.give(self.bench.receive(framework.link, decline(offer, refuse_seconds)))

    @rule()
    def agents_take_messages(self) -> None:
        for agent in self.agents:
            if not agent.frozen and agent.link is not None:
                for message in agent.inbox:
                    agent.take(message)
                agent.inbox.clear()
                if agent.dead:
                    self._lose(agent)

    @rule(data=st.data(), state=st.sampled_from(["RUNNING", "FINISHED", "FAILED", "KILLING"]))
    def task_moves(self, data: st.DataObject, state: str) -> None:
        agent = self._some_agent(data, frozen=False)
        key = _choose(data, list(agent.tasks) if agent is not None else [])
        if agent is not None and key is not None:
            framework_id, task_id = key
            agent.move(framework_id, task_id, f"TASK_{state}")

    @rule(data=st.data(), times=st.integers(1, 3))
    def updates_come(self, data: st.DataObject, times: int) -> None:
        """Updates come in any order, and more than once."""
        agent = self._some_agent(data, linked=True, frozen=False)
        if agent is None:
            return
        for message in data.draw(st.permutations(agent.heads())):
            for _ in range(times):
                if agent.link is not None:
                    self.give(self.bench.receive(agent.link, message))

    @rule(data=st.data(), late=st.booleans())
    def framework_acknowledges(self, data: st.DataObject, late: bool) -> None:
        framework = self._some_framework(data)
        if framework is None or not framework.unacknowledged:
            return
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

    @rule(data=st.data(), kind=st.sampled_from([Call.KILL, Call.RECONCILE]))
    def kill_or_reconcile(self, data: st.DataObject, kind: int) -> None:
        framework = self._some_framework(data)
        if framework is None or framework.link is None:
            return
        call = scheduler_call(kind, framework.id)
        task_id = _choose(data, list(framework.launched))
        if kind == Call.RECONCILE:
            call.reconcile.SetInParent()
            if task_id is not None:
                call.reconcile.tasks.add().task_id.value = task_id
        elif task_id is None:
            return
        else:
            call.kill.task_id.value = task_id
        self.give(self.bench.receive(framework.link, call))

    # Links, time and operators.

    @rule(seconds=st.sampled_from([0.02, 1.0, 6.0, 15.0, 90.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.bench.now + seconds
        while (deadline := self.bench.state.deadline()) is not None and deadline <= until:
            self.give(self.bench.wake())
        self.bench.now = max(self.bench.now, until)

    @rule(data=st.data())
    def agent_s_link_breaks(self, data: st.DataObject) -> None:
        agent = self._some_agent(data, linked=True)
        if agent is not None:
            self._lose(agent)

    def _lose(self, sim: SimAgent | SimFramework) -> None:
        peer = sim.link
        assert peer is not None
        self._cut(sim, peer)
        self.give(self.bench.lose(peer))

    @rule(data=st.data())
    def agent_restarts(self, data: st.DataObject) -> None:
        agent = self._some_agent(data)
        if agent is not None:
            if agent.link is not None:
                self._lose(agent)
            agent.restart()

    @rule(data=st.data(), frozen=st.booleans())
    def agent_freezes_or_thaws(self, data: st.DataObject, frozen: bool) -> None:
        agent = self._some_agent(data)
        if agent is not None:
            agent.frozen = frozen

    @rule(data=st.data(), before_the_old_link_is_lost=st.booleans())
    def agent_comes_back(self, data: st.DataObject, before_the_old_link_is_lost: bool) -> None:
        agent = self._some_agent(data, linked=before_the_old_link_is_lost, frozen=False)
        if agent is not None and agent.id:
            self._come_back(agent)

    def _come_back(self, agent: SimAgent) -> None:
        agent.inbox.clear()
        agent.link = self._link(agent, PeerKind.AGENT)
        tasks, frameworks = agent.report()
        known = self.bench.state.agents.get(AgentId(agent.id))
        total = known.total if known is not None else None
        message = reregistration(agent.id, agent.hostname, "cpus:4;mem:512", tasks, (), frameworks)
        if total is not None:
            del message.slave.resources[:]
            message.slave.resources.extend(total.to_message())
        self.give(self.bench.receive(agent.link, message))

    @rule(data=st.data())
    def agent_unregisters(self, data: st.DataObject) -> None:
        agent = self._some_agent(data, linked=True, frozen=False)
        if agent is not None and len(self.agents) > 3:
            message = UnregisterSlaveMessage()
            message.slave_id.value = agent.id
            assert agent.link is not None
            self.give(self.bench.receive(agent.link, message))
            agent.dead = True

    @rule(data=st.data())
    def agent_is_marked_gone(self, data: st.DataObject) -> None:
        agent = self._some_agent(data)
        if agent is not None and len(self.agents) > 3:
            self.give(self.bench.give(Requested(1, MarkAgentGone(AgentId(agent.id)))))

    @rule(data=st.data(), how=st.sampled_from(["deactivate", "drain", "drain for good"]))
    def agent_is_not_offered_any_more(self, data: st.DataObject, how: str) -> None:
        agent = self._some_agent(data)
        if agent is None or (how == "drain for good" and len(self.agents) < 4):
            return
        agent_id = AgentId(agent.id)
        request: Request = DeactivateAgent(agent_id)
        if how != "deactivate":
            request = DrainAgent(agent_id, None, how == "drain for good")
        self.give(self.bench.give(Requested(1, request)))

    @rule(data=st.data())
    def agent_is_reactivated(self, data: st.DataObject) -> None:
        agent = self._some_agent(data)
        if agent is not None:
            self.give(self.bench.give(Requested(1, ReactivateAgent(AgentId(agent.id)))))

    @rule(data=st.data())
    def framework_s_link_breaks(self, data: st.DataObject) -> None:
        framework = self._some_framework(data)
        if framework is not None:
            self._lose(framework)

    @rule(data=st.data(), linked=st.booleans())
    def framework_subscribes_again(self, data: st.DataObject, linked: bool) -> None:
        framework = self._some_framework(data, linked)
        if framework is not None:
            self.subscribe(framework)

    @rule(data=st.data())
    def framework_tears_down(self, data: st.DataObject) -> None:
        framework = self._some_framework(data)
        if framework is not None and len(self.frameworks) > 3:
            assert framework.link is not None
            self.give(
                self.bench.receive(framework.link, scheduler_call(Call.TEARDOWN, framework.id))
            )
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
            max_unreachable_tasks_per_framework=3,
            offer_timeout=40.0,
        )
        self.peers.clear()
        self.ended.clear()
        everybody: list[SimAgent | SimFramework] = [*self.agents, *self.frameworks]
        for sim in everybody:
            if sim.link is not None:
                self._cut(sim, sim.link)

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


def _choose(data: st.DataObject, choices: list[Any]) -> Any:
    return data.draw(st.sampled_from(choices)) if choices else None


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

    def test_recorded_events_give_the_same_effects_again(self) -> None:
        machine = ClusterMachine()
        machine.new_agent(4)
        machine.new_agent(2)
        machine.new_framework(True, True, 1000.0)
        machine.new_framework(False, False, 0.0)
        machine.time_passes(1.0)
        for framework in machine.frameworks:
            for offer in list(framework.offers.values()):
                del framework.offers[offer.id.value]
                machine.tasks += 1
                assert framework.link is not None
                infos = [task(offer, f"t{machine.tasks}"), task(offer, "big", "cpus:99;mem:1")]
                machine.give(machine.bench.receive(framework.link, accept(offer, *infos)))
        for _ in range(3):
            machine._settle()
        machine._lose(machine.agents[0])
        machine.time_passes(100.0)
        machine._come_back(machine.agents[0])
        machine._lose(machine.frameworks[1])
        machine.time_passes(5.0)
        first = machine.bench
        self.assertGreater(len(first.events), 40)
        states = [
            MasterState(first.options, Ids(SEED), HierarchicalAllocator(AllocatorOptions()), 0.0)
            for _ in range(2)
        ]
        for now, event in first.events:
            one, other = [state.handle(now, event) for state in states]
            self.assertEqual(one, other)
            self.assertEqual(states[0].deadline(), states[1].deadline())
        for state in states:
            self.assertEqual(first.state.metrics(), state.metrics())
            self.assertEqual(list(first.state.past.entries), list(state.past.entries))
