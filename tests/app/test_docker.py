"""Flags about what runs containers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mesoskit.agent.docker import DockerSettings
from mesoskit.app import agent
from mesoskit.app.docker import docker_settings
from mesoskit.flags import FlagError, Values
from tests.base import SynchronousTestCase


class DockerFlagTests(SynchronousTestCase):
    """C{--containerizers} and C{--docker_*}."""

    def parse(self, *arguments: str) -> Values:
        return agent.FLAGS.parse(["--work_dir=/w", "--master=h:1", *arguments], {})

    def refusal(self, *arguments: str) -> str:
        with self.assertRaises(FlagError) as raised:
            self.parse(*arguments)
        return str(raised.exception)

    def test_what_is_not_given_is_as_in_mesos(self) -> None:
        values = self.parse()
        self.assertEqual(values.containerizers, ("mesos",))
        self.assertEqual(docker_settings(values), DockerSettings())
        self.assertEqual(values.shown["docker_remove_delay"], "6hrs")

    def test_containerizers_are_some_that_there_are(self) -> None:
        self.assertEqual(
            self.parse("--containerizers=docker, mesos").containerizers, ("docker", "mesos")
        )
        self.assertIn("there is no 'rkt'", self.refusal("--containerizers=mesos,rkt"))
        self.assertIn("each name once", self.refusal("--containerizers=mesos,mesos"))
        self.assertIn("there is no ''", self.refusal("--containerizers="))

    def test_values_become_settings(self) -> None:
        values = self.parse(
            "--docker_socket=unix:///run/podman.sock",
            "--no-docker_kill_orphans",
            "--docker_remove_delay=1mins",
            "--docker_stop_timeout=5secs",
            "--sandbox_directory=/box/",
            "--docker=/usr/bin/docker",
        )
        expected = DockerSettings("/run/podman.sock", "", False, 60.0, 5.0, "/box")
        self.assertEqual(docker_settings(values), expected)
        self.assertIn("absolute path", self.refusal("--docker_socket=docker.sock"))

    def test_credentials_are_json_or_a_file_and_are_not_shown(self) -> None:
        text = '{"auths": {"r.io": {"auth": "bTpw"}}}'
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "config.json")
            path.write_text(text)
            path.chmod(0o600)
            for value in (text, str(path), f"file://{path}"):
                values = self.parse(f"--docker_config={value}")
                self.assertEqual(docker_settings(values).config, text)
                self.assertNotIn("bTpw", str(values.shown))
        self.assertIn("not JSON", self.refusal("--docker_config={nonsense"))
        self.assertIn("cannot read", self.refusal("--docker_config=/nowhere/at/all"))
        self.assertIn("expected a JSON object", self.refusal("--docker_config=[]"))
