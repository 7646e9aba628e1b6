"""Who may do what: a decision by table, things as Mesos reads them, and ACLs with their lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from mesoskit.agent import authorizing as agent_authorizing
from mesoskit.master import authorizing as master_authorizing
from mesoskit.messages.mesos_pb2 import (
    CommandInfo,
    ExecutorInfo,
    FrameworkInfo,
    Resource,
    TaskInfo,
)
from mesoskit.model import authorization
from mesoskit.model.authorization import (
    ANYBODY,
    ANYTHING,
    Action,
    IAuthorizer,
    Subject,
    Thing,
    needs,
    needs_inside,
    needs_nothing,
)
from mesoskit.model.authorization_acls import (
    LIST_OF,
    LISTS,
    Acls,
    Entity,
    LocalAuthorizer,
    Rule,
    decide,
)
from mesoskit.model.authorization_text import AclError, parse_acls
from mesoskit.model.resources import Resources
from mesoskit.web.authorizing import SHARED_ROUTES
from tests.base import SynchronousTestCase


def rules(permissive: bool = True, **lists: list[tuple[Any, Any]]) -> Acls:
    """Return ACLs of pairs; C{"ANY"} and C{"NONE"} are types, a list names."""

    def entity(given: Any) -> dict[str, Any]:
        return {"type": given} if isinstance(given, str) else {"values": given}

    whole: dict[str, Any] = {"permissive": permissive}
    for name, pairs in lists.items():
        whole[name] = [
            {"principals": entity(who), LISTS[name].things: entity(what)} for who, what in pairs
        ]
    return parse_acls(json.dumps(whole))


RUN, REGISTER, FLAGS = Action.RUN_TASK, Action.REGISTER_FRAMEWORK, Action.VIEW_FLAGS

#: Cases of C{src/tests/authorization_tests.cpp} and C{docs/authorization.md} of Apache Mesos:
#: the ACLs, then who may (True) or may not (False) do what.
DECISIONS: list[tuple[str, Acls, list[tuple[str | None, Action, Any, bool]]]] = [
    (
        "nothing is said",
        rules(),
        [("p", RUN, ["u"], True), (None, RUN, ["u"], True), ("p", FLAGS, None, True)],
    ),
    (
        "nothing is said, and nothing allowed",
        rules(False),
        [("p", RUN, ["u"], False), (None, RUN, ["u"], False), ("p", FLAGS, None, False)],
    ),
    (
        "any principal as one user",
        rules(run_tasks=[("ANY", ["guest"])]),
        [("p", RUN, ["guest"], True), ("p", RUN, ["root"], True), (None, RUN, ["guest"], True)],
    ),
    (
        "nobody as root",
        rules(run_tasks=[("NONE", ["root"])]),
        [("p", RUN, ["root"], False), (None, RUN, ["root"], False), ("p", RUN, ["u"], True)],
    ),
    (
        "one principal as any user, the others as none",
        rules(run_tasks=[(["p"], "ANY"), ("NONE", "ANY")]),
        [("p", RUN, ["root"], True), ("q", RUN, ["u"], False), (None, RUN, ["u"], False)],
    ),
    (
        "one principal as no user",
        rules(run_tasks=[(["p"], "NONE")]),
        [("p", RUN, ["u"], False), ("q", RUN, ["u"], True), ("p", RUN, None, False)],
    ),
    (
        "the first that speaks decides",
        rules(run_tasks=[(["p"], ["u"]), (["p"], "NONE"), ("ANY", "ANY")]),
        [("p", RUN, ["u"], True), ("p", RUN, ["v"], False), ("q", RUN, ["v"], True)],
    ),
    (
        "some principals as some users, and no more",
        rules(False, run_tasks=[(["p", "q"], ["u", "v"])]),
        [
            ("p", RUN, ["u"], True),
            ("q", RUN, ["v"], True),
            ("q", RUN, ["w"], False),
            ("r", RUN, ["u"], False),
            (None, RUN, ["u"], False),
            ("p", RUN, None, False),
        ],
    ),
    (
        "all roles must be allowed",
        rules(register_frameworks=[(["p"], ["a", "b"]), (["p"], "NONE")]),
        [
            ("p", REGISTER, ["a"], True),
            ("p", REGISTER, ["a", "b"], True),
            ("p", REGISTER, ["a", "c"], False),
            ("p", REGISTER, [], True),
        ],
    ),
    (
        "no role at all",
        rules(False, register_frameworks=[("ANY", "ANY")]),
        [("p", REGISTER, [], False)],
    ),
    (
        "roles under a role",
        rules(False, register_frameworks=[(["p"], ["eng/%", "ops"]), (["q"], ["eng"])]),
        [
            ("p", REGISTER, ["eng/web"], True),
            ("p", REGISTER, ["eng/web/api"], True),
            ("p", REGISTER, ["eng"], False),
            ("p", REGISTER, ["engine/web"], False),
            ("p", REGISTER, ["ops"], True),
            ("p", REGISTER, ["ops/x"], False),
            ("p", REGISTER, None, False),
            ("q", REGISTER, ["eng"], True),
            ("q", REGISTER, ["eng/web"], False),
        ],
    ),
    (
        "a percent sign means nothing to users",
        rules(False, run_tasks=[(["p"], ["eng/%"])]),
        [("p", RUN, ["eng/web"], False), ("p", RUN, ["eng/%"], True)],
    ),
    (
        "what has no name",
        rules(view_flags=[(["ops"], "ANY"), ("ANY", "NONE")]),
        [("ops", FLAGS, None, True), ("p", FLAGS, None, False), (None, FLAGS, None, False)],
    ),
    (
        "both quota actions go by one list",
        rules(update_quotas=[("NONE", ["a"])]),
        [
            ("p", Action.UPDATE_QUOTA, ["a"], False),
            ("p", Action.UPDATE_QUOTA_WITH_CONFIG, ["a"], False),
        ],
    ),
    ("what nobody knows", rules(), [("p", Action.UNKNOWN, None, False)]),
]


class DecideTests(SynchronousTestCase):
    """A decision is one pure function."""

    def test_table(self) -> None:
        for what, acls, cases in DECISIONS:
            for principal, action, values, expected in cases:
                thing = Thing(None if values is None else tuple(values))
                decided = decide(acls, principal, action, thing)
                self.assertIs(decided, expected, (what, principal, action.name, values))

    def test_match_and_allow_matrices(self) -> None:
        """Which rule speaks and what it says, as the matrices of Mesos' local authorizer."""
        named, other, anyone, none = (
            Entity("SOME", ("x",)),
            Entity("SOME", ("y",)),
            Entity("ANY"),
            Entity("NONE"),
        )
        for value, expected in (
            ("x", [True, None, True, False]),
            (None, [None, None, True, False]),
        ):
            decided = [
                Rule(anyone, one).decides("p", value) for one in (named, other, anyone, none)
            ]
            self.assertEqual(decided, expected)

    def test_a_command_within_a_container_needs_both(self) -> None:
        acls = rules(
            launch_nested_containers_under_parent_with_user=[("ANY", ["app"]), ("ANY", "NONE")],
            launch_nested_containers_as_user=[("ANY", ["debug"]), ("ANY", "NONE")],
        )
        for user, within, expected in (
            ("app", "debug", True),
            ("app", "root", False),
            ("root", "debug", False),
            ("app", None, False),
        ):
            thing = Thing((user,), command=CommandInfo(user=within))
            decided = LocalAuthorizer(acls).allows("p", Action.LAUNCH_NESTED_CONTAINER, thing)
            self.assertIs(decided, expected, (user, within))
        alone = Thing(("app",))
        self.assertTrue(decide(acls, "p", Action.LAUNCH_NESTED_CONTAINER, alone))

    def test_every_action_has_a_list(self) -> None:
        self.assertEqual(set(LIST_OF), set(Action) - {Action.UNKNOWN})

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["ANY", "NONE", ["p"], ["q", "p"]]),
                st.sampled_from(["ANY", "NONE", ["u"], ["v", "w"]]),
            ),
            max_size=5,
        ),
        st.booleans(),
        st.sampled_from([None, "p", "q", "r"]),
        st.sampled_from([None, "u", "v", "x"]),
    )
    def test_decisions_are_those_of_the_matrices(
        self,
        pairs: list[tuple[Any, Any]],
        permissive: bool,
        principal: str | None,
        user: str | None,
    ) -> None:
        """The same, said the way Mesos says it, and remembered."""

        def speaks(said: Any, value: str | None) -> bool:
            return said in ("ANY", "NONE") or (value is not None and value in said)

        expected = permissive
        for who, what in pairs:
            if speaks(who, principal) and speaks(what, user):
                expected = "NONE" not in (who, what)
                break
        acls = rules(permissive, run_tasks=pairs)
        authorizer = LocalAuthorizer(acls)
        thing = Thing(None if user is None else (user,))
        self.assertIs(decide(acls, principal, RUN, thing), expected)
        for _ in range(2):
            self.assertIs(authorizer.allows(principal, RUN, thing), expected)


