"""Sandboxes on a real file system: made, linked, found, removed; and what lies in wait there."""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from unittest import skipIf

from twisted.internet.defer import Deferred, execute

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.paths import executor_run_path, latest_link, nested_path, task_link
from mesoskit.agent.sandboxes import SandboxError, Sandboxes, remove_tree
from mesoskit.agent.users import Credentials, UserError, Users, look_up
from mesoskit.model.ids import ContainerId
from tests.base import SynchronousTestCase

A = ContainerId("a")
NOBODY = pwd.getpwnam("nobody")
CREDENTIALS = Credentials(NOBODY.pw_uid, NOBODY.pw_gid, (NOBODY.pw_gid,))
T = TypeVar("T")
not_root = skipIf(os.geteuid() != 0, "only root can make files of another user")


def at_once(function: Callable[[], T]) -> Deferred[T]:
    """Do what would be done in a thread."""
    return execute(function)


class SandboxTestCase(SynchronousTestCase):
    """A test with a work directory; threads are not used."""

    def setUp(self) -> None:
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="mesoskit-sandboxes-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.work = os.path.join(self.directory, "work")
        os.mkdir(self.work)
        self.sandboxes = Sandboxes(self.work, at_once)
        self.path = executor_run_path(self.work, "agent", "framework", "executor", "a")

    def make(self, path: str, *links: tuple[str, str], user: Credentials | None = None) -> None:
        self.sandboxes.make(ContainerSpec(A, ("true",), path, links=links), user)

    def refused(self, path: str, *links: tuple[str, str]) -> str:
        return str(self.assertRaises(SandboxError, self.make, path, *links))

    def remove(self, path: str) -> None:
        self.successResultOf(self.sandboxes.remove(path))


class MakeTests(SandboxTestCase):
    """Making."""

    def test_a_sandbox_with_all_above_it(self):
        self.make(self.path, (latest_link(self.path), self.path))
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o700)
        above = os.path.dirname(self.path)
        self.assertEqual(stat.S_IMODE(os.stat(above).st_mode), 0o755)
        self.assertEqual(os.readlink(os.path.join(above, "latest")), self.path)
        self.assertEqual(sorted(os.listdir(above)), ["a", "latest"])

    def test_tasks_of_others_get_to_theirs_in_that_of_a_pod(self):
        self.sandboxes.make(ContainerSpec(A, ("true",), self.path, pod=True), None)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o711)

    def test_the_newest_is_linked(self):
        other = executor_run_path(self.work, "agent", "framework", "executor", "b")
        for path in (self.path, other):
            self.make(path, (latest_link(path), path))
        self.assertEqual(os.readlink(latest_link(self.path)), other)

    def test_repeating_it_changes_nothing(self):
        self.make(self.path)
        Path(self.path, "file").touch()
        self.make(self.path)
        self.assertEqual(os.listdir(self.path), ["file"])

    @not_root
    def test_it_is_the_users(self):
        self.make(self.path, user=CREDENTIALS)
        found = os.stat(self.path)
        self.assertEqual((found.st_uid, found.st_gid), (NOBODY.pw_uid, NOBODY.pw_gid))
        self.assertEqual(os.stat(os.path.dirname(self.path)).st_uid, 0)
        self.make(self.path, user=CREDENTIALS)
        self.assertIn("File exists", self.refused(self.path))  # it is not ours

    @not_root
    def test_nested_ones_lie_in_the_users(self):
        self.make(self.path, user=CREDENTIALS)
        nested = nested_path(self.path, "n")
        self.make(nested, (task_link(self.path, "task"), nested), user=CREDENTIALS)
        self.assertEqual(os.stat(nested).st_uid, NOBODY.pw_uid)
        self.assertEqual(os.readlink(os.path.join(self.path, "tasks/task")), nested)

    @not_root
    def test_links_that_a_task_puts_in_the_way_are_not_followed(self):
        victim = os.path.join(self.directory, "victim")
        os.mkdir(victim)
        self.make(self.path, user=CREDENTIALS)
        for name in ("containers", "tasks"):
            os.symlink(victim, os.path.join(self.path, name))
        nested = nested_path(self.path, "n")
        self.assertIn("Not a directory", self.refused(nested))
        self.assertIn(
            "Not a directory", self.refused(self.path + "/x", (task_link(self.path, "t"), "x"))
        )
        os.unlink(os.path.join(self.path, "containers"))
        os.mkdir(os.path.join(self.path, "containers"))
        os.symlink(victim, nested)
        self.assertIn("File exists", self.refused(nested))
        self.assertEqual(os.listdir(victim), [])
        self.assertEqual(os.stat(victim).st_uid, 0)

    def test_paths_outside_are_refused(self):
        for path in (
            self.directory,
            self.work,
            self.work + "x/a",
            f"{self.work}/../evil",
            f"{self.work}/a//b",
            f"{self.work}/a/./b",
            "relative",
            f"{self.work}/a\0b",
        ):
            self.assertIn("work directory", self.refused(path))
        self.assertEqual(os.listdir(self.work), [])

    def test_what_cannot_be_made_is_said(self):
        Path(self.work, "slaves").touch()
        self.assertIn("Not a directory", self.refused(self.path))
        long = executor_run_path(self.work, "agent", "framework", "e" * 300, "a")
        os.unlink(os.path.join(self.work, "slaves"))
        self.assertIn("File name too long", self.refused(long))

    def test_a_link_that_cannot_be_made_is_said(self):
        self.make(self.path)
        os.makedirs(os.path.join(os.path.dirname(self.path), "latest/inner"))
        why = self.refused(self.path, (latest_link(self.path), self.path))
        self.assertIn("cannot make link", why)
        self.assertEqual(sorted(os.listdir(os.path.dirname(self.path))), ["a", "latest"])

    def test_the_agents_directory_is_linked(self):
        self.sandboxes.link_agent("one")
        self.sandboxes.link_agent("two")
        self.assertEqual(os.readlink(f"{self.work}/slaves/latest"), f"{self.work}/slaves/two")
        self.assertEqual(sorted(os.listdir(f"{self.work}/slaves")), ["latest", "one", "two"])


