"""The flags that say how containers are kept apart."""

from __future__ import annotations

import os
from typing import Any

from mesoskit.agent.containers import cgroups_machine
from mesoskit.agent.containers.cgroups import CgroupError
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.app.daemon import StartError
from mesoskit.app.isolation import FLAGS as ISOLATION
from mesoskit.app.isolation import settings
from mesoskit.flags import FlagError, Flags
from tests.base import SynchronousTestCase

FLAGS = Flags("test", ISOLATION)
WHITELIST = '--allowed_devices={{"allowed_devices": [{}]}}'


class FlagTests(SynchronousTestCase):
    """Values, and what is wrong with them."""

    def settings(self, *arguments: str) -> Any:
        return settings(FLAGS.parse(arguments, {}))

    def wrong(self, *arguments: str) -> str:
        return str(self.assertRaises((FlagError, StartError), self.settings, *arguments))

    def as_user(self, number: int) -> None:
        self.patch(os, "geteuid", lambda: number)

    def cgroups(self, why: str = "") -> None:
        """Have a machine whose cgroups can be used, or cannot."""

        def check(hierarchy: str, root: str) -> None:
            if why:
                raise CgroupError(why)

        self.patch(cgroups_machine, "check_usable", check)

    def test_root_has_the_launcher_linux_without_flags(self) -> None:
        self.as_user(0)
        self.cgroups()
        self.assertEqual(self.settings(), IsolationSettings(linux=True, by_default=True))

    def test_without_root_there_is_posix(self) -> None:
        self.as_user(1000)
        why = "an agent that runs as root"
        self.assertEqual(self.settings(), IsolationSettings(not_linux=why))

    def test_without_cgroups_there_is_posix(self) -> None:
        self.as_user(0)
        self.cgroups("/sys/fs/cgroup/freezer/mesos: Read-only file system")
        found = self.settings()
        self.assertFalse(found.linux)
        self.assertIn("cgroups that it can make: /sys/fs/cgroup/freezer", found.not_linux)

    def test_who_asks_for_posix_is_told_nothing(self) -> None:
        self.assertEqual(self.settings("--launcher=posix"), IsolationSettings())

    def test_what_cannot_be_had_is_refused_where_it_is_asked_for(self) -> None:
        self.as_user(0)
        self.cgroups("no cgroups in /sys/fs/cgroup")
        for flag in ("--launcher=linux", "--isolation=namespaces/pid"):
            why = f"{flag} needs cgroups that it can make: no cgroups in /sys/fs/cgroup"
            self.assertEqual(self.wrong(flag).replace(": namespaces", "=namespaces"), why)

    def test_isolators_bring_the_launcher_that_they_need(self) -> None:
        self.as_user(0)
        self.cgroups()
        found = self.settings("--isolation=cgroups/cpu,disk/du", "--cgroups_enable_cfs")
        self.assertEqual(found.isolation, ("cgroups/cpu", "disk/du"))
        self.assertEqual((found.linux, found.by_default), (True, False))
        self.assertTrue(found.cgroups_enable_cfs)
        self.assertFalse(self.settings("--isolation=disk/du", "--launcher=posix").linux)
        asked = self.settings("--launcher=linux")
        self.assertEqual((asked.linux, asked.by_default), (True, False))

    def test_an_unknown_isolator_is_named_with_those_that_are_known(self) -> None:
        why = self.wrong("--isolation=posix/cpu,cgroups/gpu")
        self.assertIn("unknown isolator 'cgroups/gpu': cgroups/all, cgroups/blkio", why)
        self.assertIn("did you mean cgroups/cpu?", why)
        self.assertIn("namespaces/pid", why)

    def test_isolators_that_need_root_say_so(self) -> None:
        self.as_user(1000)
        self.assertIn(
            "cgroups/mem needs an agent that runs as root", self.wrong("--isolation=cgroups/mem")
        )
        self.assertIn("runs as root", self.wrong("--launcher=linux"))
        self.assertEqual(self.settings("--isolation=disk/du").isolation, ("disk/du",))

    def test_posix_cannot_do_what_needs_linux(self) -> None:
        self.as_user(0)
        why = self.wrong("--isolation=namespaces/pid", "--launcher=posix")
        self.assertIn("namespaces/pid needs --launcher=linux", why)

    def test_capabilities(self) -> None:
        found = self.settings('--effective_capabilities={"capabilities": ["CHOWN", "KILL"]}')
        self.assertEqual(found.effective_capabilities, 1 << 0 | 1 << 5)
        self.assertIn(
            "'FLY' is no", self.wrong('--bounding_capabilities={"capabilities": ["FLY"]}')
        )
        self.assertIn("expected JSON", self.wrong("--bounding_capabilities=KILL"))

    def test_devices(self) -> None:
        entry = '{"device": {"path": "/dev/full"}, "access": {"read": true, "mknod": true}}'
        found = self.settings(WHITELIST.format(entry))
        self.assertEqual(found.allowed_devices, ("c 1:7 rm",))
        self.assertEqual(found.device_paths, ("/dev/full",))
        for given, why in (
            ('{"device": {"path": "/etc"}, "access": {"read": true}}', "no device"),
            ('{"device": {"path": "/dev/full"}}', "no access"),
            ('{"device": {"path": "/no"}, "access": {"read": true}}', "No such file"),
            ("7", "expected JSON"),
        ):
            found = self.wrong(WHITELIST.format(given))
            self.assertIn(why, found)

    def test_names_of_cgroups(self) -> None:
        self.assertEqual(self.settings("--cgroups_root=a/b").cgroups_root, "a/b")
        for name in ("../a", "/a", "a b", ""):
            self.assertIn("name of a cgroup", self.wrong(f"--cgroups_root={name}"))

    def test_a_container_may_have_two_processes_at_least(self) -> None:
        self.assertIn("at least 2", self.wrong("--cgroups_pids_limit=1"))
