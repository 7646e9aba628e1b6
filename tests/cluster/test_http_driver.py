"""Frameworks of ours that reach their master over v1 HTTP, and frameworks that come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from mesoskit.driver import (
    TLS,
    AuthenticationFailed,
    Credential,
    DriverSettings,
    FailedOver,
    Framework,
    FrameworkInfo,
    TaskState,
    command_task,
    executor_info,
    task,
)
from mesoskit.testing.certificates import make
from tests.cluster.harness import CHECKOUT, Cluster, ClusterTestCase, environment
from tests.cluster.ledger import marking
from tests.cluster.processes import alive
from tests.cluster.test_authentication import SECRETS, credentials, private
from tests.cluster.test_failover import SETTINGS, FailoverTestCase
from tests.cluster.waiting import PATIENCE, reactor, until


class HttpDriverTests(ClusterTestCase):
    """The same ledgers as over the native stream."""

    timeout = 600

    async def test_tasks_live_die_and_outlive_the_master(self) -> None:
        cluster = self.cluster()
        await cluster.start(agents=2)
        over_http = f"http://{cluster.master.address}"
        json = DriverSettings(http_json=True)
        ledgers = [
            cluster.framework("protobuf", master=over_http),
            cluster.framework("json", master=over_http, settings=json),
        ]
        for ledger in ledgers:
            await ledger.framework.when_subscribed()
            for number in range(10):
                await ledger.run(f"short-{number}", "true")
            await ledger.run("bad", "exit 3")
            await ledger.run("long", "sleep 1000")
            await ledger.running("long")
        for ledger in ledgers:
            for number in range(10):
                status = await ledger.over(f"short-{number}")
                self.assertEqual(TaskState.TASK_FINISHED, status.state)
            self.assertEqual(TaskState.TASK_FAILED, (await ledger.over("bad")).state)
        echo = task(
            "echo",
            id="echo",
            executor=executor_info(
                "echo", f"cd {CHECKOUT} && exec {sys.executable} -m tests.cluster.echo_executor"
            ),
            cpus=0.1,
            mem=64,
            data=b"wait",
        )
        [ledger, other] = ledgers
        offer = await ledger.offer(mem=96)
        [handle] = await ledger.framework.accept(offer, [echo])
        await handle.running()
        await ledger.framework.message(handle.agent_id, "echo", b"hello")
        await until("an answer", lambda: ledger.messages)

        await cluster.master.kill()
        cluster.master.start()
        await cluster.master.ready()
        await cluster.registered()
        for each in ledgers:
            await each.framework.when_subscribed()
            await each.run("after", "true")
            await each.over("after")
            each.framework.kill("long")
            self.assertEqual(TaskState.TASK_KILLED, (await each.over("long")).state)
        await handle.kill()
        other.balance()
        await cluster.acknowledged()

    async def test_with_tls_and_a_secret(self) -> None:
        cluster = self.cluster()
        certs = cluster.directory / "certs"
        make(certs)
        known = private(cluster.directory / "credentials.json", credentials(SECRETS))
        tls = {
            "tls_cert_file": certs / "server.pem",
            "tls_key_file": certs / "server-key.pem",
            "tls_ca_file": certs / "ca.pem",
        }
        master = cluster.make_master(
            {
                **tls,
                "authenticate_http_frameworks": "true",
                "http_framework_authenticators": "basic",
                "credentials": known,
            }
        )
        master.start()
        agent = cluster.make_agent("a0", tls)
        agent.start()
        where = f"https://127.0.0.1:{master.port}"
        ours = TLS(ca_file=certs / "ca.pem")
        ledger = cluster.framework(
            master=where, tls=ours, credential=Credential("ops", SECRETS["ops"])
        )
        await until("a subscription", lambda: ledger.framework.subscribed, seen=cluster.logs)
        await ledger.run("t", "true")
        self.assertEqual(TaskState.TASK_FINISHED, (await ledger.over("t")).state)
        for wrong in (Credential("ops", "nonsense"), None):
            info = FrameworkInfo(user="", name="wrong")
            stranger = Framework(reactor, where, info, tls=ours, credential=wrong)
            with self.assertRaises(AuthenticationFailed):
                await stranger.run()
        self.assertNotIn(SECRETS["ops"], master.log())

        # A master that cannot prove who it is never hears of the secret.
        fooled = Framework(
            reactor, where, FrameworkInfo(user="", name="x"), credential=Credential("ops", "s")
        )
        warned: list[str] = []
        self.patch(fooled._subscription, "_complain", warned.append)
        fooled.startService()
        await until("a complaint", lambda: warned)
        self.assertIn("certificate verify failed", warned[0])
        await fooled.stopService()


class ElectedHttpTests(FailoverTestCase):
    """Several masters, of which one leads, over HTTP."""

    async def test_the_leader_is_found_and_the_next_one_too(self) -> None:
        cluster = await self.elected(masters=2)
        standby_first = sorted(cluster.masters, key=lambda each: each is cluster.master)
        ledgers = [
            cluster.framework(name, master=where, settings=SETTINGS)
            for name, where in (
                ("detected", f"http+{cluster.url}"),
                ("sent-on", ",".join(f"http://{each.address}" for each in standby_first)),
            )
        ]
        for ledger in ledgers:
            await self.ends_well(ledger, "before")
            await ledger.run("long", "sleep 1000")
            await ledger.running("long")
        await cluster.master.kill()
        await cluster.leads()
        await cluster.registered()
        for ledger in ledgers:
            await self.ends_well(ledger, "after")
            ledger.framework.kill("long")
            self.assertEqual(TaskState.TASK_KILLED, (await ledger.over("long")).state)
            self.assertEqual([], ledger.errors)
            ledger.balance()


class ComingBackTests(ClusterTestCase):
    """Schedulers that are killed and come back, over both ways to the master."""

    timeout = 600

    async def lonely(self, cluster: Cluster, master: str, id_file: Path, name: str) -> int:
        """Let a scheduler in a process of its own launch a task; returns the scheduler's pid."""
        marks = cluster.directory / f"marks-{name}"
        marks.touch()
        marks.chmod(0o666)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.cluster.lonely_framework"),
                *(master, str(id_file), "3600", name, marking(name, marks, "sleep 1000")),
            ],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            self.addCleanup(pipe.close)
            os.set_blocking(pipe.fileno(), False)
        await until("its task runs", process.stdout.read)  # type: ignore[union-attr]
        await until("its task's mark", lambda: marks.read_text().endswith("\n"))
        self.task_pid = int(marks.read_text().split()[2])
        self.scheduler = process
        return process.pid

    async def test_handles_are_there_again_and_the_one_before_is_told(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        for scheme in ("", "http://"):
            where = scheme + cluster.master.address
            id_file = cluster.directory / f"id-{len(scheme)}"
            name = f"t{len(scheme)}"
            killed = await self.lonely(cluster, where, id_file, name)
            os.kill(killed, signal.SIGKILL)

            async def back() -> Framework:
                info = FrameworkInfo(user="", name="back", failover_timeout=3600.0)
                framework = Framework(reactor, where, info, id_file=id_file)  # noqa: B023
                framework.startService()
                self.addCleanup(framework.stopService)
                await framework.when_subscribed()
                return framework

            first = await back()
            ended = first.run()
            [handle] = await first.adopt_all()
            self.assertEqual((name, TaskState.TASK_RUNNING), (handle.id, handle.state))
            observed = handle.terminal()
            second = await back()
            for waiting in (ended, observed):
                with self.assertRaises(FailedOver):
                    await waiting
            [mine] = await second.adopt_all()
            self.assertTrue(alive(self.task_pid))
            self.assertEqual(TaskState.TASK_KILLED, (await mine.kill()).state)
            self.assertFalse(alive(self.task_pid))
            await second.teardown()

    async def test_kill_waits_for_an_agent_that_is_away_and_for_another_master(
        self,
    ) -> None:
        cluster = self.cluster()
        await cluster.start()
        handles = []
        for scheme in ("", "http://"):
            info = FrameworkInfo(user="", name="killer")
            framework = Framework(reactor, scheme + cluster.master.address, info)
            self.addCleanup(framework.stopService)
            async with framework.offers() as offers:
                async for offer in offers:
                    info_ = command_task("t", "sleep 1000", id=f"t{len(scheme)}")
                    handles += await framework.accept(offer, [info_])
                    break
            await handles[-1].running()
        cluster.agent.signal(signal.SIGSTOP)
        self.addCleanup(cluster.agent.signal, signal.SIGCONT)
        kills = [handle.kill() for handle in handles]
        await cluster.master.kill()
        cluster.master.start()
        await cluster.master.ready()
        cluster.agent.signal(signal.SIGCONT)
        for kill in kills:
            kill.addTimeout(PATIENCE, reactor)
            self.assertEqual(TaskState.TASK_KILLED, (await kill).state)
