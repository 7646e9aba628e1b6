"""What a task can reach that runs as somebody else than its agent: its sandbox, and no more."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from mesoskit.driver import TaskState, command_task
from tests.cluster.harness import SharedCluster
from tests.cluster.waiting import until

#: Says which of its arguments it can look into, write to, or change the mode of.
PROBE = """
for path in "$@"; do
  cat "$path" >/dev/null 2>&1 && echo "read $path"
  ls "$path" >/dev/null 2>&1 && [ -d "$path" ] && echo "list $path"
  [ -f "$path" ] && (: >>"$path") 2>/dev/null && echo "write $path"
  chmod o+r "$path" 2>/dev/null && echo "chmod $path"
done
echo done
"""


class PrivilegeTests(SharedCluster):
    """Agents that run as root, and tasks that do not."""

    async def test_task_reaches_nothing_of_others(self) -> None:
        if os.geteuid() != 0:
            self.skipTest("only root can become somebody else")
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.launch(command_task("own", "echo pl4nted >file; sleep 1000", id="own"))
        await ledger.until("own", TaskState.TASK_RUNNING)
        theirs = next(
            found
            for agent in cluster.agents.values()
            if (found := agent.sandbox(ledger.id, "own")).exists()
        )
        await until("the file is there", (theirs / "file").exists)
        paths = [theirs, theirs / "stdout", theirs / "file"]
        for agent in cluster.agents.values():
            launcher = agent.runtime_dir / "launcher"
            paths += [agent.work_dir / "checkpoints.sqlite", launcher, *launcher.iterdir()]
        paths.append(cluster.master.work_dir / "registry.sqlite")
        paths += [Path(f"/proc/{pid}/environ") for pid in cluster.running()]
        self.assertEqual([], [str(path) for path in paths[:10] if not path.exists()])
        probe = f"sh -c {shlex.quote(PROBE)} probe {' '.join(shlex.quote(str(p)) for p in paths)}"
        await ledger.launch(command_task("probe", probe, id="probe", user="nobody"))
        over = await ledger.over("probe")
        (said,) = (
            found.read_text()
            for agent in cluster.agents.values()
            if (found := agent.sandbox(ledger.id, "probe") / "stdout").exists()
        )
        self.assertEqual("done\n", said, over)
