"""What is computed with resources."""

from operator import add, sub

from mesoskit.model.quantities import Limits, Quantities
from mesoskit.model.resource_key import DYNAMIC, STATIC, Reservation, ResourceKey
from mesoskit.model.resource_shrinking import limited_to, shrunk_to
from mesoskit.model.resources import InvalidResources, NotContained, Resources
from mesoskit.model.values import RANGES, SET
from tests.base import SynchronousTestCase

parse = Resources.parse

WEB = Reservation(DYNAMIC, "web", "ann")
WEB_DB = Reservation(DYNAMIC, "web/db", "ann", [("k", "v")])


class ArithmeticTests(SynchronousTestCase):
    """Addition, subtraction, comparison."""

    def test_scalars_of_one_role_add_up(self):
        self.assertEqual(parse("cpus:1;mem:5") + parse("cpus:2;mem:10"), parse("cpus:3;mem:15"))

    def test_scalars_of_different_roles_stay_apart(self):
        both = parse("cpus(a):1") + parse("cpus(b):3")
        self.assertEqual(len(both), 2)
        self.assertEqual(both.scalar("cpus"), 4000)
        self.assertNotEqual(both, parse("cpus(a):4"))
        self.assertFalse(both.contains(parse("cpus(a):2")))

    def test_result_of_nothing_is_false(self):
        nothing = parse("cpus:1") - parse("cpus:1")
        self.assertFalse(nothing)
        self.assertEqual(nothing, Resources.EMPTY)
        self.assertEqual(str(nothing), "{}")

    def test_zero_is_left_out(self):
        self.assertEqual(parse("cpus:0;ports:[];disks:{}"), Resources.EMPTY)
        self.assertEqual(Resources.of(cpus=0.0, mem=1), Resources.of(mem=1))

    def test_order_does_not_matter(self):
        a, b = parse("cpus:1;mem:2"), parse("mem:2;cpus:1")
        self.assertEqual(a, b)
        self.assertEqual(hash(a), hash(b))

    def test_subtraction_names_what_is_missing(self):
        for lacking in ("cpus:3", "mem:1", "ports:[5-6]", "cpus(web):1"):
            a, b = parse("cpus:2;ports:[1-5]"), parse(lacking)
            error = self.assertRaises(NotContained, sub, a, b)
            self.assertEqual(str(error), f"{a} does not contain {b}")

    def test_minus_takes_what_there_is(self):
        a = parse("cpus:2;mem:4;ports:[1-5];disks:{a,b}")
        b = parse("cpus:3;mem:1;ports:[4-9];disks:{b,c};gpus:1")
        self.assertEqual(a.minus(b), parse("mem:3;ports:[1-3];disks:{a}"))

    def test_operands_are_not_changed(self):
        a, b = parse("cpus:2;ports:[1-9];disks:{a}"), parse("cpus:1;ports:[3-4];disks:{b}")
        before = str(a), str(b)
        _ = a + b, a.minus(b), a.allocated("web"), a.to_unreserved(), a.push_reservation(WEB)
        self.assertEqual((str(a), str(b)), before)

    def test_ranges_are_joined_and_cut(self):
        cases = [
            ("[1-2]", "[3-4]", "[1-4]"),
            ("[1-10]", "[5-30]", "[1-30]"),
            ("[1-10]", "[50-60]", "[1-10, 50-60]"),
            ("[2-4, 6-8]", "[5-5]", "[2-8]"),
            ("[1-4, 9-10, 20-22, 26-30]", "[5-8, 23-25]", "[1-10, 20-30]"),
        ]
        for left, right, union in cases:
            self.assertEqual(
                parse(f"ports:{left}") + parse(f"ports:{right}"), parse(f"ports:{union}")
            )
        cases = [
            ("[3-8]", "[3-5]", "[6-8]"),
            ("[3-8]", "[5-8]", "[3-4]"),
            ("[3-8]", "[5-6]", "[3-4, 7-8]"),
            ("[1-10, 20-30]", "[5-6, 20-20, 29-30]", "[1-4, 7-10, 21-28]"),
        ]
        for left, right, rest in cases:
            self.assertEqual(
                parse(f"ports:{left}") - parse(f"ports:{right}"), parse(f"ports:{rest}")
            )

    def test_ranges_contain_across_parts_only(self):
        ports = parse("ports:[1-5, 8-10]")
        self.assertTrue(ports.contains(parse("ports:[2-3, 8-8]")))
        self.assertFalse(ports.contains(parse("ports:[5-8]")))
        self.assertFalse(ports.contains(parse("ports:[6-7]")))

    def test_sets_are_sets(self):
        a = parse("disks:{a,b}")
        self.assertEqual(a + parse("disks:{b,c}"), parse("disks:{c,b,a}"))
        self.assertEqual(a - parse("disks:{a}"), parse("disks:{b}"))
        self.assertRaises(NotContained, lambda: a - parse("disks:{a,c}"))

    def test_revocable_is_kept_apart(self):
        revocable = parse("cpus:1").map_keys(lambda key: key.replace(revocable=True))
        both = parse("cpus:2") + revocable
        self.assertEqual(str(both), "cpus:2; cpus{REV}:1")
        self.assertEqual((both.revocable(), both.non_revocable()), (revocable, parse("cpus:2")))
        self.assertFalse(parse("cpus:2").contains(revocable))

    def test_providers_are_kept_apart(self):
        one = parse("disk:5").map_keys(lambda key: key.replace(provider_id="rp"))
        self.assertEqual(len(one + parse("disk:5")), 2)
        self.assertEqual((one + one).scalar("disk"), 10_000)

    def test_reservations_differ_by_principal_and_labels(self):
        cpus = parse("cpus:1")
        stacks = [
            Reservation(STATIC, "web"),
            Reservation(DYNAMIC, "web"),
            WEB,
            Reservation(DYNAMIC, "web", "ann", [("k", "v")]),
        ]
        total = Resources.sum(cpus.push_reservation(r) for r in stacks)
        self.assertEqual(len(total), 4)
        self.assertEqual(total.reserved(), {"web": total})

    def test_labels_in_any_order_are_the_same_reservation(self):
        one, other = (
            Reservation(DYNAMIC, "web", None, labels)
            for labels in ([("a", "1"), ("b", None)], [("b", None), ("a", "1")])
        )
        self.assertEqual(one, other)
        self.assertEqual(
            parse("cpus:1").push_reservation(one), parse("cpus:1").push_reservation(other)
        )

    def test_other_types_are_no_operands(self):
        a = parse("cpus:1")
        self.assertRaises(TypeError, add, a, 1)
        self.assertRaises(TypeError, sub, a, None)
        self.assertFalse(a == 1)

    def test_value_beyond_one_word_is_still_exact(self):
        large = Resources.of(mem=2**40)
        self.assertEqual((large + large - large).scalar("mem"), 2**40 * 1000)
        self.assertEqual(
            parse("ports:[0-18446744073709551615]").quantities()["ports"], 2**64 * 1000
        )