class SubjectTests(SynchronousTestCase):
    """Who asks, and who decides."""

    def test_without_an_authorizer_all_is_allowed(self) -> None:
        self.assertTrue(ANYBODY.may(Action.TEARDOWN_FRAMEWORK))
        self.assertEqual(ANYBODY.key, "")

    def test_keys_tell_principals_apart(self) -> None:
        authorizer = LocalAuthorizer(rules())
        keys = {Subject(who, authorizer).key for who in (None, "None", "", "a", "b")}
        self.assertEqual(len(keys), 5)

    def test_local_authorizer_provides_the_interface(self) -> None:
        authorizer = LocalAuthorizer(rules())
        self.assertTrue(verifyObject(IAuthorizer, authorizer))
        self.assertTrue(authorizer.allows("p", RUN, ANYTHING))

    def test_what_is_remembered_is_bounded(self) -> None:
        authorizer = LocalAuthorizer(rules(False, run_tasks=[(["p"], ["u"])]))
        for number in range(40_000):
            self.assertFalse(authorizer.allows("p", RUN, Thing((f"user-{number}",))))
        self.assertFalse(authorizer.allows("p", RUN, Thing(("u" * 100_000,))))
        self.assertLess(len(authorizer._known), 20_000)
        self.assertTrue(authorizer.allows("p", RUN, Thing(("u",))))

    def test_doors_open_to_whoever_may(self) -> None:
        authorizer = LocalAuthorizer(rules(view_flags=[(["p"], "ANY"), ("ANY", "NONE")]))
        p, q = Subject("p", authorizer), Subject("q", authorizer)
        self.assertTrue(needs(FLAGS).met(p))
        self.assertFalse(needs(FLAGS).met(q))
        self.assertTrue(needs(FLAGS).met(ANYBODY))
        self.assertTrue(needs_inside(FLAGS).met(q))
        self.assertTrue(needs_nothing("because").met(q))
        self.assertEqual(needs(Action.GET_ENDPOINT_WITH_PATH, "/x").thing.values, ("/x",))


