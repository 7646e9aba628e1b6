"""JSON <-> message by Mesos' rules: what is written, what is taken, what is refused and how."""

from __future__ import annotations

import math

import orjson
from google.protobuf.message import Message

from mesoskit.messages import codec
from mesoskit.messages.agent_pb2 import ProcessIO
from mesoskit.messages.codec import Malformed
from mesoskit.messages.maintenance_pb2 import Schedule
from mesoskit.messages.master_pb2 import Call as MasterCall
from mesoskit.messages.mesos_pb2 import (
    CommandInfo,
    ContainerID,
    ContainerInfo,
    FrameworkInfo,
    MasterInfo,
    Resource,
    TaskInfo,
    TaskStatus,
    Value,
    Volume,
)
from mesoskit.messages.scheduler_pb2 import Call
from tests.base import SynchronousTestCase


class WritingTests(SynchronousTestCase):
    """L{codec.to_json}."""

    def test_names_and_enums(self) -> None:
        resource = Resource(name="cpus", type=Value.SCALAR, scalar={"value": 4})
        self.assertEqual(
            codec.to_json(resource), b'{"name":"cpus","type":"SCALAR","scalar":{"value":4.0}}'
        )

    def test_64_bit_integers_are_numbers(self) -> None:
        window = Value.Range(begin=0, end=(1 << 64) - 1)
        self.assertEqual(codec.to_json(window), b'{"begin":0,"end":18446744073709551615}')

    def test_infinite_numbers_are_texts(self) -> None:
        task = TaskInfo(name="t", task_id={"value": "t"}, agent_id={"value": "a"})
        task.limits["cpus"].value = math.inf
        task.limits["mem"].value = -math.inf
        limits = {"cpus": {"value": "Infinity"}, "mem": {"value": "-Infinity"}}
        self.assertEqual(orjson.loads(codec.to_json(task))["limits"], limits)
        self.assertEqual(codec.from_json(TaskInfo, codec.to_json(task)), task)
        nothing = Value.Scalar(value=math.nan)
        self.assertEqual(codec.to_json(nothing), b'{"value":null}')

    def test_bytes_are_base64(self) -> None:
        data = ProcessIO.Data(type=ProcessIO.Data.STDOUT, data=b"\xff\xfe\x00")
        self.assertEqual(codec.to_dict(data), {"type": "STDOUT", "data": "//4A"})

    def test_defaults_are_written_unless_deprecated(self) -> None:
        self.assertEqual(
            codec.to_dict(FrameworkInfo(user="u", name="n")),
            {"user": "u", "name": "n", "failover_timeout": 0.0, "checkpoint": False},
        )
        self.assertEqual(codec.to_dict(CommandInfo()), {"shell": True})
        self.assertEqual(
            codec.to_dict(FrameworkInfo(user="u", name="n", role="r", checkpoint=True)),
            {
                "user": "u",
                "name": "n",
                "role": "r",
                "failover_timeout": 0.0,
                "checkpoint": True,
            },
        )

    def test_enum_defaults_are_names(self) -> None:
        docker = codec.to_dict(ContainerInfo.DockerInfo(image="i"))
        self.assertEqual(docker, {"image": "i", "network": "HOST", "privileged": False})

    def test_maps_are_objects(self) -> None:
        task = TaskInfo(name="t", task_id={"value": "t"}, agent_id={"value": "a"})
        task.limits["cpus"].value = 2
        self.assertEqual(codec.to_dict(task)["limits"], {"cpus": {"value": 2.0}})
        provisioning = Volume.Source.CSIVolume.StaticProvisioning()
        provisioning.volume_context["k"] = "v"
        self.assertEqual(codec.to_dict(provisioning)["volume_context"], {"k": "v"})

    def test_empty_message_that_is_there(self) -> None:
        call = Call(type=Call.REVIVE, revive=Call.Revive())
        self.assertEqual(codec.to_json(call), b'{"type":"REVIVE","revive":{}}')

    def test_repeated_bytes_and_numbers(self) -> None:
        call = Call(revive=Call.Revive(roles=["a", "b"]))
        self.assertEqual(codec.to_dict(call), {"revive": {"roles": ["a", "b"]}})