class AmountTests(SynchronousTestCase):
    """How much there is."""

    def test_scalars_are_summed_over_roles(self):
        total = parse("cpus:1.5;cpus(a):2;cpus(b):0.001")
        self.assertEqual(total.scalar("cpus"), 3501)
        self.assertEqual(total.scalar("mem"), 0)

    def test_quantities_count_ranges_and_sets(self):
        total = parse("cpus:1;ports:[1-10,20-20];ports(a):[5-5];disks:{a,b}")
        self.assertEqual(dict(total.quantities()), {"cpus": 1000, "disks": 2000, "ports": 12000})

    def test_names_and_ranges(self):
        total = parse("cpus:1;ports:[1-4];cpus(a):1;ports(a):[5-6]")
        self.assertEqual(total.names(), ("cpus", "ports"))
        self.assertEqual(total.ranges("ports"), ((1, 6),))
        self.assertEqual(total.ranges("cpus"), ())

    def test_plain_values_make_resources(self):
        made = Resources.of(cpus=0.5, ports=[(31000, 31001)], disks={"a", "b"}, gpus=2)
        self.assertEqual(made, parse("cpus:0.5;ports:[31000-31001];disks:{a,b};gpus:2"))

    def test_halves_of_thousandths_are_rounded_away(self):
        for value, expected in ((0.0015, 2), (1.2345, 1235), (0.0004, 0), (45.55, 45550)):
            self.assertEqual(Resources.of(cpus=value).scalar("cpus"), expected)

    def test_json_shows_what_the_endpoints_show(self):
        total = parse("cpus:1.5;cpus(a):2;ports:[1-4];ports(a):[8-9];disks:{b,a}")
        total += Resources([(ResourceKey("cpus", revocable=True), 3000)])
        total += Resources([(ResourceKey("ports", RANGES, revocable=True), ((7, 7),))])
        self.assertEqual(
            total.as_json(),
            {
                "cpus": 3.5,
                "gpus": 0.0,
                "mem": 0.0,
                "disk": 0.0,
                "cpus_revocable": 3.0,
                "ports": "[1-4, 8-9]",
                "disks": "{a, b}",
                "ports_revocable": "[7-7]",
            },
        )


