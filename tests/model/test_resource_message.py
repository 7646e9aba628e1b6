"""Resources as messages, in the three forms that travel, and as text."""

import gc
import math

from mesoskit.messages.mesos_pb2 import Resource
from mesoskit.model.disks import Disk, Volume
from mesoskit.model.resource_key import _KEYS, DYNAMIC, STATIC, Reservation, ResourceKey
from mesoskit.model.resources import ENDPOINT, POST, PRE, InvalidResources, Resources
from tests.base import SynchronousTestCase

parse = Resources.parse


class FormatTests(SynchronousTestCase):
    """Before, after and at the endpoints."""

    def one(self, resources, form):
        (message,) = resources.to_message(form)
        return message

    def test_unreserved_has_role_star_in_the_old_form(self):
        cpus = parse("cpus:1")
        self.assertEqual(self.one(cpus, PRE).role, "*")
        self.assertTrue(self.one(cpus, PRE).HasField("role"))
        self.assertFalse(self.one(cpus, POST).HasField("role"))
        self.assertTrue(self.one(cpus, ENDPOINT).HasField("role"))

    def test_static_reservation(self):
        cpus = parse("cpus(web):1")
        old, new, both = (self.one(cpus, form) for form in (PRE, POST, ENDPOINT))
        self.assertEqual((old.role, old.HasField("reservation")), ("web", False))
        self.assertEqual(len(old.reservations), 0)
        self.assertFalse(new.HasField("role"))
        self.assertEqual(new.reservations[0], Resource.ReservationInfo(type="STATIC", role="web"))
        self.assertEqual(both.role, "web")
        self.assertEqual(both.reservations, new.reservations)

    def test_dynamic_reservation(self):
        reservation = Reservation(DYNAMIC, "web", "ann", [("b", None), ("a", "1")])
        cpus = parse("cpus:1").push_reservation(reservation)
        old, new, both = (self.one(cpus, form) for form in (PRE, POST, ENDPOINT))
        self.assertEqual((old.role, old.reservation.principal), ("web", "ann"))
        self.assertFalse(old.reservation.HasField("role") or old.reservation.HasField("type"))
        self.assertEqual([label.key for label in old.reservation.labels.labels], ["a", "b"])
        self.assertFalse(new.HasField("role") or new.HasField("reservation"))
        self.assertTrue(both.HasField("role") and both.HasField("reservation"))
        for message in (old, new, both):
            self.assertEqual(Resources.from_message([message]), cpus)

    def test_dynamic_reservation_without_principal_is_told_from_static(self):
        cpus = parse("cpus:1").push_reservation(Reservation(DYNAMIC, "web"))
        self.assertTrue(self.one(cpus, PRE).HasField("reservation"))
        self.assertEqual(Resources.from_message(cpus.to_message(PRE)), cpus)

    def test_refined_reservation_has_no_old_form(self):
        cpus = parse("cpus(web):1").push_reservation(Reservation(DYNAMIC, "web/db"))
        error = self.assertRaises(InvalidResources, cpus.to_message, PRE)
        self.assertTrue(
            str(error).startswith("Cannot downgrade resources containing refined reservations")
        )
        both = self.one(cpus, ENDPOINT)
        self.assertFalse(both.HasField("role") or both.HasField("reservation"))
        self.assertEqual(len(both.reservations), 2)

    def test_messages_are_complete_and_comparable_with_those_of_mesos(self):
        agent = parse("cpus:4;mem:1024;ports:[31000-32000]")
        expected = [
            Resource(name="cpus", type="SCALAR", scalar={"value": 4}, role="*"),
            Resource(name="mem", type="SCALAR", scalar={"value": 1024}, role="*"),
            Resource(
                name="ports",
                type="RANGES",
                ranges={"range": [{"begin": 31000, "end": 32000}]},
                role="*",
            ),
        ]
        self.assertEqual(agent.to_message(PRE), expected)
        self.assertTrue(all(m.IsInitialized() for m in agent.to_message()))

    def test_everything_a_message_says_is_kept(self):
        message = Resource(
            name="disk",
            type="SCALAR",
            scalar={"value": 1.5},
            allocation_info={"role": "web/db"},
            provider_id={"value": "rp"},
            shared={},
            reservations=[{"type": "DYNAMIC", "role": "web", "principal": ""}],
            disk={
                "persistence": {"id": "id1", "principal": "ann"},
                "volume": {
                    "container_path": "p",
                    "mode": "RO",
                    "source": {"type": "HOST_PATH", "host_path": {"path": "/x"}},
                },
                "source": {
                    "type": "RAW",
                    "id": "r",
                    "profile": "fast",
                    "vendor": "v",
                    "metadata": {"labels": [{"key": "k", "value": "v"}]},
                },
            },
        )
        self.assertEqual(Resources.from_message([message]).to_message(), [message])
        message = Resource(
            name="disk",
            type="SCALAR",
            scalar={"value": 1},
            revocable={},
            disk={"source": {"type": "PATH", "path": {"root": "/p"}, "mount": {}}},
        )
        self.assertEqual(Resources.from_message([message]).to_message(), [message])

    def test_messages_handed_out_are_lists_of_their_own(self):
        cpus = parse("cpus:1")
        cpus.to_message().clear()
        self.assertEqual(len(cpus.to_message()), 1)

    def test_floats_are_bit_for_bit_those_of_mesos(self):
        for value in (0.1, 0.3, 1.7, 45.55, 123456.789):
            (message,) = Resources.of(cpus=value).to_message()
            whole, rest = divmod(round(value * 1000), 1000)
            self.assertEqual(message.scalar.value, float(whole) + rest / 1000.0)