class ReadingTests(SynchronousTestCase):
    """L{codec.from_json}: what is taken."""

    def test_unknown_fields_are_passed_over(self) -> None:
        call = codec.from_json(Call, '{"type":"REVIVE","color":"red","revive":{"x":[1,{}]}}')
        self.assertEqual(call, Call(type=Call.REVIVE, revive=Call.Revive()))

    def test_null_is_unset(self) -> None:
        text = '{"type":null,"revive":null,"framework_id":null}'
        self.assertEqual(codec.from_json(Call, text), Call())

    def test_null_in_a_list_is_passed_over(self) -> None:
        call = codec.from_json(Call, '{"revive":{"roles":["a",null,"b"]}}')
        self.assertEqual(list(call.revive.roles), ["a", "b"])
        call = codec.from_json(Call, '{"decline":{"offer_ids":[null,{"value":"o"}]}}')
        self.assertEqual([offer.value for offer in call.decline.offer_ids], ["o"])

    def test_unknown_enum_name_is_unset_where_it_may_be(self) -> None:
        self.assertFalse(codec.from_json(Call, '{"type":"NEWER"}').HasField("type"))

    def test_empty_object_is_a_message(self) -> None:
        self.assertTrue(codec.from_json(Call, '{"suppress":{}}').HasField("suppress"))

    def test_lone_value_is_a_list_of_one(self) -> None:
        self.assertEqual(
            codec.from_json(Call, '{"revive":{"roles":"a"}}'),
            codec.from_json(Call, '{"revive":{"roles":["a"]}}'),
        )
        self.assertEqual(
            codec.from_json(Call, '{"decline":{"offer_ids":{"value":"o"}}}'),
            codec.from_json(Call, '{"decline":{"offer_ids":[{"value":"o"}]}}'),
        )

    def test_numbers(self) -> None:
        for text, value in (("4", 4.0), ("4.5", 4.5), ("1e3", 1000.0), ('"2.5"', 2.5)):
            scalar = codec.from_json(Value.Scalar, f'{{"value":{text}}}')
            self.assertEqual(scalar.value, value)
        for text, number in (
            ("0", 0),
            ("31000.0", 31000),
            ('"7"', 7),
            ("18446744073709551615", (1 << 64) - 1),
        ):
            found = codec.from_json(Value.Range, f'{{"begin":{text},"end":1}}')
            self.assertEqual(found.begin, number)

    def test_truth_may_stand_in_a_string(self) -> None:
        for text in ("true", "false"):
            status = codec.from_dict(TaskStatus, self.status(healthy=text))
            self.assertEqual(text == "true", status.healthy)

    def test_base64_may_lack_its_padding_and_be_broken(self) -> None:
        for text in ("aGVsbG8=", "aGVsbG8", "aGVs\r\nbG8=", " aGVsbG8 "):
            status = codec.from_dict(TaskStatus, self.status(data=text))
            self.assertEqual(b"hello", status.data, text)

    @staticmethod
    def status(**fields: object) -> dict[str, object]:
        return {"task_id": {"value": "t"}, "state": "TASK_RUNNING", **fields}

    def test_maps(self) -> None:
        text = (
            '{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"a"},'
            '"limits":{"cpus":{"value":2},"mem":{"value":"1.5"}}}'
        )
        task = codec.from_json(TaskInfo, text)
        self.assertEqual(
            {name: s.value for name, s in task.limits.items()}, {"cpus": 2, "mem": 1.5}
        )

    def test_duration(self) -> None:
        text = (
            '{"type":"DRAIN_AGENT","drain_agent":'
            '{"agent_id":{"value":"a"},"max_grace_period":{"seconds":600}}}'
        )
        call = codec.from_json(MasterCall, text)
        self.assertEqual(call.drain_agent.max_grace_period.seconds, 600)

    def test_nanoseconds_do_not_pass_through_floats(self) -> None:
        start = 1795214684170013441
        unavailability = f'{{"start":{{"nanoseconds":{start}}}}}'
        text = f'{{"windows":[{{"unavailability":{unavailability}}}]}}'
        schedule = codec.from_json(Schedule, text)
        self.assertEqual(schedule.windows[0].unavailability.start.nanoseconds, start)
        self.assertIn(str(start).encode(), codec.to_json(schedule))

    def test_master_info_of_zookeeper(self) -> None:
        text = (
            '{"address":{"hostname":"m1","ip":"10.0.0.1","port":5050},'
            '"capabilities":[{"type":"AGENT_UPDATE"},{"type":"QUOTA_V2"}],"hostname":"m1",'
            '"id":"u","ip":16777226,"pid":"master@10.0.0.1:5050","port":5050,"version":"1.11.0"}'
        )
        info = codec.from_json(MasterInfo, text)
        self.assertEqual((info.ip, info.port, info.address.ip), (16777226, 5050, "10.0.0.1"))
        self.assertEqual(orjson.loads(codec.to_json(info)), orjson.loads(text))

    def test_bytes_of_a_string_and_str_are_the_same(self) -> None:
        self.assertEqual(codec.from_json(Call, b"{}"), codec.from_json(Call, "{}"))


