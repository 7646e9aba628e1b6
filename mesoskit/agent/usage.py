"""What containers use, from one look at all processes.

A process belongs to the container whose first process leads its session or is among its
ancestors; strays (daemons, whose ancestors are gone) are named by the launcher, which also
knows what those that have ended had used.
"""

import os
from collections.abc import Mapping
from dataclasses import replace

from mesoskit.agent.container import Usage
from mesoskit.agent.launcher_proc import Process, processes
from mesoskit.model.ids import ContainerId


def read_usage(
    leaders: Mapping[ContainerId, int],
    strays: Mapping[str, tuple[float, float, list[int]]],
    now: float,
) -> dict[ContainerId, Usage]:
    """
    Return what each container uses of which a process is there.

    CPU seconds include children that were waited for; resident bytes count shared pages in
    every process that has them, as C{ps} does.

    @param leaders: the pid of each container's first process.
    @param strays: from the launcher: CPU seconds (user, system) of those that have ended, and
        the pids of those that have not.
    @param now: what the figures are stamped with.
    """
    return sum_up(processes(), leaders, strays, now)


def sum_up(
    table: Mapping[int, Process],
    leaders: Mapping[ContainerId, int],
    strays: Mapping[str, tuple[float, float, list[int]]],
    now: float,
) -> dict[ContainerId, Usage]:
    """Do what L{read_usage} does, for processes that were read before."""
    ticks = os.sysconf("SC_CLK_TCK")
    page = os.sysconf("SC_PAGE_SIZE")
    sessions = {pid: name for name, pid in leaders.items()}
    owners: dict[int, ContainerId | None] = {0: None, 1: None, **sessions}
    sums: dict[ContainerId, list[float]] = {}
    for name in leaders:
        user, system, living = strays.get(name, (0.0, 0.0, []))
        sums[name] = [user * ticks, system * ticks, 0, 0, 0]
        for pid in living:
            owners[pid] = name
    for found in table.values():
        owner = sessions.get(found.session) or _owner(found, table, owners)
        if owner is not None:
            one = sums[owner]
            one[0] += found.user
            one[1] += found.system
            one[2] += found.rss
            one[3] += 1
            one[4] += found.threads
    return {
        name: Usage(user / ticks, system / ticks, int(rss) * page, int(count), now, int(threads))
        for name, (user, system, rss, count, threads) in sums.items()
        if count
    }


def never_less(
    last: Mapping[ContainerId, Usage], now: Mapping[ContainerId, Usage]
) -> dict[ContainerId, Usage]:
    """
    Return C{now} with CPU seconds that do not fall behind C{last}.

    A stray that ends between the launcher's answer and the look at the processes is in
    neither; the launcher's next answer has it.
    """
    return {
        name: replace(
            usage,
            user_seconds=max(usage.user_seconds, last[name].user_seconds),
            system_seconds=max(usage.system_seconds, last[name].system_seconds),
        )
        if name in last
        else usage
        for name, usage in now.items()
    }


def _owner(
    process: Process, table: Mapping[int, Process], owners: dict[int, ContainerId | None]
) -> ContainerId | None:
    """Climb to the first ancestor whose owner is known; all on the way are known from then on."""
    way = []
    at: Process | None = process
    while at is not None and at.pid not in owners:
        way.append(at.pid)
        owners[at.pid] = None  # a table that took time to read might hold a ring
        at = table.get(at.parent)
    owner = owners[at.pid] if at is not None else None
    for pid in way:
        owners[pid] = owner
    return owner
