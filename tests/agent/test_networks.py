"""Containers that want a network of a name: nobody is put into the machine's own instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.networks import address_within
from mesoskit.messages.mesos_pb2 import ContainerInfo, NetworkInfo
from tests.agent.bench import OPTIONS, Bench, custom_executor, task
from tests.base import SynchronousTestCase

NAMED = ContainerInfo(type=ContainerInfo.MESOS, network_infos=[NetworkInfo(name="blue")])


class AddressTests(SynchronousTestCase):
    """Under which address a container is found."""

    def test_who_has_no_network_has_no_address(self) -> None:
        for names, addresses, within in (
            (("posix/cpu",), [OPTIONS.ip], OPTIONS.ip),
            (("posix/cpu", "network/none"), [], "127.0.0.1"),
        ):
            settings = IsolationSettings(isolation=names)
            bench = Bench(replace(OPTIONS, isolation=settings)).register()
            bench.run(task())
            bench.start()
            infos = bench.last().container_status.network_infos
            told = [each.ip_address for info in infos for each in info.ip_addresses]
            self.assertEqual(told, addresses)
            self.assertEqual(address_within(settings, OPTIONS.ip), within)


class NetworkTests(SynchronousTestCase):
    """What the agent's hands are told is wrong with a container, before anything is made."""

    def wrong(self, bench: Bench, **fields: Any) -> str:
        bench.run(task(**fields))
        (spec,) = bench.launched()
        return str(spec.wrong)

    def test_a_network_that_is_not_there_is_refused(self) -> None:
        why = self.wrong(Bench().register(), container=NAMED)
        self.assertTrue(why.startswith("Unknown CNI network 'blue'"))

    def test_so_it_is_for_executors(self) -> None:
        executor = custom_executor()
        executor.container.CopyFrom(NAMED)
        bench = Bench().register()
        bench.run(task(executor=executor))
        (spec,) = bench.launched()
        self.assertTrue(spec.wrong.startswith("Unknown CNI network 'blue'"))

    def test_without_a_name_it_is_the_machines(self) -> None:
        unnamed = ContainerInfo(type=ContainerInfo.MESOS, network_infos=[NetworkInfo()])
        self.assertEqual(self.wrong(Bench().register(), container=unnamed), "")
        self.assertEqual(self.wrong(Bench().register()), "")

    def test_isolators_of_a_site_may_know_it(self) -> None:
        settings = IsolationSettings(isolation=("our.networks",))
        bench = Bench(replace(OPTIONS, isolation=settings)).register()
        self.assertEqual(self.wrong(bench, container=NAMED), "")
