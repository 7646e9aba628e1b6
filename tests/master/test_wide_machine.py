"""The machine of L{tests.master.test_machine} with all that anybody may say to a master."""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from mesoskit.master.operator import Replied, Requested, Teardown, UpdateWeights
from mesoskit.messages.internal_pb2 import ExitedExecutorMessage, UpdateSlaveMessage
from mesoskit.messages.mesos_pb2 import ExecutorInfo
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.events import Congestion, PeerKind, Received, Send
from mesoskit.model.ids import FrameworkId, PeerId
from tests import example_count
from tests.base import SynchronousTestCase
from tests.master.bench import (
    MULTI_ROLE,
    accept,
    executor,
    group,
    resources,
    scheduler_call,
    subscription,
    task,
)
from tests.master.sim import SimAgent, SimFramework
from tests.master.test_machine import ClusterMachine

ROLES = ("*", "a", "a/b", "c")


class WideMachine(ClusterMachine):
    """
    The same, with links that fill, roles that change, executors that end, and limits that are low.

    @ivar congested: the links that are full.
    @ivar old: links that frameworks had, and have no more.
    """

    flags: ClassVar[dict[str, Any]] = {
        **ClusterMachine.flags,
        "agent_reregister_timeout": 100.0,
        "agent_removal_interval": 20.0,
        "max_completed_tasks_per_framework": 2,
        "registry_gc_interval": 100.0,
        "registry_max_agent_count": 1,
    }

    def __init__(self) -> None:
        self.congested: set[PeerId] = set()
        self.old: list[PeerId] = []
        self.instances = 0
        super().__init__()

    def give(self, effects: list[Any]) -> list[Any]:
        for effect in effects:
            if isinstance(effect, Send) and effect.peer in self.congested:
                offers = isinstance(effect.message, Event) and effect.message.type == Event.OFFERS
                assert not offers, "offered to one whose link is full"
        return super().give(effects)

    def say(self, framework: SimFramework, call: Call) -> None:
        """Let a framework call; it is answered once."""
        assert framework.link is not None
        self.give(self.bench.ask(framework.link, call)[1])

    def failed_over(self) -> None:
        self.congested.clear()
        self.old.clear()

    # Frameworks.

    @precondition(lambda self: len(self.frameworks) < 4)
    @rule(roles=st.lists(st.sampled_from(ROLES), min_size=1, unique=True), checkpoint=st.booleans())
    def new_framework_in_roles(self, roles: list[str], checkpoint: bool) -> None:
        fields = {"checkpoint": checkpoint, "failover_timeout": 1000.0, "roles": roles}
        framework = SimFramework(fields, (MULTI_ROLE,))
        self.frameworks.append(framework)
        self.subscribe(framework)

    @precondition(lambda self: self._frameworks(has="roles"))
    @rule(
        data=st.data(),
        how=st.sampled_from(("update", "subscribe", "subscribe elsewhere")),
        roles=st.lists(st.sampled_from(ROLES), min_size=1, unique=True),
        suppressed=st.booleans(),
    )
    def framework_changes_roles(
        self, data: st.DataObject, how: str, roles: list[str], suppressed: bool
    ) -> None:
        framework = self._some_framework(data, has="roles")
        framework.fields["roles"] = roles
        known = subscription(*framework.capabilities, id=framework.id, **framework.fields)
        if suppressed:
            known.subscribe.suppressed_roles.append(roles[0])
        if how == "update":
            call = scheduler_call(Call.UPDATE_FRAMEWORK, framework.id)
            call.update_framework.framework_info.CopyFrom(known.subscribe.framework_info)
            call.update_framework.suppressed_roles.extend(known.subscribe.suppressed_roles)
            self.say(framework, call)
            return
        if how == "subscribe elsewhere":
            assert framework.link is not None
            self.old.append(framework.link)
            framework.offers.clear()
            framework.link = self._link(framework, PeerKind.FRAMEWORK)
        self.say(framework, known)

    @precondition(lambda self: self._frameworks())
    @rule(data=st.data(), again=st.booleans())
    def framework_is_started_elsewhere(self, data: st.DataObject, again: bool) -> None:
        """Two that say which instance they are want to be the same framework."""
        framework = self._some_framework(data)
        self.instances += 1
        names = (f"i{self.instances}", f"i{self.instances + 1}", f"i{self.instances}")
        self.instances += 1
        for name in names if again else names[:2]:
            assert framework.id
            peer = self.bench.connect(PeerKind.FRAMEWORK, instance=name)
            self.peers[peer] = framework
            before, framework.link = framework.link, peer
            if before is not None:
                self.old.append(before)
            framework.offers.clear()
            self.say(
                framework,
                subscription(*framework.capabilities, id=framework.id, **framework.fields),
            )
            if framework.ended:
                return
        if again:
            # The first came back, and was told that another one had taken its place.
            assert framework.link is None
            framework.link = self.old[-1]
            known = self.bench.state.frameworks[FrameworkId(framework.id)]
            assert known.peer is not None
            assert known.peer.id == framework.link
            framework.offers.clear()
            self.say(
                framework,
                subscription(*framework.capabilities, id=framework.id, **framework.fields),
            )

    @precondition(lambda self: self._frameworks())
    @rule(data=st.data(), kind=st.sampled_from((Call.SUPPRESS, Call.REVIVE)), part=st.booleans())
    def suppress_or_revive(self, data: st.DataObject, kind: int, part: bool) -> None:
        framework = self._some_framework(data)
        call = scheduler_call(kind, framework.id)
        inner = call.suppress if kind == Call.SUPPRESS else call.revive
        inner.SetInParent()
        if part:
            inner.roles.append(data.draw(st.sampled_from(ROLES)))
        self.say(framework, call)

    @precondition(lambda self: self._frameworks() and self._agents())
    @rule(data=st.data(), kind=st.sampled_from((Call.SHUTDOWN, Call.MESSAGE, Call.REQUEST)))
    def something_is_asked(self, data: st.DataObject, kind: int) -> None:
        framework, agent = self._some_framework(data), self._some_agent(data)
        call = scheduler_call(kind, framework.id)
        if kind == Call.REQUEST:
            call.request.SetInParent()
        else:
            inner = call.shutdown if kind == Call.SHUTDOWN else call.message
            inner.agent_id.value = agent.id
            inner.executor_id.value = "e"
            if kind == Call.MESSAGE:
                call.message.data = b"x"
        self.say(framework, call)

    @precondition(lambda self: self._frameworks())
    @rule(data=st.data(), size=st.integers(1, 2))
    def launch_a_group(self, data: st.DataObject, size: int) -> None:
        framework = self._somebody_offered(data)
        if framework is None:
            return
        offer = framework.offers.pop(data.draw(st.sampled_from(list(framework.offers))))
        infos = []
        for _ in range(size):
            self.tasks += 1
            infos.append(task(offer, f"t{self.tasks}", "cpus:0.2;mem:32"))
            framework.launched[f"t{self.tasks}"] = offer.agent_id.value
        info = executor("g", framework.id, "cpus:0.1;mem:32")
        info.type = ExecutorInfo.DEFAULT
        info.ClearField("command")
        self.say(framework, group(offer, info, *infos))

    @precondition(lambda self: self._frameworks())
    @rule(data=st.data(), twice=st.booleans())
    def accept_two_offers(self, data: st.DataObject, twice: bool) -> None:
        """Of one agent and role or not; or the same one again, which is gone."""
        framework = self._somebody_offered(data)
        if framework is None:
            return
        chosen = data.draw(st.permutations(list(framework.offers)))[:2]
        first, *others = [framework.offers.pop(one) for one in chosen]
        self.tasks += 1
        call = accept(first, task(first, f"t{self.tasks}", "cpus:0.5;mem:32"))
        for other in others:
            call.accept.offer_ids.add().CopyFrom(other.id)
        framework.launched[f"t{self.tasks}"] = first.agent_id.value
        self.say(framework, call)
        if twice and framework.link is not None:
            self.tasks += 1
            again = accept(first, task(first, f"t{self.tasks}", "cpus:0.5;mem:32"))
            self.say(framework, again)

    @precondition(lambda self: self._frameworks())
    @rule(data=st.data(), congested=st.booleans())
    def link_fills_or_drains(self, data: st.DataObject, congested: bool) -> None:
        framework = self._some_framework(data)
        assert framework.link is not None
        if congested:
            self.congested.add(framework.link)
        else:
            self.congested.discard(framework.link)
        self.give(self.bench.give(Congestion(framework.link, congested)))

    @precondition(lambda self: self.old and self._frameworks())
    @rule(data=st.data(), kind=st.sampled_from((Call.TEARDOWN, Call.REVIVE, Call.SUBSCRIBE)))
    def somebody_speaks_over_an_old_link(self, data: st.DataObject, kind: int) -> None:
        """Over one that stands no more nothing is believed."""
        framework = self._some_framework(data)
        old = data.draw(st.sampled_from(self.old))
        if old in self.bench.state.peers:
            return
        if kind == Call.SUBSCRIBE:
            call = subscription(*framework.capabilities, id=framework.id, **framework.fields)
        else:
            call = scheduler_call(kind, framework.id)
        assert self.bench.give(Received(old, call, 1)) == []

    # Agents.

    @precondition(lambda self: self._agents(linked=True, frozen=False))
    @rule(data=st.data())
    def agent_asks_twice(self, data: st.DataObject) -> None:
        """Its first question is answered, and the answer on its way, when it asks again."""
        agent = self._some_agent(data, linked=True, frozen=False)
        for _ in range(2):
            link = agent.link
            if link is not None:
                self._come_back(agent, link)

    @precondition(lambda self: self._agents(frozen=False, executors=True))
    @rule(data=st.data())
    def executor_ends(self, data: st.DataObject) -> None:
        agent = self._some_agent(data, frozen=False, executors=True)
        key = data.draw(st.sampled_from(list(agent.executors)))
        agent.end_executor(*key)
        if agent.link is not None:
            message = ExitedExecutorMessage(status=256)
            message.slave_id.value = agent.id
            message.framework_id.value, message.executor_id.value = key
            self.give(self.bench.receive(agent.link, message))

    @precondition(lambda self: self._agents(linked=True, frozen=False))
    @rule(data=st.data(), cpus=st.sampled_from((0, 2)))
    def agent_has_more_to_give(self, data: st.DataObject, cpus: int) -> None:
        agent = self._some_agent(data, linked=True, frozen=False)
        self._oversubscribe(agent, cpus)

    def _oversubscribe(self, agent: SimAgent, cpus: int) -> None:
        message = UpdateSlaveMessage(update_oversubscribed_resources=True)
        message.slave_id.value = agent.id
        if cpus:
            message.oversubscribed_resources.extend(resources(f"cpus:{cpus}"))
            message.oversubscribed_resources[0].revocable.SetInParent()
        assert agent.link is not None
        self.give(self.bench.receive(agent.link, message))

    # Operators, and time.

    @precondition(lambda self: self._frameworks() and len(self.frameworks) > 2)
    @rule(data=st.data(), chance=st.integers(0, 2))
    def operator_tears_down(self, data: st.DataObject, chance: int) -> None:
        framework = self._some_framework(data)
        if chance:
            return
        known = FrameworkId(framework.id) in self.bench.state.frameworks
        effects = self.give(self.bench.give(Requested(1, Teardown(FrameworkId(framework.id)))))
        (replied,) = [one for one in effects if isinstance(one, Replied)]
        assert replied.status == (200 if known else 400)

    @rule(role=st.sampled_from(ROLES), weight=st.sampled_from((0.5, 3.0)))
    def operator_sets_a_weight(self, role: str, weight: float) -> None:
        self.give(self.bench.give(Requested(1, UpdateWeights({role: weight}))))

    @rule(seconds=st.sampled_from((130.0, 700.0)), chance=st.integers(0, 3))
    def much_time_passes(self, seconds: float, chance: int) -> None:
        if not chance:
            self.time_passes(seconds)

    @invariant()
    def nothing_is_kept_of_links_that_are_gone(self) -> None:
        state = self.bench.state
        linked = [one.peer.id for one in state.frameworks.values() if one.peer is not None]
        linked += [one.peer.id for one in state.agents.values() if one.peer is not None]
        assert set(linked) <= set(state.peers)
        assert len(linked) == len(set(linked))

    def teardown(self) -> None:
        for framework in self.frameworks:
            if framework.link is not None and not framework.ended:
                self.congested.discard(framework.link)
                self.give(self.bench.give(Congestion(framework.link, False)))
                call = scheduler_call(Call.REVIVE, framework.id)
                call.revive.SetInParent()
                self.say(framework, call)
        for agent in self.agents:
            known = self.bench.state.agents.get(agent.id)  # type: ignore[call-overload]
            if agent.link is not None and known is not None and known.peer is not None:
                self._oversubscribe(agent, 0)
        super().teardown()


class MachineTests(SynchronousTestCase):
    """Run the machine."""

    def test_invariants_hold_whatever_anybody_says(self) -> None:
        run_state_machine_as_test(
            WideMachine,
            settings=settings(
                max_examples=example_count(25),
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
