"""What containers use: sums over processes made up, and over real ones."""

from __future__ import annotations

import os
from pathlib import Path

from mesoskit.agent.container import Usage
from mesoskit.agent.launcher_proc import Process
from mesoskit.agent.usage import never_less, sum_up
from mesoskit.model.ids import ContainerId
from tests.agent.real import RealTestCase, until
from tests.base import SynchronousTestCase

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def one(
    pid: int, parent: int, session: int, user: int = 0, system: int = 0, rss: int = 1
) -> Process:
    return Process(pid, "S", parent, session, session, user, system, 0, rss)


class SumTests(SynchronousTestCase):
    """Who belongs to whom."""

    def sums(
        self,
        *processes: Process,
        strays: dict[str, tuple[float, float, list[int]]] | None = None,
        **leaders: int,
    ) -> dict[str, int]:
        table = {found.pid: found for found in processes}
        names = {ContainerId(name): pid for name, pid in leaders.items()}
        usage = sum_up(table, names, strays or {}, 5.0)
        self.usage = usage
        return {name: found.processes for name, found in usage.items()}

    def test_sessions_and_descendants(self):
        found = self.sums(
            one(1, 0, 1),
            one(10, 1, 10),  # the launcher
            one(20, 10, 20),
            one(21, 20, 20),
            one(22, 10, 20),  # its parent has ended
            one(23, 21, 23),  # a session of its own
            one(24, 23, 23),
            one(30, 10, 30),
            one(40, 10, 40),  # nobody's
            a=20,
            b=30,
        )
        self.assertEqual(found, {"a": 5, "b": 1})

    def test_seconds_of_a_stray_that_ended_between_two_looks_are_not_taken_back(self):
        a, b = ContainerId("a"), ContainerId("b")
        last = {a: Usage(2.0, 1.0, 100, 2, 5.0), b: Usage(9.0, 9.0, 1, 1, 5.0)}
        now = {a: Usage(1.5, 1.25, 50, 1, 6.0)}
        self.assertEqual(never_less(last, now), {a: Usage(2.0, 1.25, 50, 1, 6.0)})
        self.assertEqual(never_less({}, now), now)

    def test_strays_count_with_all_below_them(self):
        found = self.sums(
            one(20, 1, 20),
            one(50, 1, 49),
            one(51, 50, 51),
            one(60, 1, 59),
            a=20,
            strays={"a": (1.5, 0.25, [50])},
        )
        self.assertEqual(found, {"a": 3})

    def test_figures(self):
        self.sums(
            one(20, 1, 20, user=TICKS, system=2 * TICKS, rss=10),
            one(21, 20, 20, user=TICKS // 2, rss=5),
            a=20,
            strays={"a": (1.5, 0.25, [])},
        )
        expected = Usage(3.0, 2.25, 15 * PAGE, 2, 5.0, threads=2)
        self.assertEqual(self.usage, {"a": expected})

    def test_what_has_ended_in_the_meantime_is_left_out(self):
        self.assertEqual(self.sums(one(1, 0, 1), a=20, strays={"a": (9.0, 9.0, [])}), {})

    def test_a_table_torn_by_time_is_no_trouble(self):
        # A parent that ended before it was read, and parents in a ring through reused pids.
        self.assertEqual(self.sums(one(20, 1, 20), one(31, 30, 31), a=20), {"a": 1})
        self.assertEqual(self.sums(one(20, 1, 20), one(31, 32, 7), one(32, 31, 7), a=20), {"a": 1})


class RealUsageTests(RealTestCase):
    """Processes that really work."""

    async def test_cpu_of_the_living_and_of_the_dead(self):
        agent, _ = await self.started()
        busy = "i=0; while test $i -lt 300000; do i=$((i + 1)); done"
        command = (
            f"sh -c '{busy}'; (setsid sh -c '({busy}; touch daemon) &'); touch done; sleep 1000"
        )
        await agent.launch(self.spec("a", command))
        await agent.launch(self.spec("b", "sleep 1000"))
        for name in ("done", "daemon"):
            await until(Path(self.sandbox("a"), name).exists)
        usage = await agent.usage()
        a, b = usage[ContainerId("a")], usage[ContainerId("b")]
        self.assertGreater(a.user_seconds + a.system_seconds, 0.05)
        self.assertLess(b.user_seconds + b.system_seconds, a.user_seconds + a.system_seconds)
        self.assertGreaterEqual(a.processes, 2)
        self.assertGreater(b.rss_bytes, 100_000)
        again = (await agent.usage())[ContainerId("a")]
        self.assertGreaterEqual(again.user_seconds, a.user_seconds)
