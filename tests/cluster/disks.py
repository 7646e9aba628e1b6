"""Clusters whose agent has a small disk."""

import os
import subprocess
from pathlib import Path

from tests.cluster.harness import Cluster, ClusterTestCase


def mounted(cluster: Cluster, size: str) -> Path | None:
    """Mount a small file system for the first agent's work directory; L{None} where we may not."""
    where = cluster.directory / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "none", str(where)]
    if subprocess.run(mount, capture_output=True, timeout=90, check=False).returncode:
        return None
    return where


def unmount(where: Path) -> None:
    """Take it away."""
    subprocess.run(["umount", "-l", str(where)], capture_output=True, timeout=90, check=False)


class SmallDiskCase(ClusterTestCase):
    """A test that may have one."""

    async def small(self) -> tuple[Cluster, Path]:
        """Return a cluster whose agent has a disk of a few megabytes."""
        if os.geteuid() != 0:
            self.skipTest("only root may mount")
        cluster = Cluster()
        self.addCleanup(cluster.close)
        where = mounted(cluster, "4m")
        if where is None:
            self.skipTest("mounting is not allowed here")
        self.addCleanup(unmount, where)
        self._use(cluster)
        cluster.make_master().start()
        agent = cluster.make_agent("a0", {"work_dir": where / "w"})
        agent.work_dir = where / "w"
        agent.start()
        await cluster.master.ready()
        await cluster.registered()
        return cluster, where
