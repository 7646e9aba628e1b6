"""The short form of C{make soak}: one fault of each kind."""

from __future__ import annotations

import sys

from twisted.trial.unittest import TestCase

from tests.soak.schedule import Kind
from tests.soak.soaking import Plan, Soak

SHORT = Plan(
    seed=1,
    faults=len(Kind),
    interval=0.8,
    longest=3.0,
    agents=3,
    tasks=20,
    lengths=(1.0, 6.0),
    each=1,
    in_flight=20,
)


class SoakTests(TestCase):
    """A cluster of processes, a relay between them, and faults."""

    timeout = 600

    async def test_nothing_is_lost_whatever_fails(self) -> None:
        said: list[str] = []
        soak = Soak(SHORT, said.append)
        self.addCleanup(soak.cluster.close)
        result = await soak.run()
        if result.wrong or result.void:
            sys.stderr.write("\n".join([*said, result.report(), f"kept: {soak.keep()}"]))
        self.assertEqual(result.wrong, [])
        for kind in Kind:
            if kind is not Kind.AGENT_FULL or soak.cluster.disks:
                self.assertGreaterEqual(result.done[kind], 1, kind)
        # So few where the machine is very busy; hundreds where it is not.
        self.assertGreater(sum(result.outcomes.values()), 40)