class RefusalTests(SynchronousTestCase):
    """L{codec.from_json}: what is refused, and that the field is named."""

    def refused(self, cls: type[Message], value: object) -> str:
        error = self.assertRaises(Malformed, codec.from_dict, cls, value)
        self.assertEqual(error.name, cls.DESCRIPTOR.full_name)
        return str(error.reason)

    def test_not_json(self) -> None:
        for text in ("", "{", "nonsense", b"\xff", '{"type":"REVIVE"} x', '{"id":NaN}'):
            with self.assertRaises(Malformed) as caught:
                codec.from_json(Call, text)
            self.assertTrue(caught.exception.reason.startswith("not JSON: "), text)

    def test_not_an_object(self) -> None:
        values: list[object] = [[], "x", 1, None, True]
        for value in values:
            self.assertIn("expected an object, got ", self.refused(Call, value))

    def test_way_to_the_field(self) -> None:
        operations = [{"type": "LAUNCH"}, {"launch": {"task_infos": [{}, {"name": 5}]}}]
        self.assertEqual(
            self.refused(Call, {"accept": {"operations": operations}}),
            "accept.operations[1].launch.task_infos[1].name: expected a string, got 5",
        )
        self.assertEqual(
            self.refused(TaskInfo, {"limits": {"cpus": {"value": "many"}}}),
            'limits["cpus"].value: expected a number, got "many"',
        )
        self.assertEqual(
            self.refused(Call, {"revive": {"roles": ["a", 1]}}),
            "revive.roles[1]: expected a string, got 1",
        )

    def test_missing_fields(self) -> None:
        self.assertEqual(
            self.refused(Call, {"subscribe": {"framework_info": {"name": "n"}}}),
            "required fields are missing: subscribe.framework_info.user",
        )

    def test_unfit_values(self) -> None:
        for cls, field, value, expected in (
            (Call, "type", 1, "expected one of UNKNOWN, SUBSCRIBE, "),
            (Resource, "type", "SCALED", "expected one of SCALAR, RANGES, SET, TEXT, got "),
            (TaskStatus, "uuid", "?", "expected a string in base64, got "),
            (TaskStatus, "uuid", 5, "expected a string in base64, got 5"),
            (TaskStatus, "healthy", "True", "expected true or false, got "),
            (TaskStatus, "healthy", 1, "expected true or false, got 1"),
            (TaskStatus, "timestamp", True, "expected a number, got true"),
            (TaskStatus, "timestamp", "NaN", "expected a number, got "),
            (TaskStatus, "task_id", "t", 'expected an object, got "t"'),
            (TaskStatus, "message", ["a"], "expected a string, got a list"),
            (Call, "revive", [], "expected an object, got a list"),
            (Value.Range, "begin", -1, "expected an integer from 0 to 18446744073709551615, got"),
            (Value.Range, "begin", 1 << 64, "expected an integer from 0 to "),
            (Value.Range, "begin", 1.5, "expected an integer from 0 to "),
            (Value.Range, "begin", True, "expected an integer from 0 to "),
            (MasterInfo, "port", 1 << 32, "expected an integer from 0 to 4294967295, got"),
        ):
            reason = self.refused(cls, {field: value})
            self.assertTrue(reason.startswith(f"{field}: {expected}"), reason)

    def test_duration_as_documents_write_it(self) -> None:
        for text, seconds in (("10mins", 600.0), ("600s", 600.0), ("1.5secs", 1.5), ("0ns", 0.0)):
            agent = {"agent_id": {"value": "a"}, "max_grace_period": text}
            call = codec.from_dict(MasterCall, {"type": "DRAIN_AGENT", "drain_agent": agent})
            self.assertEqual(seconds, call.drain_agent.max_grace_period.ToNanoseconds() / 1e9)
        for text in ("", "10", "-1s", "1e3s", "ten mins", "9" * 30 + "s"):
            agent = {"agent_id": {"value": "a"}, "max_grace_period": text}
            reason = self.refused(MasterCall, {"drain_agent": agent})
            self.assertIn("expected a duration such as 10mins", reason)

    def test_long_values_are_cut(self) -> None:
        self.assertLess(len(self.refused(TaskStatus, {"healthy": "x" * 10_000})), 200)

    def test_too_deep(self) -> None:
        def parents(depth: int) -> dict[str, object]:
            value: dict[str, object] = {"value": "c"}
            for _ in range(depth):
                value = {"value": "c", "parent": value}
            return value

        codec.from_dict(ContainerID, parents(codec.MAX_DEPTH))
        self.assertIn("nested deeper than 100", self.refused(ContainerID, parents(101)))
        with self.assertRaises(Malformed):
            codec.from_json(ContainerID, '{"parent":' * 5000 + "{}" + "}" * 5000)
