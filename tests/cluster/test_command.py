"""Command tasks on real agents: states, texts, processes, sandboxes; as real Mesos has them."""

import functools
import http.server
import os
import tarfile
import threading
from pathlib import Path
from typing import Any

from mesoskit.driver import (
    CommandInfo,
    OfferGone,
    Reason,
    TaskFailed,
    TaskInvalid,
    TaskState,
    command_task,
)
from mesoskit.messages.mesos_pb2 import FrameworkInfo, RLimitInfo, TaskStatus
from tests.cluster import processes
from tests.cluster.harness import Cluster, SharedCluster
from tests.cluster.ledger import Ledger
from tests.cluster.waiting import until

RUNNING = TaskState.TASK_RUNNING
ROOT = os.geteuid() == 0


def sandbox(cluster: Cluster, ledger: Ledger, status: TaskStatus, executor: str = "") -> Path:
    """Return the sandbox of the task that a status is of, where Mesos has it."""
    for agent in cluster.agents.values():
        home = agent.work_dir / "slaves" / status.agent_id.value
        if home.exists():
            name = executor or status.task_id.value
            runs = home / "frameworks" / ledger.id / "executors" / name / "runs"
            return runs / "latest"
    raise AssertionError(f"no agent has a directory for {status.agent_id.value}")