class FindTests(SandboxTestCase):
    """Finding."""

    def test_executors_sandboxes_of_all_agents(self):
        paths = [
            executor_run_path(self.work, agent, "f", "e", container)
            for agent in ("one", "two")
            for container in "ab"
        ]
        for path in paths:
            self.make(path, (latest_link(path), path))
            self.make(nested_path(path, "n"))
            os.utime(path, (1, 1000.5))
        self.sandboxes.link_agent("two")
        found = self.successResultOf(self.sandboxes.find())
        self.assertEqual(sorted(found.sandboxes), [(path, 1000.5) for path in paths])

    def test_nothing(self):
        self.assertEqual(self.successResultOf(self.sandboxes.find()).sandboxes, ())


class RemoveTests(SandboxTestCase):
    """Removing."""

    def test_a_sandbox_and_what_is_empty_then(self):
        other = executor_run_path(self.work, "agent", "framework", "other", "b")
        for path in (self.path, other):
            self.make(path, (latest_link(path), path))
            Path(path, "stdout").write_text("text")
        self.remove(self.path)
        self.assertEqual(
            os.listdir(f"{self.work}/slaves/agent/frameworks/framework/executors"), ["other"]
        )
        self.remove(other)
        self.assertEqual(os.listdir(f"{self.work}/slaves/agent"), [])
        self.remove(other)

    def test_a_newer_run_and_its_link_stay(self):
        newer = executor_run_path(self.work, "agent", "framework", "executor", "b")
        for path in (self.path, newer):
            self.make(path, (latest_link(path), path))
        self.remove(self.path)
        self.assertEqual(os.readlink(latest_link(newer)), newer)
        self.assertEqual(sorted(os.listdir(os.path.dirname(newer))), ["b", "latest"])

    def test_links_out_are_removed_and_not_followed(self):
        victim = Path(self.directory, "victim")
        victim.mkdir()
        (victim / "file").write_text("precious")
        self.make(self.path)
        os.symlink(victim, os.path.join(self.path, "dir"))
        os.symlink(victim / "file", os.path.join(self.path, "file"))
        os.link(victim / "file", os.path.join(self.path, "hard"))
        self.remove(self.path)
        self.assertFalse(os.path.exists(self.path))
        self.assertEqual((victim / "file").read_text(), "precious")

    def test_a_link_on_the_way_is_not_followed(self):
        victim = Path(self.directory, "victim/runs/a")
        victim.mkdir(parents=True)
        os.makedirs(f"{self.work}/slaves/agent")
        os.symlink(victim.parent.parent, f"{self.work}/slaves/agent/link")
        failure = self.failureResultOf(
            self.sandboxes.remove(f"{self.work}/slaves/agent/link/runs/a"), SandboxError
        )
        self.assertIn("Not a directory", failure.getErrorMessage())
        self.assertTrue(victim.exists())

    def test_more_than_a_sandbox_is_refused(self):
        for path in (self.work, f"{self.work}/slaves", self.directory, "/", f"{self.work}/a/.."):
            self.failureResultOf(self.sandboxes.remove(path), SandboxError)
        self.assertTrue(os.path.exists(self.work))

    def test_any_depth_with_few_descriptors(self):
        self.make(self.path)
        at = os.open(self.path, os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("d", dir_fd=at)
            Path(f"/proc/self/fd/{at}/file").touch()
            deeper = os.open("d", os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = deeper
        os.close(at)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, hard))
        try:
            self.remove(self.path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.assertFalse(os.path.exists(self.path))

    def test_names_like_those_it_uses_itself(self):
        self.make(self.path)
        for name in (".removed-1/.removed-1/.removed-2", ".removed-2/x"):
            os.makedirs(os.path.join(self.path, name))
        self.remove(self.path)
        self.assertFalse(os.path.exists(self.path))

    @not_root
    def test_what_its_owner_may_not_read_is_removed_by_him(self):
        os.chmod(self.directory, 0o755)
        tree = os.path.join(self.directory, "tree")
        os.makedirs(f"{tree}/a/b/c")
        for path in (f"{tree}/a/b/c", f"{tree}/a/b", f"{tree}/a", tree):
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
            os.chmod(path, 0o000)
        os.chown(self.directory, NOBODY.pw_uid, NOBODY.pw_gid)
        child = os.fork()
        if not child:
            try:
                os.setgid(NOBODY.pw_gid)
                os.setuid(NOBODY.pw_uid)
                remove_tree("tree", os.open(self.directory, os.O_RDONLY))
                os._exit(0)
            finally:
                os._exit(1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertFalse(os.path.exists(tree))

    def test_no_descriptor_is_left(self):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            self.make(self.path, (latest_link(self.path), self.path))
            os.makedirs(os.path.join(self.path, "a/b/c"))
            self.refused(self.path + "/x/../y")
            self.remove(self.path)
            self.successResultOf(self.sandboxes.find())
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class UserTests(SynchronousTestCase):
    """Users."""

    def setUp(self) -> None:
        from twisted.internet.task import Clock

        self.clock = Clock()
        self.calls = 0

        def count(function):
            self.calls += 1
            return execute(function)

        self.users = Users(self.clock, count)

    def test_our_own_user_needs_no_credentials(self):
        name = pwd.getpwuid(os.geteuid()).pw_name
        self.assertIsNone(self.successResultOf(self.users.find(None)))
        self.assertIsNone(self.successResultOf(self.users.find(name)))
        self.assertIsNone(look_up(name))

    @not_root
    def test_another_comes_with_his_groups(self):
        found = self.successResultOf(self.users.find("nobody"))
        groups = tuple(os.getgrouplist("nobody", NOBODY.pw_gid))
        self.assertEqual(found, Credentials(NOBODY.pw_uid, NOBODY.pw_gid, groups))

    @not_root
    def test_what_was_found_is_believed_for_a_while(self):
        for _ in range(3):
            self.successResultOf(self.users.find("nobody"))
        self.assertEqual(self.calls, 1)
        self.clock.advance(61)
        self.successResultOf(self.users.find("nobody"))
        self.assertEqual(self.calls, 2)

    def test_an_unknown_one_is_named(self):
        for name in ("nobody-at-all", "", "a\0b", "\udc80"):
            failure = self.failureResultOf(self.users.find(name), UserError)
            self.assertIn(repr(name), failure.getErrorMessage())

    def test_types(self):
        self.assertIsInstance(self.users.find(None), Deferred)