class ReadingTests(SynchronousTestCase):
    """What comes from elsewhere."""

    def test_what_could_not_be_added_is_left_out(self):
        messages = [
            Resource(name="cpus", type="SCALAR", scalar={"value": value})
            for value in (0, -1, 0.0001, math.nan, math.inf, -math.inf)
        ]
        messages += [
            Resource(name="cpus", type="SCALAR"),
            Resource(name="note", type="TEXT"),
            Resource(name="ports", type="RANGES", ranges={"range": [{"begin": 2, "end": 1}]}),
            Resource(name="disks", type="SET", set={}),
            Resource(),
        ]
        self.assertEqual(Resources.from_message(messages), Resources.EMPTY)

    def test_equal_keys_are_merged(self):
        messages = [Resource(name="cpus", type="SCALAR", scalar={"value": 0.1})] * 3
        self.assertEqual(Resources.from_message(messages).scalar("cpus"), 300)

    def test_messages_read_again_after_a_change_are_not_mistaken(self):
        message = Resource(name="cpus", type="SCALAR", scalar={"value": 1})
        first = Resources.from_message([message])
        self.assertIs(Resources.from_message([message]), first)
        message.scalar.value = 2
        self.assertEqual(Resources.from_message([message]), parse("cpus:2"))
        self.assertEqual(first, parse("cpus:1"))

    def test_long_lists_are_not_remembered(self):
        ports = Resources.of(ports=[(port, port) for port in range(1, 2001, 2)])
        messages = ports.to_message()
        first, second = Resources.from_message(messages), Resources.from_message(messages)
        self.assertEqual(first, ports)
        self.assertIsNot(first, second)

    def test_keys_that_nobody_uses_are_forgotten(self):
        names = [f"forgotten-{number}" for number in range(10)]
        kept = [ResourceKey(name).allocated_to("x") for name in names]
        del kept
        gc.collect()
        self.assertEqual([fields for fields in _KEYS if fields[0] in names], [])


class TextTests(SynchronousTestCase):
    """What C{--resources} takes."""

    def test_short_syntax(self):
        total = parse("cpus:45.55;ports:[10000-20000, 30000-50000];disks:{sda1, sda2}")
        self.assertEqual(
            str(total), "cpus:45.55; ports:[10000-20000, 30000-50000]; disks:{sda1, sda2}"
        )

    def test_roles(self):
        total = parse("cpus(role1):2;mem ( role2 ):3;disk(*):4;gpus:1", "other")
        self.assertEqual(
            [(key.name, key.role, [r.type for r in key.reservations]) for key, _ in total],
            [
                ("cpus", "role1", [STATIC]),
                ("mem", "role2", [STATIC]),
                ("disk", "*", []),
                ("gpus", "other", [STATIC]),
            ],
        )

    def test_what_is_given_twice_adds_up(self):
        self.assertEqual(
            parse("cpus:1;cpus:2;ports:[1-2];ports:[3-4]"), parse("ports:[1-4];cpus:3")
        )

    def test_blanks_and_empty_parts_do_not_count(self):
        self.assertEqual(parse(" cpus : 1 ;;mem: 2;"), parse("cpus:1;mem:2"))
        self.assertEqual(parse(""), Resources.EMPTY)

    def test_numbers_are_read_as_numbers(self):
        for text, value in (("1e2", 100.0), (".5", 0.5), ("2.", 2.0), ("+3", 3.0), ("007", 7.0)):
            self.assertEqual(parse(f"cpus:{text}"), Resources.of(cpus=value))
        self.assertEqual(parse("ports:[0x10-+17]"), parse("ports:[16-17]"))
        for text in ("1_0", "0x10", "nan", "1,5", "١"):
            self.assertRaises(InvalidResources, parse, f"cpus:{text}")
        self.assertRaises(InvalidResources, parse, "ports:[1-18446744073709551616]")

    def test_json_syntax(self):
        text = """[
          {"name": "cpus", "type": "SCALAR", "scalar": {"value": 45.55}},
          {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 4}]}},
          {"name": "pandas", "type": "SET", "set": {"item": ["lun_lun", "yang_yang"]}},
          {"name": "mem", "type": "SCALAR", "scalar": {"value": 3}, "role": "web"},
          {"name": "disk", "type": "SCALAR", "scalar": {"value": 3},
           "reservations": [{"type": "STATIC", "role": "db"}],
           "disk": {"source": {"type": "PATH", "path": {"root": "/mnt"}}}}
        ]"""
        self.assertEqual(
            str(parse(text)),
            "cpus:45.55; ports:[1-4]; pandas:{lun_lun, yang_yang};"
            " mem(reservations: [(STATIC,web)]):3;"
            " disk(reservations: [(STATIC,db)])[PATH:/mnt]:3",
        )
        self.assertEqual(parse(text, "dev").reserved_to("dev").names(), ("cpus", "ports", "pandas"))
        self.assertEqual(parse("[]"), Resources.EMPTY)

    def test_nothing_deep_breaks_the_parser(self):
        for text in ("[" * 100_000, "[" * 100_000 + "]" * 100_000, '[{"a":' * 5000):
            self.assertRaises(InvalidResources, parse, text)

    def test_scalars_show_three_decimals_and_15_digits(self):
        for value, text in ((1.234, "1.234"), (1.2345, "1.235"), (1024, "1024"), (0.001, "0.001")):
            self.assertEqual(str(Resources.of(cpus=value)), f"cpus:{text}")
        self.assertEqual(str(Resources.of(cpus=123456789012.345)), "cpus:123456789012.345")

    def test_disk_of_a_volume_is_shown(self):
        key = ResourceKey("disk", disk=Disk("id", volume=Volume("p")))
        self.assertEqual(str(Resources([(key, 1500)])), "disk[id:p]:1.5")