class ThingTests(SynchronousTestCase):
    """What counts of a thing."""

    def test_the_user_of_a_task(self) -> None:
        framework = FrameworkInfo(user="f")
        task = TaskInfo()
        self.assertEqual(authorization.of_task(task, framework).values, ("f",))
        task.executor.command.value = "x"
        self.assertEqual(authorization.of_task(task, framework).values, ("f",))
        task.executor.command.user = "e"
        self.assertEqual(authorization.of_task(task, framework).values, ("e",))
        task.command.user = "t"
        self.assertEqual(authorization.of_task(task, framework).values, ("t",))
        self.assertEqual(authorization.of_shown_task(None, framework, "1").values, ("f",))
        self.assertEqual(authorization.of_shown_task("t", framework, "1").values, ("t",))

    def test_the_roles_of_a_framework(self) -> None:
        info = FrameworkInfo(role="one", roles=["b", "a", "b"])
        self.assertEqual(authorization.of_roles(info).values, ("one",))
        info.capabilities.add().type = FrameworkInfo.Capability.MULTI_ROLE
        self.assertEqual(authorization.of_roles(info).values, ("a", "b"))

    def test_the_user_of_an_executor(self) -> None:
        framework = FrameworkInfo(user="f", principal="p")
        self.assertEqual(authorization.of_executor(None, framework).values, ("f",))
        self.assertEqual(authorization.of_executor(ExecutorInfo(), framework).values, ("f",))
        info = ExecutorInfo(command=CommandInfo(user="e"))
        self.assertEqual(authorization.of_executor(info, framework).values, ("e",))
        self.assertEqual(authorization.of_framework(framework).values, ("f",))
        self.assertEqual(authorization.owned_framework(framework).values, ("p",))

    def test_reservations_in_either_form(self) -> None:
        new = Resource(name="cpus")
        new.reservations.add(role="a")
        new.reservations.add(role="a/b", principal="p")
        old = Resource(name="cpus", role="c")
        old.reservation.principal = "q"
        plain = Resource(name="mem")
        things = authorization.of_reservations([new, new, old, plain])
        self.assertEqual([one.values for one in things], [("a/b",), ("c",), ("*",)])
        things = authorization.of_unreserved([new, old, plain])
        self.assertEqual([one.values for one in things], [("p",), ("q",), None])

    def test_who_made_a_volume(self) -> None:
        volume = Resource(name="disk")
        self.assertEqual(authorization.of_volumes([volume]), [ANYTHING])
        volume.disk.persistence.principal = "p"
        self.assertEqual([one.values for one in authorization.of_volumes([volume])], [("p",)])

    def test_roles_of_resources(self) -> None:
        self.assertEqual(authorization.roles_of(Resources.parse("cpus:1")), ())
        some = Resources.parse("cpus(a/b):1;mem:5").allocated("c")
        self.assertEqual(authorization.roles_of(some), ("a/b", "c"))


