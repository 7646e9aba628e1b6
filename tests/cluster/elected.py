"""A cluster of several masters that elect one in a real ZooKeeper."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import asking
from tests.cluster.harness import _NONE, Cluster, Flags, MasterDaemon
from tests.cluster.waiting import PATIENCE, until_async
from tests.cluster.zookeepers import Servers

SESSION = 4.0
"""Seconds of the session time-out, where nothing else is said."""


class ElectedCluster(Cluster):
    """
    Several masters, of which C{master} is the one that was found to lead last.

    @param session: seconds of the session time-out of masters and agents.

    @ivar masters: all of them.
    @ivar url: where they meet.
    """

    def __init__(self, servers: Servers, session: float = SESSION) -> None:
        super().__init__()
        self.session = session
        self.servers = servers
        self.url = servers.url()
        self.masters: list[MasterDaemon] = []

    @property
    def where(self) -> str:
        """Where agents and frameworks look for their master."""
        return self.url

    async def elect(self, masters: int = 2, agents: int = 1, agent: Flags = _NONE) -> None:
        """Start so many masters and agents, and wait until one leads and knows the agents."""
        for _ in range(masters):
            self.add_master().start()
        for number in range(agents):
            self.make_agent(
                f"a{number}", {"zk_session_timeout": f"{self.session:g}secs", **agent}
            ).start()
        await self.leads()
        await self.registered()

    def add_master(self) -> MasterDaemon:
        """Prepare a master; times are short ones."""
        flags: dict[str, object] = {
            "zk": self.url,
            "zk_session_timeout": f"{self.session:g}secs",
            "allocation_interval": "200ms",
        }
        directory = Path(self.directory, f"m{len(self.masters)}")
        master = MasterDaemon("mesos-master", directory, flags)
        self.masters.append(master)
        return master

    async def leads(self, timeout: float = PATIENCE) -> MasterDaemon:
        """Wait until a master leads, and return it."""
        self._master = self.masters[0]
        found: list[MasterDaemon] = []

        async def elected() -> bool:
            found.clear()
            for master in self.masters:
                if master.running:
                    try:
                        metrics = await asking.metrics(master.port)
                    except Exception:
                        continue
                    if metrics["master/elected"] and await self._serves(master):
                        found.append(master)
            return len(found) == 1

        await until_async("one master leads", elected, timeout, seen=self.logs)
        self._master = found[0]
        return found[0]

    async def _serves(self, master: MasterDaemon) -> bool:
        return (await asking.get(master.port, "/state"))[0] == 200

    def standby(self) -> MasterDaemon:
        """Return a master that runs and does not lead."""
        return next(each for each in self.masters if each.running and each is not self._master)

    def logs(self) -> str:
        """Return the last lines of all daemons' logs."""
        parts = [
            f"--- {master.directory.name}\n" + "\n".join(master.log().splitlines()[-60:])
            for master in self.masters
        ]
        return "\n".join(parts) + super().logs()

    def close(self) -> list[int]:
        """End everything at once; returns the pids of what was killed."""
        for master in self.masters:
            if master.running:
                assert master.process is not None
                master.process.kill()
                master.process.wait(60)
        return super().close()