class CommandTests(SharedCluster):
    """What becomes of a command, from its launch to its last status."""

    async def test_starting_running_and_finished_are_told_in_mesos_words(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        handle = await ledger.run("short", "echo hi; echo err >&2")
        last = await ledger.over("short")
        self.assertEqual(await handle.terminal(), last)
        self.assertEqual(ledger.states("short"), ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"])
        self.assertEqual(
            [(s.message, s.HasField("reason")) for s in ledger.statuses["short"]],
            [("", False), ("", False), ("Command exited with status 0", False)],
        )
        for status in ledger.statuses["short"]:
            self.assertEqual(status.source, TaskStatus.SOURCE_EXECUTOR)
            self.assertEqual(len(status.uuid), 16)
            self.assertEqual(status.agent_id.value, handle.agent_id)
            self.assertEqual(status.executor_id.value, "short")
            self.assertTrue(status.container_status.container_id.value)
            self.assertGreater(status.timestamp, 1.6e9)
        where = sandbox(cluster, ledger, last)
        self.assertEqual((where / "stdout").read_text(), "hi\n")
        self.assertEqual((where / "stderr").read_text(), "err\n")
        self.assertEqual(where.resolve().name, last.container_status.container_id.value)
        slaves = where.parents[6]
        self.assertEqual((slaves / "latest").resolve().name, last.agent_id.value)
        ledger.balance()
        await cluster.acknowledged()

    async def test_a_status_other_than_0_fails_the_task(self) -> None:
        ledger = (await self.shared()).framework()
        handle = await ledger.run("bad", "(exit 3)")
        status = await ledger.over("bad")
        self.assertEqual(status.message, "Command exited with status 3")
        self.assertEqual(status.source, TaskStatus.SOURCE_EXECUTOR)
        await self.assertFailure(handle.terminal(), TaskFailed)
        ledger.balance()

    async def test_a_command_that_dies_by_a_signal_fails_the_task(self) -> None:
        ledger = (await self.shared()).framework()
        await ledger.launch(command_task("x", "kill -SEGV $$", id="segv"))
        status = await ledger.over("segv")
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertIn("Command terminated with signal Segmentation fault", status.message)

    async def test_arguments_reach_a_program_as_they_are_and_a_shell_reads_a_text(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.launch(
            command_task("argv", ["echo", "$HOME  *"], id="argv"),
            command_task("shell", "echo $((6 * 7)) a   b", id="shell"),
        )
        argv, shell = await ledger.over("argv"), await ledger.over("shell")
        self.assertEqual((sandbox(cluster, ledger, argv) / "stdout").read_text(), "$HOME  *\n")
        self.assertEqual((sandbox(cluster, ledger, shell) / "stdout").read_text(), "42 a b\n")

    async def test_the_environment_is_mesos_and_the_commands_own_and_nothing_of_the_agents(
        self,
    ) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.launch(command_task("e", "env", id="env", environment={"COLOUR": "blue sky"}))
        status = await ledger.over("env")
        where = sandbox(cluster, ledger, status)
        found = dict(line.split("=", 1) for line in (where / "stdout").read_text().splitlines())
        self.assertEqual(found["COLOUR"], "blue sky")
        self.assertEqual(found["MESOS_FRAMEWORK_ID"], ledger.id)
        self.assertEqual(found["MESOS_EXECUTOR_ID"], "env")
        self.assertEqual(found["MESOS_SLAVE_ID"], status.agent_id.value)
        self.assertEqual(Path(found["MESOS_SANDBOX"]), where.resolve())
        self.assertEqual(Path(found["MESOS_DIRECTORY"]), where.resolve())
        self.assertEqual(Path(found["PWD"]), where.resolve())
        self.assertNotIn("PYTHONPATH", found)
        self.assertIn("/bin", found["PATH"])

    async def test_a_task_runs_as_its_user_in_a_sandbox_of_its_user(self) -> None:
        if not ROOT:
            self.skipTest("only root can become somebody else")
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.launch(
            command_task("who", "id -un; id -u > file; umask", id="who", user="nobody")
        )
        status = await ledger.over("who")
        where = sandbox(cluster, ledger, status)
        self.assertEqual((where / "stdout").read_text().splitlines()[0], "nobody")
        nobody = int((where / "file").read_text())
        for name in ("", "stdout", "stderr", "file"):
            self.assertEqual((where / name).stat().st_uid, nobody, name)
        self.assertEqual(where.stat().st_mode & 0o777, 0o700)

    async def test_an_unknown_user_fails_the_task_and_the_agent_goes_on(self) -> None:
        ledger = (await self.shared()).framework()
        await ledger.launch(command_task("x", "true", id="nouser", user="no-such-user"))
        status = await ledger.over("nouser")
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.reason, Reason.REASON_CONTAINER_LAUNCH_FAILED)
        self.assertIn("no-such-user", status.message)
        await ledger.launch(command_task("x", "true", id="after"), agent_id=status.agent_id.value)
        self.assertEqual((await ledger.over("after")).state, TaskState.TASK_FINISHED)

    async def test_a_program_that_is_not_there_fails_the_task(self) -> None:
        ledger = (await self.shared()).framework()
        await ledger.launch(command_task("x", ["no-such-program"], id="noprogram"))
        status = await ledger.over("noprogram")
        self.assertEqual(status.state, TaskState.TASK_FAILED)

    async def test_resource_limits_hold_for_the_task(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        info = command_task("x", "ulimit -n; ulimit -c", id="limits")
        info.container.type = info.container.MESOS
        limits = info.container.rlimit_info.rlimits
        limits.add(type=RLimitInfo.RLimit.RLMT_NOFILE, soft=123, hard=200)
        limits.add(type=RLimitInfo.RLimit.RLMT_CORE, soft=0, hard=0)
        await ledger.launch(info)
        status = await ledger.over("limits")
        self.assertEqual(status.state, TaskState.TASK_FINISHED, ledger.story("limits"))
        self.assertEqual((sandbox(cluster, ledger, status) / "stdout").read_text(), "123\n0\n")

    async def test_what_a_task_has_left_running_ends_with_it(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        body = "setsid sh -c 'echo $$ > child; exec sleep 1000' & while [ ! -s child ]; do :; done"
        await ledger.launch(command_task("x", body, id="parent"))
        status = await ledger.over("parent")
        child = int((sandbox(cluster, ledger, status) / "child").read_text())
        await until(f"the end of {child}", lambda: not processes.alive(child))


class KillTests(SharedCluster):
    """Ending tasks."""

    async def test_a_killed_task_is_told_so_with_killing_in_between(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        handle = await ledger.run("long", "sleep 1000")
        await ledger.running("long")
        handle.kill()
        status = await ledger.over("long")
        self.assertEqual(
            ledger.states("long"), ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]
        )
        self.assertEqual(status.message, "Command terminated with signal Terminated")
        self.assertEqual(status.source, TaskStatus.SOURCE_EXECUTOR)
        ledger.balance()
        await cluster.acknowledged()

    async def test_killing_is_kept_from_who_does_not_know_it(self) -> None:
        ledger = (await self.shared()).framework(capabilities=False)
        handle = await ledger.run("long", "sleep 1000")
        await ledger.running("long")
        handle.kill()
        await ledger.over("long")
        self.assertEqual(ledger.states("long"), ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"])

    async def test_a_task_that_ignores_sigterm_is_killed_when_its_grace_is_over(self) -> None:
        ledger = (await self.shared()).framework()
        body = "trap 'echo term' TERM; while :; do sleep 0.05; done"
        handle = await ledger.run("stubborn", body, kill_grace=0.5)
        await ledger.running("stubborn")
        handle.kill()
        status = await ledger.over("stubborn")
        self.assertEqual(status.state, TaskState.TASK_KILLED)
        self.assertEqual(status.message, "Command terminated with signal Killed")
        killing, killed = ledger.statuses["stubborn"][-2:]
        self.assertGreater(killed.timestamp - killing.timestamp, 0.4)
        ledger.balance()

    async def test_the_grace_of_the_call_goes_before_that_of_the_task(self) -> None:
        ledger = (await self.shared()).framework()
        body = "trap '' TERM; while :; do sleep 0.05; done"
        handle = await ledger.run("patient", body, kill_grace=1000.0)
        await ledger.running("patient")
        handle.kill(grace=0.2)
        status = await ledger.over("patient")
        self.assertEqual(status.message, "Command terminated with signal Killed")
        ledger.balance()

    async def test_a_torn_down_framework_leaves_nothing_running(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        for number in range(3):
            await ledger.run(f"t{number}", "sleep 1000")
            await ledger.running(f"t{number}")
        await ledger.framework.teardown()
        for number in range(3):
            await ledger.gone(f"t{number}")
        await cluster.acknowledged()


class RefusalTests(SharedCluster):
    """Tasks that cannot be."""

    async def test_more_than_was_offered_is_an_error_that_says_so(self) -> None:
        ledger = (await self.shared()).framework()
        handles = await ledger.launch(command_task("x", "true", id="huge", cpus=1000.0))
        error = await self.assertFailure(handles[0].terminal(), TaskInvalid)
        self.assertEqual(error.reason, Reason.REASON_TASK_INVALID)
        self.assertIn("1000", error.message)

    async def test_an_id_that_is_no_file_name_is_an_error(self) -> None:
        ledger = (await self.shared()).framework()
        handles = await ledger.launch(command_task("x", "true", id="../../x"))
        error = await self.assertFailure(handles[0].terminal(), TaskInvalid)
        self.assertIn("invalid", error.message)

    async def test_an_offer_of_before_is_no_offer_now(self) -> None:
        ledger = (await self.shared()).framework()
        offer = await ledger.offer()
        await ledger.framework.decline(offer)
        await self.assertFailure(
            ledger.framework.accept(offer, [command_task("x", "true")]), OfferGone
        )


class FetchTests(SharedCluster):
    """What is fetched into a sandbox before the command starts."""

    def _source(self) -> Path:
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        (directory / "plain.txt").write_text("plain\n")
        script = directory / "script.sh"
        script.write_text("#!/bin/sh\necho script $1\n")
        with tarfile.open(directory / "bundle.tar.gz", "w:gz") as bundle:
            bundle.add(directory / "plain.txt", "inside/member.txt")
        for parent in (directory, *directory.parents):
            if not parent.stat().st_mode & 0o001 and not ROOT:
                self.skipTest(f"{parent} is closed to others")
        return directory

    def _serve(self, directory: Path) -> int:
        handler = functools.partial(_Quiet, directory=str(directory))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join(10)

        self.addCleanup(stop)
        return server.server_address[1]

    async def test_files_come_from_paths_and_http_and_archives_are_extracted(self) -> None:
        cluster = await self.shared()
        source = self._source()
        site = f"http://127.0.0.1:{self._serve(source)}"
        uri = CommandInfo.URI
        uris = [
            uri(value=f"file://{source}/plain.txt"),
            uri(value=f"{site}/script.sh", executable=True),
            uri(value=f"{site}/bundle.tar.gz"),
            uri(value=f"{site}/plain.txt", output_file="sub/renamed.txt"),
            uri(value=f"{source}/bundle.tar.gz", extract=False, output_file="kept.tar.gz"),
        ]
        ledger = cluster.framework()
        body = "cat plain.txt; ./script.sh works; cat inside/member.txt sub/renamed.txt; ls kept*"
        await ledger.launch(command_task("x", body, id="fetch", uris=uris))
        status = await ledger.over("fetch")
        self.assertEqual(status.state, TaskState.TASK_FINISHED, ledger.story("fetch"))
        self.assertEqual(
            (sandbox(cluster, ledger, status) / "stdout").read_text().splitlines(),
            ["plain", "script works", "plain", "plain", "kept.tar.gz"],
        )

    async def test_what_cannot_be_fetched_fails_the_task_and_says_what(self) -> None:
        source = self._source()
        ledger = (await self.shared()).framework()
        missing = f"http://127.0.0.1:{self._serve(source)}/missing"
        await ledger.launch(command_task("x", "touch ran", id="nofetch", uris=[missing]))
        status = await ledger.over("nofetch")
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.reason, Reason.REASON_CONTAINER_LAUNCH_FAILED)
        self.assertIn("missing", status.message)
        self.assertIn("404", status.message)

    async def test_a_task_can_be_killed_while_a_server_keeps_its_file_back(self) -> None:
        import socket

        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        ledger = (await self.shared()).framework()
        uri = f"http://127.0.0.1:{server.getsockname()[1]}/never"
        handles = await ledger.launch(command_task("x", "true", id="stalled", uris=[uri]))
        server.settimeout(0)
        connection: Any = None

        def asked() -> bool:
            nonlocal connection
            try:
                connection, _ = server.accept()
            except BlockingIOError:
                return False
            return True

        await until("the fetcher asks", asked)
        self.addCleanup(connection.close)
        status = await handles[0].kill()
        self.assertEqual(status.state, TaskState.TASK_KILLED)
        self.assertNotIn("TASK_RUNNING", ledger.states("stalled"))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Say nothing."""


class ReconciliationTests(SharedCluster):
    """Asking what has become of tasks."""

    async def test_running_and_unknown_tasks_are_answered(self) -> None:
        ledger = (await self.shared()).framework()
        handle = await ledger.run("runs", "sleep 1000")
        await ledger.running("runs")
        await ledger.framework.reconcile([("runs", handle.agent_id), ("unheard", "")])
        await until("answers", lambda: ledger.answers["runs"] and ledger.answers["unheard"])
        known, unknown = ledger.answers["runs"][-1], ledger.answers["unheard"][-1]
        self.assertEqual(known.state, RUNNING)
        self.assertEqual(known.reason, Reason.REASON_RECONCILIATION)
        self.assertEqual(known.message, "Reconciliation: Latest task state")
        self.assertEqual(unknown.state, TaskState.TASK_UNKNOWN)
        self.assertEqual(unknown.message, "Reconciliation: Task is unknown")

    async def test_who_does_not_know_partitions_is_told_lost_of_what_is_unknown(self) -> None:
        ledger = (await self.shared()).framework(capabilities=False)
        await ledger.framework.when_subscribed()
        await ledger.framework.reconcile([("unheard", "")])
        await until("an answer", lambda: ledger.answers["unheard"])
        self.assertEqual(ledger.answers["unheard"][-1].state, TaskState.TASK_LOST)

    async def test_all_tasks_are_told_of_where_none_is_named(self) -> None:
        ledger = (await self.shared()).framework()
        for name in ("one", "two"):
            await ledger.run(name, "sleep 1000")
            await ledger.running(name)
        ledger.answers.clear()
        await ledger.framework.reconcile()
        await until("answers", lambda: {"one", "two"} <= set(ledger.answers))


class FairnessTests(SharedCluster):
    """Several frameworks at a time."""

    async def test_two_frameworks_on_three_agents_both_get_offers_and_run_tasks(self) -> None:
        cluster = await self.shared()
        ledgers = [cluster.framework(f"f{n}") for n in range(2)]
        for ledger in ledgers:
            await ledger.run("mine", "sleep 1000")
        for ledger in ledgers:
            await ledger.running("mine")
        self.assertNotEqual(ledgers[0].id, ledgers[1].id)
        self.assertTrue(all(ledger.offers_seen for ledger in ledgers))

    async def test_roles_and_names_of_frameworks_are_their_own(self) -> None:
        cluster = await self.shared()
        info = FrameworkInfo(user="", name="with a role", roles=["blue"])
        info.capabilities.add().type = FrameworkInfo.Capability.MULTI_ROLE
        ledger = cluster.framework(info=info)
        offer = await ledger.offer()
        self.assertEqual(offer.role, "blue")
