"""What is told of the build."""

import json
from pathlib import Path

from mesoskit.app.build import build
from mesoskit.model.build import Build
from tests.base import SynchronousTestCase

SHA = "0123456789abcdef" * 2 + "01234567"


class BuildTests(SynchronousTestCase):
    """A built package, a checkout, and neither."""

    def setUp(self):
        self.root = Path(self.mktemp())
        self.package = self.root / "mesoskit"
        (self.package / "messages").mkdir(parents=True)

    def checkout(self, head):
        (self.root / ".git").mkdir()
        (self.root / ".git" / "HEAD").write_text(f"{head}\n")

    def test_built_package_says_what_was_written_down(self):
        told = {"time": 1795208433, "user": "eve", "sha": SHA, "branch": "refs/heads/main"}
        (self.package / "build.json").write_text(json.dumps(told))
        self.assertEqual(
            {
                "build_date": "2026-11-20 21:00:33 UTC",
                "build_time": 1795208433.0,
                "build_user": "eve",
                "git_branch": "refs/heads/main",
                "git_sha": SHA,
            },
            build(self.package).as_json(),
        )

    def test_checkout_was_built_when_its_messages_were(self):
        made = self.package / "messages" / "mesos_pb2.py"
        made.write_text("")
        found = build(self.package)
        self.assertEqual(float(int(made.stat().st_mtime)), found.time)
        self.assertTrue(found.date.endswith(" UTC"))
        self.assertEqual(("", ""), (found.git_sha, found.git_branch))

    def test_commit_is_the_one_that_is_checked_out(self):
        self.checkout("ref: refs/heads/main")
        git = self.root / ".git"
        (git / "packed-refs").write_text(f"# pack-refs\n{SHA} refs/heads/main\n")
        self.assertEqual(SHA, build(self.package).git_sha)
        (git / "refs" / "heads").mkdir(parents=True)
        (git / "refs" / "heads" / "main").write_text(f"{SHA[::-1]}\n")
        found = build(self.package)
        self.assertEqual((SHA[::-1], "refs/heads/main"), (found.git_sha, found.git_branch))

    def test_commit_without_a_branch(self):
        self.checkout(SHA)
        found = build(self.package)
        self.assertEqual((SHA, ""), (found.git_sha, found.git_branch))

    def test_worktree(self):
        store = self.root / "store"
        (store / "worktrees" / "one").mkdir(parents=True)
        (store / "worktrees" / "one" / "HEAD").write_text("ref: refs/heads/one\n")
        (store / "worktrees" / "one" / "commondir").write_text("../..\n")
        (store / "refs" / "heads").mkdir(parents=True)
        (store / "refs" / "heads" / "one").write_text(SHA)
        (self.root / ".git").write_text("gitdir: store/worktrees/one\n")
        self.assertEqual(SHA, build(self.package).git_sha)

    def test_what_is_not_known_is_left_empty(self):
        for head in ("ref: refs/heads/none", "nonsense"):
            self.root = Path(self.mktemp())
            self.package = self.root / "mesoskit"
            self.package.mkdir(parents=True)
            self.checkout(head)
            self.assertEqual("", build(self.package).git_sha)
        (self.package / "build.json").write_text("{")
        self.assertEqual(Build().time, build(self.package).time)