class RoleTests(SynchronousTestCase):
    """Reservations and allocations."""

    def test_ancestors_reservations_can_be_allocated(self):
        total = parse("cpus:1;cpus(web):2;cpus(web/db):4;cpus(website):8;cpus(eng):16")
        self.assertEqual(total.allocatable_to("web").scalar("cpus"), 3000)
        self.assertEqual(total.allocatable_to("web/db/x").scalar("cpus"), 7000)
        self.assertEqual(total.allocatable_to("website").scalar("cpus"), 9000)
        self.assertEqual(total.allocatable_to("*").scalar("cpus"), 1000)

    def test_reserved_is_told_by_the_last_role(self):
        refined = parse("cpus(web):2").push_reservation(WEB_DB)
        total = parse("cpus:1;mem(web):5") + refined
        self.assertEqual(set(total.reserved()), {"web", "web/db"})
        self.assertEqual(total.reserved_to("web"), parse("mem(web):5"))
        self.assertEqual(total.reserved_to("web/db"), refined)
        self.assertEqual(total.reserved_to("*"), Resources.EMPTY)
        self.assertEqual(total.unreserved(), parse("cpus:1"))

    def test_push_and_pop_are_inverse(self):
        bare = parse("cpus:1;ports:[1-2]")
        once = bare.push_reservation(WEB)
        twice = once.push_reservation(WEB_DB)
        self.assertEqual(twice.pop_reservation(), once)
        self.assertEqual(once.pop_reservation(), bare)
        self.assertEqual(twice.to_unreserved(), bare)

    def test_impossible_reservations_are_refused(self):
        reserved = parse("cpus(web):1")
        for resources, reservation, text in (
            (reserved, WEB, "role 'web' is not a refinement of 'web'"),
            (reserved, Reservation(STATIC, "web/db"), "cannot be STATIC"),
            (reserved.to_unreserved(), Reservation(DYNAMIC, "*"), 'role "*" cannot be reserved'),
            (reserved.to_unreserved(), Reservation(DYNAMIC, "a//b"), "two adjacent slashes"),
        ):
            error = self.assertRaises(InvalidResources, resources.push_reservation, reservation)
            self.assertIn(text, str(error))
        self.assertRaises(InvalidResources, parse("cpus:1").pop_reservation)

    def test_resources_of_different_roles_merge_once_unreserved(self):
        total = parse("cpus:1;cpus(a):2;cpus(b):3")
        self.assertEqual(total.to_unreserved(), parse("cpus:6"))

    def test_allocation_is_part_of_the_key(self):
        bare = parse("cpus:1;cpus(web):2")
        web, eng = bare.allocated("web"), parse("cpus:1").allocated("eng")
        self.assertFalse(web.contains(eng))
        self.assertEqual((web + eng).allocation_roles(), {"web", "eng"})
        self.assertEqual((web + eng).allocations(), {"web": web, "eng": eng})
        self.assertEqual((web + eng).unallocated(), bare + parse("cpus:1"))
        self.assertEqual(web.allocated("eng").allocation_roles(), {"eng"})
        self.assertEqual(bare.allocation_roles(), frozenset())
        self.assertIs(bare.allocated("web"), bare.allocated("web"))

    def test_filter_sees_keys(self):
        total = parse("cpus:1;mem:2;cpus(a):1")
        self.assertEqual(total.filter(lambda key: key.name == "mem"), parse("mem:2"))
        self.assertIs(total.filter(lambda key: True), total)
        self.assertEqual(total.with_name("cpus"), parse("cpus:1;cpus(a):1"))


