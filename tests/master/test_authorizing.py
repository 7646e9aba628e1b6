"""Who may do what in the master's state: frameworks, tasks, operations, agents, operators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zope.interface import implementer

from mesoskit.master import authorizing, calls
from mesoskit.master.options import MasterOptions
from mesoskit.messages.master_pb2 import Call as OperatorCall
from mesoskit.messages.mesos_pb2 import (
    CommandInfo,
    ExecutorInfo,
    FrameworkInfo,
    Offer,
    TaskInfo,
    TaskStatus,
)
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.authorization import Action, IAuthorizer, Subject, Thing
from mesoskit.model.authorization_acls import LocalAuthorizer
from mesoskit.model.events import Note, PeerKind
from mesoskit.model.resources import POST, Resources
from tests.base import SynchronousTestCase
from tests.master.bench import (
    MULTI_ROLE,
    Bench,
    accept,
    drops,
    events,
    executor,
    registration,
    reregistration,
    resources,
    scheduler_call,
    sent,
    statuses,
    subscription,
    task,
)
from tests.master.bench import group as group_of
from tests.master.http_peers import HttpTestCase
from tests.model.test_authorization import rules


def bench(permissive: bool = True, **lists: Any) -> Bench:
    """Return a master with these ACLs."""
    return Bench(authorizer=LocalAuthorizer(rules(permissive, **lists)))


def operation(kind: str, **fields: Any) -> Offer.Operation:
    """Return an operation with an id."""
    made = Offer.Operation(type=kind, **fields)
    made.id.value = "op"
    return made


def reserved(text: str, principal: str = "p") -> list[Any]:
    """Return resources with dynamic reservations, which C{principal} made."""
    made = Resources.parse(text).to_message(POST)
    for resource in made:
        for layer in resource.reservations:
            layer.type = 2  # type: ignore[assignment]
            layer.principal = principal
    return made


class Frameworks(SynchronousTestCase):
    """In which roles a framework may be."""

    lists: Any = {"register_frameworks": [(["p"], ["eng", "eng/%"]), ("ANY", "NONE")]}

    def refusal(self, master: Bench, peer: Any, call: Call) -> str:
        effects = master.receive(peer, call)
        (event,) = events(effects, peer, Event.ERROR)
        self.assertEqual(drops(effects), [peer])
        return event.error.message

    def test_in_its_role(self) -> None:
        bench(**self.lists).subscribe(principal="p", role="eng")

    def test_not_in_others(self) -> None:
        master = bench(**self.lists)
        for fields in ({"role": "ops", "principal": "p"}, {"role": "eng"}, {"principal": "q"}):
            peer = master.connect(PeerKind.FRAMEWORK)
            role = fields.get("role", "*")
            self.assertEqual(
                self.refusal(master, peer, subscription(**fields)),
                f"Not authorized to register framework  with roles {{ {role} }}",
            )
        self.assertEqual(master.state.frameworks, {})

    def test_in_all_of_them_or_none(self) -> None:
        master = bench(**self.lists)
        info = {"principal": "p", "roles": ["eng/web", "eng/api"]}
        master.subscribe(MULTI_ROLE, **info)
        peer = master.connect(PeerKind.FRAMEWORK)
        call = subscription(MULTI_ROLE, principal="p", roles=["eng/web", "ops", "eng"])
        self.assertEqual(
            self.refusal(master, peer, call),
            "Not authorized to register framework  with roles { eng, eng/web, ops }",
        )

    def test_the_principal_that_was_proved_counts(self) -> None:
        master = bench(**self.lists)
        peer = master.connect(PeerKind.FRAMEWORK, principal="p")
        effects = master.receive(peer, subscription(role="eng"))
        self.assertEqual(len(events(effects, peer, Event.SUBSCRIBED)), 1)

    def test_nor_when_it_comes_back_or_changes_what_it_says(self) -> None:
        master = bench(**self.lists)
        peer, framework_id = master.subscribe(
            MULTI_ROLE, principal="p", roles=["eng"], failover_timeout=100.0
        )
        call = scheduler_call(Call.UPDATE_FRAMEWORK, framework_id)
        call.update_framework.framework_info.CopyFrom(master.state.frameworks[framework_id].info)
        call.update_framework.framework_info.roles.append("ops")
        status, why = master.call(peer, call)
        self.assertEqual(status, 403)
        self.assertEqual(
            why, f"Not authorized to register framework {framework_id} with roles {{ eng, ops }}"
        )
        self.assertEqual(master.state.frameworks[framework_id].roles, ("eng",))
        call.update_framework.framework_info.roles[:] = ["eng/web"]
        self.assertEqual(master.call(peer, call), (202, ""))
        again = master.connect(PeerKind.FRAMEWORK)
        back = subscription(MULTI_ROLE, id=framework_id, principal="p", roles=["ops"])
        self.refusal(master, again, back)
        self.assertEqual(master.state.frameworks[framework_id].roles, ("eng/web",))


class Tasks(SynchronousTestCase):
    """As whom tasks may run."""

    def launch(self, *infos: Any, group: bool = False, **lists: Any) -> tuple[Any, Any, Any]:
        master = bench(**(lists or {"run_tasks": [(["p"], ["alice"]), ("ANY", "NONE")]}))
        agent, _ = master.register(resources="cpus:4;mem:2048;disk:1000")
        peer, _ = master.subscribe(principal="p")
        offer = master.offer(peer)
        tasks = [task(offer, f"t{number}", **fields) for number, fields in enumerate(infos)]
        if group:
            info = ExecutorInfo(type=ExecutorInfo.DEFAULT)
            info.executor_id.value = "e"
            info.framework_id.CopyFrom(offer.framework_id)
            info.resources.extend(resources("cpus:0.1;mem:32;disk:1"))
            effects = master.receive(peer, group_of(offer, info, *tasks))
        else:
            effects = master.launch(peer, offer, *tasks)
        return effects, peer, agent

    def told(self, effects: Any, peer: Any) -> list[tuple[str, str]]:
        return [
            (TaskStatus.Reason.Name(one.reason), one.message) for one in statuses(effects, peer)
        ]

    def test_as_the_frameworks_user(self) -> None:
        effects, peer, agent = self.launch({})
        self.assertEqual(statuses(effects, peer), [])
        self.assertEqual(len(sent(effects, agent, "RunTaskMessage")), 1)

    def test_not_as_another(self) -> None:
        root = CommandInfo(value="true", user="root")
        effects, peer, agent = self.launch({"command": root}, {})
        ((reason, why),) = self.told(effects, peer)
        self.assertEqual(reason, "REASON_TASK_UNAUTHORIZED")
        self.assertRegex(
            why,
            "^Principal 'p' not authorized to launch task t0 of framework .*-0000 under user"
            " 'root'$",
        )
        (ran,) = sent(effects, agent, "RunTaskMessage")
        self.assertEqual(ran.task.task_id.value, "t1")

    def test_nor_by_way_of_an_executor(self) -> None:
        of_root = executor("e")
        of_root.command.user = "root"
        effects, peer, _ = self.launch({"executor": of_root})
        self.assertEqual(self.told(effects, peer)[0][0], "REASON_TASK_UNAUTHORIZED")

    def test_what_is_invalid_and_unauthorized_is_unauthorized(self) -> None:
        invalid = {"command": CommandInfo(value="true", user="root"), "executor": executor("e")}
        effects, peer, _ = self.launch(invalid)
        self.assertEqual(self.told(effects, peer)[0][0], "REASON_TASK_UNAUTHORIZED")

    def test_a_group_runs_as_a_whole_or_not(self) -> None:
        root = CommandInfo(value="true", user="root")
        effects, peer, agent = self.launch({}, {"command": root}, group=True)
        told = self.told(effects, peer)
        self.assertEqual(len(told), 2)
        for reason, why in told:
            self.assertEqual(reason, "REASON_TASK_GROUP_UNAUTHORIZED")
            self.assertRegex(why, "^Task 't1' is not authorized to launch task t1 of framework ")
        self.assertEqual(sent(effects, agent), [])
        effects, peer, agent = self.launch({}, {}, group=True)
        self.assertEqual(len(sent(effects, agent, "RunTaskGroupMessage")), 1)

    def test_what_was_offered_comes_back(self) -> None:
        master = bench(run_tasks=[("ANY", "NONE")])
        master.register()
        peer, _ = master.subscribe()
        offer = master.offer(peer)
        master.launch(peer, offer, task(offer, "t"))
        self.assertEqual(list(master.offer(peer).resources), list(offer.resources))


class Operations(SynchronousTestCase):
    """What frameworks may reserve, make volumes of, and free."""

    def refusal(self, made: Offer.Operation, **lists: Any) -> str:
        master = bench(**lists)
        master.register()
        peer, _ = master.subscribe(principal="p")
        offer = master.offer(peer)
        call = accept(offer)
        call.accept.operations.append(made)
        (event,) = events(master.receive(peer, call), peer, Event.UPDATE_OPERATION_STATUS)
        return event.update_operation_status.status.message

    def test_each_kind_is_asked_about(self) -> None:
        volume = reserved("disk(eng):10")[0]
        volume.disk.persistence.id, volume.disk.persistence.principal = "v", "q"
        volume.disk.volume.container_path, volume.disk.volume.mode = "d", 1
        source = reserved("disk(eng):10")[0]
        source.disk.source.type = 4  # RAW
        source.provider_id.value = "x"
        mine = reserved("cpus(eng):1")
        for made, name, action, value in (
            (operation("RESERVE", reserve={"resources": mine}), "reserve_resources", 4, "eng"),
            (operation("UNRESERVE", unreserve={"resources": mine}), "unreserve_resources", 5, "p"),
            (operation("CREATE", create={"volumes": [volume]}), "create_volumes", 6, "eng"),
            (operation("DESTROY", destroy={"volumes": [volume]}), "destroy_volumes", 7, "q"),
            (
                operation("GROW_VOLUME", grow_volume={"volume": volume, "addition": source}),
                "resize_volumes",
                42,
                "eng",
            ),
            (
                operation(
                    "SHRINK_VOLUME", shrink_volume={"volume": volume, "subtract": {"value": 1}}
                ),
                "resize_volumes",
                42,
                "eng",
            ),
            (
                operation("CREATE_DISK", create_disk={"source": source, "target_type": 2}),
                "create_mount_disks",
                45,
                "eng",
            ),
            (
                operation("DESTROY_DISK", destroy_disk={"source": source}),
                "destroy_raw_disks",
                49,
                "eng",
            ),
        ):
            self.assertEqual(
                self.refusal(made, **{name: [("ANY", "NONE")]}),
                f"Principal 'p' not authorized to perform action {Action(action).name}"
                f" on object '{value}'",
            )
            allowed = self.refusal(made, **{name: [(["p"], [value]), ("ANY", "NONE")]})
            self.assertIn("are not supported by this master", allowed)

    def test_reserving_anew_takes_what_leads_there(self) -> None:
        source, target = reserved("cpus(a/b):1", "q"), reserved("cpus(a/c):1")
        for one in (source[0], target[0]):
            one.reservations.insert(0, type(one.reservations[0])(type=2, role="a", principal="r"))
        needed = [
            (action.name, thing.values)
            for action, thing in authorizing.needed_for(
                operation("RESERVE", reserve={"source": source, "resources": target})
            )
        ]
        self.assertEqual(needed, [("UNRESERVE_RESOURCES", ("q",)), ("RESERVE_RESOURCES", ("a/c",))])

    def test_who_reserved_it_is_not_known(self) -> None:
        nobodys = reserved("cpus(eng):1")
        nobodys[0].reservations[0].ClearField("principal")
        made = operation("UNRESERVE", unreserve={"resources": nobodys})
        some = self.refusal(made, unreserve_resources=[(["p"], ["p"]), ("ANY", "NONE")])
        self.assertIn("UNRESERVE_RESOURCES on ANY object", some)
        every = self.refusal(made, unreserve_resources=[(["p"], "ANY"), ("ANY", "NONE")])
        self.assertIn("are not supported", every)


class Agents(SynchronousTestCase):
    """Who may register as an agent, and with what reserved."""

    lists: Any = {"register_agents": [(["agents"], "ANY"), ("ANY", "NONE")]}

    def register(self, master: Bench, principal: str | None, amounts: str = "cpus:1") -> Any:
        peer = master.connect(PeerKind.AGENT, principal=principal)
        return master.call(peer, registration("host", amounts))

    def test_whoever_may(self) -> None:
        master = bench(**self.lists)
        self.assertEqual(self.register(master, "agents"), (202, ""))
        self.assertEqual(len(master.state.agents), 1)

    def test_nobody_else(self) -> None:
        master = bench(**self.lists)
        self.assertEqual(
            self.register(master, "p"),
            (
                403,
                "Not authorized to register agent providing resources 'cpus:1' with principal 'p'",
            ),
        )
        status, why = self.register(master, None)
        self.assertEqual(status, 403)
        self.assertTrue(why.endswith("'cpus:1' without a principal"), why)
        self.assertEqual(master.state.agents, {})

    def test_who_may_not_takes_nobodys_place(self) -> None:
        """An agent at the address of one that is away is taken for it, if it may be any."""
        master = bench(**self.lists)
        peer = master.connect(PeerKind.AGENT, principal="agents")
        master.receive(peer, registration("host"))
        master.lose(peer)
        stranger = master.connect(PeerKind.AGENT)
        self.assertEqual(master.call(stranger, registration("host"))[0], 403)
        self.assertEqual(len(master.state.agents), 1)

    def test_static_reservations(self) -> None:
        master = bench(
            **self.lists, reserve_resources=[(["agents"], ["eng", "*"]), ("ANY", "NONE")]
        )
        self.assertEqual(self.register(master, "agents", "cpus(eng):1;mem:64")[0], 202)
        status, why = self.register(master, "agents", "cpus(ops):1")
        self.assertEqual(status, 403)
        self.assertIn("Not authorized to register agent providing resources", why)

    def test_nor_when_it_comes_back(self) -> None:
        master = bench(**self.lists)
        peer = master.connect(PeerKind.AGENT, principal="agents")
        effects = master.receive(peer, registration("host"))
        agent_id = sent(effects, peer, "SlaveRegisteredMessage")[0].slave_id.value
        master.lose(peer)
        stranger = master.connect(PeerKind.AGENT, principal="p")
        status, why = master.call(stranger, reregistration(agent_id, "host"))
        self.assertEqual(status, 403)
        self.assertTrue(why.startswith("Not authorized to reregister agent providing"), why)
        self.assertFalse(master.state.agents[next(iter(master.state.agents))].connected)

    def test_resources_that_cannot_be_read_are_no_way_in(self) -> None:
        master = bench(**self.lists)
        message = registration("host")
        message.slave.resources.add(name="cpus", type=0).scalar.value = 1
        message.slave.resources[-1].reservations.add(role="a b")
        peer = master.connect(PeerKind.AGENT)
        self.assertIn(master.call(peer, message)[0], (400, 403))


class OperatorCalls(SynchronousTestCase):
    """What operators may change."""

    def asked(self, call: OperatorCall, **lists: Any) -> bool:
        master = bench()
        master.subscribe(principal="f")
        who = Subject("p", LocalAuthorizer(rules(**lists)))
        framework_id = next(iter(master.state.frameworks))
        if call.HasField("teardown"):
            call.teardown.framework_id.value = framework_id
        return authorizing.may_call(master.state, who, call)

    def test_each_change_is_asked_about(self) -> None:
        mine = reserved("disk(eng):10")
        mine[0].disk.persistence.principal = "q"
        agent = {"agent_id": {"value": "a"}}
        for fields, name, things in (
            ({"teardown": {}}, "teardown_frameworks", ["f"]),
            (
                {"update_weights": {"weight_infos": [{"role": "r", "weight": 1.0}]}},
                "update_weights",
                ["r"],
            ),
            ({"update_quota": {"quota_configs": [{"role": "r"}]}}, "update_quotas", ["r"]),
            ({"set_quota": {"quota_request": {"role": "r"}}}, "update_quotas", ["r"]),
            ({"remove_quota": {"role": "r"}}, "update_quotas", ["r"]),
            ({"reserve_resources": {**agent, "resources": mine}}, "reserve_resources", ["eng"]),
            ({"unreserve_resources": {**agent, "resources": mine}}, "unreserve_resources", ["p"]),
            ({"create_volumes": {**agent, "volumes": mine}}, "create_volumes", ["eng"]),
            ({"destroy_volumes": {**agent, "volumes": mine}}, "destroy_volumes", ["q"]),
            ({"grow_volume": {"volume": mine[0]}}, "resize_volumes", ["eng"]),
            ({"shrink_volume": {"volume": mine[0]}}, "resize_volumes", ["eng"]),
            ({"drain_agent": agent}, "drain_agents", "ANY"),
            ({"drain_agent": {**agent, "mark_gone": True}}, "mark_agents_gone", "ANY"),
            ({"deactivate_agent": agent}, "deactivate_agents", "ANY"),
            ({"reactivate_agent": agent}, "reactivate_agents", "ANY"),
            ({"mark_agent_gone": agent}, "mark_agents_gone", "ANY"),
            ({"set_logging_level": {}}, "set_log_level", "ANY"),
            ({"start_maintenance": {}}, "start_maintenances", "ANY"),
            ({"stop_maintenance": {}}, "stop_maintenances", "ANY"),
            ({"update_maintenance_schedule": {}}, "update_maintenance_schedules", "ANY"),
        ):
            kind = next(iter(fields)).upper()
            call = OperatorCall(type=kind, **fields)
            self.assertTrue(self.asked(call), kind)
            self.assertTrue(self.asked(call, **{name: [(["p"], things), ("ANY", "NONE")]}), kind)
            self.assertFalse(self.asked(call, **{name: [("ANY", "NONE")]}), kind)

    def test_an_agent_may_be_drained_and_not_marked_gone(self) -> None:
        call = OperatorCall(type="DRAIN_AGENT")
        call.drain_agent.agent_id.value = "a"
        lists: Any = {"mark_agents_gone": [("ANY", "NONE")]}
        self.assertTrue(self.asked(call, **lists))
        call.drain_agent.mark_gone = True
        self.assertFalse(self.asked(call, **lists))

    def test_a_framework_that_is_not_there_is_told_so(self) -> None:
        who = Subject("p", LocalAuthorizer(rules(False)))
        self.assertTrue(authorizing.may_tear_down(bench().state, who, "nobody"))


class Doors(SynchronousTestCase):
    """Every call and every message says what it needs."""

    def test_calls_of_frameworks(self) -> None:
        self.assertEqual(set(authorizing.SCHEDULER_CALLS), set(Call.Type.keys()))

    def test_calls_of_operators(self) -> None:
        self.assertEqual(set(authorizing.OPERATOR_CALLS), set(OperatorCall.Type.keys()))

    def test_messages_of_agents(self) -> None:
        self.assertEqual(set(authorizing.AGENT_MESSAGES), set(calls.HANDLERS[PeerKind.AGENT]))
        self.assertEqual(set(calls.HANDLERS[PeerKind.FRAMEWORK]), {Call})
        for kind in (PeerKind.TOOL, PeerKind.EXECUTOR, PeerKind.MASTER, PeerKind.UNKNOWN):
            self.assertEqual(set(calls.HANDLERS[kind]), set(), "it needs a table here")

    def test_what_is_needed_or_why_nothing_is(self) -> None:
        for table in (
            authorizing.SCHEDULER_CALLS,
            authorizing.OPERATOR_CALLS,
            authorizing.AGENT_MESSAGES,
            authorizing.ROUTES,
        ):
            for door, needed in table.items():
                self.assertNotEqual(bool(needed.actions), bool(needed.why), door)


class WithoutAcls(SynchronousTestCase):
    """Where nobody decides, nothing is asked."""

    def test_nothing_is_asked(self) -> None:
        def fail(*_: object) -> None:
            raise AssertionError("asked")

        for name in ("registration_error", "launch_error", "operation_error", "agent_error"):
            self.patch(authorizing, name, fail)
        master = Bench()
        master.register()
        peer, _ = master.subscribe(principal="p")
        offer = master.offer(peer)
        master.launch(peer, offer, task(offer, "t"))

    def test_a_plugged_one_sees_the_whole(self) -> None:
        seen: list[tuple[str | None, Action, Thing]] = []

        @implementer(IAuthorizer)
        class Watching:
            def prepare(self, principal: str | None) -> None:
                pass

            def allows(self, principal: str | None, action: Action, thing: Thing) -> bool:
                seen.append((principal, action, thing))
                return True

        master = Bench()
        master.state.options = replace(master.options, authorizer=Watching())
        master.register()
        peer, _ = master.subscribe(principal="p", name="test")
        offer = master.offer(peer)
        master.launch(peer, offer, task(offer, "t"))
        found = {action: (principal, thing) for principal, action, thing in seen}
        self.assertEqual(found[Action.REGISTER_AGENT][0], None)
        principal, thing = found[Action.REGISTER_FRAMEWORK]
        assert isinstance(thing.framework, FrameworkInfo)
        self.assertEqual((principal, thing.framework.name), ("p", "test"))
        principal, thing = found[Action.RUN_TASK]
        assert isinstance(thing.task, TaskInfo)
        self.assertEqual((thing.id, thing.task.name, thing.values), ("t", "t", ("alice",)))

    def test_refusals_are_noted(self) -> None:
        master = bench(False)
        peer = master.connect(PeerKind.FRAMEWORK)
        effects = master.state.handle(0.0, _received(peer, subscription(principal="p")))
        notes = [one.text for one in effects if isinstance(one, Note)]
        self.assertTrue(any("Not authorized to register framework" in one for one in notes))


def _received(peer: Any, message: Any) -> Any:
    from mesoskit.model.events import Received

    return Received(peer, message)


class OverHttp(HttpTestCase):
    """Frameworks over HTTP are asked about alike."""

    def options(self) -> MasterOptions:
        lists: Any = {"register_frameworks": [(["p"], ["eng"]), ("ANY", "NONE")]}
        return replace(super().options(), authorizer=LocalAuthorizer(rules(**lists)))

    def test_one_that_may_not_is_told_so_on_its_stream(self) -> None:
        stream = self.stream(subscription(principal="p", role="ops"))
        self.assertEqual(stream.head[0], 200)
        self.assertEqual((stream.types(), stream.ended), (["ERROR"], True))
        said = stream.events()[0]["error"]["message"]
        self.assertEqual(said, "Not authorized to register framework  with roles { ops }")

    def test_one_that_may_not_change_its_roles(self) -> None:
        stream = self.stream(subscription(MULTI_ROLE, principal="p", roles=["eng"]))
        self.assertEqual(stream.types(), ["SUBSCRIBED", "HEARTBEAT"])
        call = scheduler_call(Call.UPDATE_FRAMEWORK, stream.framework_id)
        info = call.update_framework.framework_info
        info.CopyFrom(next(iter(self.service.state.frameworks.values())).info)
        info.roles.append("ops")
        status, _, body = self.post(call, stream.id)
        self.assertEqual(status, 403)
        self.assertIn(b"with roles { eng, ops }", body)
