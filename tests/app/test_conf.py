"""The sample configuration is read by the flags that it is for, as it stands."""

import shlex
from pathlib import Path

from mesoskit.app import agent, master
from mesoskit.cluster.zk_url import ZooKeeperURL
from tests.base import SynchronousTestCase

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(CONF.rglob("*.env"))


def variables(path):
    """Return what systemd would take an environment file to say; a shell takes it for the same."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    words = [shlex.split(line) for line in lines if line and not line.startswith("#")]
    return dict(word.split("=", 1) for (word,) in words)


class ConfTests(SynchronousTestCase):
    """Every file below conf/."""

    def test_every_sample_is_understood_to_the_last_variable(self):
        self.assertEqual(len(FILES), 10)
        for path in FILES:
            self.assertNotRegex(path.read_text(), r"(?m)^[^#\"\n]*;", "a shell would end there")
            flags = master.FLAGS if "master" in path.stem else agent.FLAGS
            given = flags.parse([], variables(path)).given
            said = {name.removeprefix("MESOS_").lower() for name in variables(path)}
            self.assertEqual(set(given), said, path.name)

    def test_three_masters_and_their_agents_meet_at_one_place(self):
        files = sorted((CONF / "high-availability").glob("*.env"))
        said = [variables(path) for path in files]
        places = {one.get("MESOS_ZK") or one["MESOS_MASTER"] for one in said}
        self.assertEqual(len(places), 1)
        self.assertEqual(len(ZooKeeperURL.parse(places.pop()).hosts), 3)
        self.assertEqual(len({one["MESOS_ZK_SESSION_TIMEOUT"] for one in said}), 1)

    def test_units_name_the_plugins_and_the_files_that_exist(self):
        for unit in (CONF / "systemd").glob("*.service"):
            daemon = unit.stem
            text = unit.read_text()
            self.assertIn(f"twistd --nodaemon --pidfile= {daemon}\n", text)
            self.assertIn(f"EnvironmentFile=/etc/mesoskit/{daemon}.env", text)
            self.assertTrue((CONF / f"{daemon}.env").exists())

    def test_secrets_are_for_a_user_that_is_there_before_the_master_starts(self):
        unit = (CONF / "systemd" / "mesos-master.service").read_text()
        self.assertIn("\nUser=mesoskit\n", unit)
        self.assertNotIn("DynamicUser", unit)
        read_me = (CONF / "README.md").read_text()
        self.assertIn("useradd --system", read_me)
        for name in ("credentials.json", "server-key.pem", "/etc/mesoskit/zk"):
            line = next(line for line in read_me.splitlines() if name in line and "600" in line)
            self.assertIn("-o mesoskit", line)