#: A text, and what is said of it.
MALFORMED = [
    ("", "line 1: no JSON"),
    ("{\n\n}}", "line 3: no JSON"),
    ("[]", "line 1: ACLs must be"),
    ("null", "line 1: ACLs must be"),
    ('{\n"permissive": "yes"}', "line 2: permissive must be true or false, not 'yes'"),
    ('{"run_task": []}', "line 1: there is no list of ACLs 'run_task': did you mean run_tasks?"),
    ('{"run_tasks": [],\n"run_tasks": []}', "line 2: 'run_tasks' is there twice"),
    ('{"run_tasks":\n{}}', "line 1: run_tasks must be a list of ACLs, not an object"),
    ('{"run_tasks": [\n7]}', "line 2: an ACL of run_tasks must be"),
    (
        '{"run_tasks": [\n{"principals": {"type": "ANY"}}]}',
        'line 2: an ACL of run_tasks is {"principals": {...}, "users": {...}}; users is missing',
    ),
    (
        '{"run_tasks": [{"principals": {"type": "ANY"},\n"roles": {"type": "ANY"}}]}',
        "line 2: an ACL of run_tasks is",
    ),
    (
        '{"run_tasks": [{"principals": {"values": ["a"]},\n\n"users": {"type": "any"}}]}',
        "line 3: the type of users of run_tasks must be SOME, ANY or NONE",
    ),
    (
        '{"run_tasks": [{"principals": {"values": ["a",\n1]}, "users": {"type": "ANY"}}]}',
        "line 2: the values of principals of run_tasks must be texts, not 1",
    ),
    (
        '{"run_tasks": [{"principals": {"values": []}, "users": {"type": "ANY"}}]}',
        "line 1: principals of run_tasks must be",
    ),
    (
        '{"run_tasks": [{"principals": {"value": ["a"]}, "users": {"type": "ANY"}}]}',
        "line 1: principals of run_tasks must be",
    ),
    (
        '{"view_flags": [{"principals": {"values": ["a"]}, "flags": {"values": ["x"]}}]}',
        "line 1: flags of view_flags can only be of type ANY or NONE",
    ),
    (
        '{"get_endpoints": [{"principals": {"values": ["a"]}, "paths": {"values": ["/state"]}}]}',
        "line 1: '/state' is not an authorizable path",
    ),
    ("[" * 100_000, "line 1: n"),
    ('{"x": ' + "[" * 500 + "]" * 500 + "}", "line 1: nested too deeply"),
    ("1" * 10_000, "line 1: no JSON"),
]

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["ANY", "p"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["run_tasks", "permissive", "principals", "users", "values", "type", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


class TextTests(SynchronousTestCase):
    """ACLs are read strictly, and the line of what is wrong is named."""

    def test_malformed(self) -> None:
        for text, said in MALFORMED:
            error = self.assertRaises(AclError, parse_acls, text, "acls.json")
            self.assertIn(f"acls.json, {said}", str(error))
            self.assertLess(len(str(error)), 1000)

    def test_lines_are_those_of_an_editor(self) -> None:
        text = json.dumps(
            {
                "permissive": False,
                "run_tasks": [
                    {"principals": {"values": ["a\nb{", "c"]}, "users": {"values": ['"}']}},
                    {"principals": {"type": "ANY"}, "users": {"type": "SOME"}},
                ],
            },
            indent=1,
        )
        wrong = next(number for number, line in enumerate(text.splitlines(), 1) if '"SOME"' in line)
        error = self.assertRaises(AclError, parse_acls, text)
        self.assertIn(f"line {wrong - 1}: ", str(error))

    @given(_json)
    def test_any_json_is_read_or_refused(self, given_: Any) -> None:
        try:
            acls = parse_acls(json.dumps(given_, indent=2))
        except AclError as error:
            self.assertIn("line ", str(error))
        else:
            self.assertIsInstance(decide(acls, "p", RUN, Thing(("p",))), bool)

    @given(st.text(alphabet='{}[]":,\\ \nrun_tasks01eE.-', max_size=60))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            parse_acls(text)
        except AclError as error:
            self.assertIn("line ", str(error))


class DocsTests(SynchronousTestCase):
    """C{docs/security.md} says what each list is asked at."""

    def test_every_list_and_every_door_is_there(self) -> None:
        text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
        section = text.split("## Who may do what\n")[1].split("\n## ")[0]
        for name, about in LISTS.items():
            self.assertIn(f"`{name}`", section)
            rows = [line for line in section.splitlines() if f"`{name}`" in line and "|" in line]
            self.assertTrue(any(f"`{about.things}`" in row or about.nameless for row in rows), name)
        doors = {
            *master_authorizing.OPERATOR_CALLS,
            *(f"`/{path}`" for path in master_authorizing.ROUTES if path not in _NO_DOORS),
            *(f"`/{path}`" for path in agent_authorizing.ROUTES if path not in _NO_DOORS),
            *(f"`/{path}`" for path in SHARED_ROUTES if path not in _NO_DOORS),
        } - {"UNKNOWN"}
        missing = sorted(
            door for door in doors if door.strip("`") not in section.replace("PUT /", "/")
        )
        self.assertEqual(missing, [])


#: Paths whose calls have rows of their own, or that do nothing.
_NO_DOORS = (
    "api/v1",
    "api/v1/scheduler",
    "api/v1/executor",
    "containerizer/debug",
    "profiler/start",
    "profiler/stop",
)
