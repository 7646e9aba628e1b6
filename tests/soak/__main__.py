"""The long run: C{make soak}, or C{python -m tests.soak --seed 1}."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import react
from twisted.trial.unittest import SkipTest

from tests.soak.soaking import Plan, Soak

_BEGUN = time.monotonic()


def say(what: str) -> None:
    """Tell the next part of the story."""
    print(f"{time.monotonic() - _BEGUN:7.1f} s  {what}", flush=True)


async def soak(plan: Plan, keep: bool) -> None:
    """Run it, and exit with status 1 where something is wrong, with 2 where the run is void."""
    try:
        run = Soak(plan, say)
    except SkipTest as error:
        sys.exit(str(error))
    status = 1
    try:
        result = await run.run()
        print(result.report(), flush=True)
        status = 1 if result.wrong else 2 if result.void else 0
    finally:
        if keep and status:
            print(f"kept: {run.keep()}", flush=True)
        run.cluster.close()
    sys.exit(status)


def main(reactor: Any) -> Deferred[None]:
    """Read the command line."""
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--faults", type=int, default=plan.faults)
    parser.add_argument("--interval", type=float, default=plan.interval, help="seconds, mean")
    parser.add_argument("--each", type=int, default=plan.each, help="faults of each kind at least")
    parser.add_argument("--agents", type=int, default=plan.agents)
    parser.add_argument("--tasks", type=int, default=plan.tasks, help="in flight, a framework")
    parser.add_argument("--keep", action="store_true", help="the files of a run that failed")
    given = vars(parser.parse_args())
    keep = given.pop("keep")
    return ensureDeferred(soak(Plan(**given), keep))


if __name__ == "__main__":
    react(main)