class KeyTests(SynchronousTestCase):
    """Keys are one object each."""

    def test_equal_keys_are_one_object(self):
        one = ResourceKey("cpus", reservations=(WEB,))
        self.assertIs(one, ResourceKey("cpus", reservations=(Reservation(2, "web", "ann"),)))
        self.assertIs(one.allocated_to("x").unallocated(), one)
        self.assertIs(one.popped().pushed(WEB), one)

    def test_keys_tell_what_they_are(self):
        key = ResourceKey("cpus", reservations=(Reservation(STATIC, "web"), WEB_DB))
        self.assertEqual(key.role, "web/db")
        self.assertTrue(key.reserved and key.dynamically_reserved and key.refined)
        self.assertFalse(key.persistent)
        self.assertEqual(ResourceKey("cpus").role, "*")
        self.assertFalse(ResourceKey("cpus", reservations=(Reservation(1, "a"),)).refined)

    def test_text_is_no_kind_of_resource(self):
        self.assertRaises(InvalidResources, ResourceKey, "cpus", 3)

    def test_texts_are_those_of_mesos(self):
        disk = ResourceKey("disk", SET)
        self.assertEqual(str(disk), "disk")
        key = ResourceKey(
            "cpus",
            reservations=(
                Reservation(STATIC, "alice"),
                Reservation(DYNAMIC, "alice/refined", "p", [("foo", "bar"), ("foo", None)]),
            ),
            revocable=True,
            allocation_role="role",
        )
        self.assertEqual(
            str(key),
            "cpus(allocated: role)(reservations: [(STATIC,alice),"
            "(DYNAMIC,alice/refined,p,{foo, foo: bar})]){REV}",
        )


class ShrinkingTests(SynchronousTestCase):
    """Parts of a size."""

    def test_target_is_not_exceeded(self):
        total = parse("cpus:10;mem:100;ports:[1-5]")
        self.assertEqual(
            shrunk_to(total, Quantities.of(cpus=3, mem=200, disk=1)), parse("cpus:3;mem:100")
        )
        self.assertEqual(shrunk_to(total, Quantities.EMPTY), Resources.EMPTY)

    def test_target_counts_over_all_roles(self):
        total = parse("cpus:2;cpus(a):2")
        self.assertEqual(shrunk_to(total, Quantities.of(cpus=3)), parse("cpus:2;cpus(a):1"))

    def test_what_has_no_limit_is_taken_whole(self):
        total = parse("cpus:10;mem:100;ports:[1-5]")
        self.assertEqual(limited_to(total, Limits.of(cpus=3, mem=0)), parse("cpus:3;ports:[1-5]"))
        self.assertEqual(limited_to(total, Limits.NONE), total)
