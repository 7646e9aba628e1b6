"""A cluster in which everything goes over TLS, and what is refused there."""

from __future__ import annotations

import subprocess
from pathlib import Path

from twisted.internet.threads import deferToThread

from mesoskit.driver import TLS
from mesoskit.testing.certificates import Authority, make, write
from tests.cluster.harness import ClusterTestCase, Daemon
from tests.cluster.test_execute import Command
from tests.cluster.waiting import until


async def run(*command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, for 20 s at the most."""
    return await deferToThread(
        lambda: subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    )


class TLSClusterTests(ClusterTestCase):
    """Certificates on both sides of every connection."""

    timeout = 600

    def certificates(self, directory: Path) -> dict[str, object]:
        """Make certificates; returns the flags of a daemon that asks for them."""
        make(directory)
        return {
            "tls_cert_file": directory / "server.pem",
            "tls_key_file": directory / "server-key.pem",
            "tls_ca_file": directory / "ca.pem",
        }

    async def test_tasks_run_and_nobody_comes_in_without(self) -> None:
        cluster = self.cluster()
        certs = cluster.directory / "certs"
        flags = self.certificates(certs)
        strict = {**flags, "tls_require_client_cert": "true"}
        cluster.make_master(strict).start()
        cluster.make_agent("a0", strict).start()
        await until(
            "the agent registers",
            lambda: "has shown the certificate of CN=mesoskit server" in cluster.master.log(),
            seen=cluster.logs,
        )
        await self.check_http(cluster.master, certs)
        await self.check_http(cluster.agent, certs)

        ours = TLS(
            ca_file=certs / "ca.pem",
            cert_file=certs / "client.pem",
            key_file=certs / "client-key.pem",
        )
        ledger = cluster.framework(tls=ours)
        await ledger.framework.when_subscribed()
        await ledger.run("t", "head -c 3000000 /dev/zero > big")
        await ledger.over("t")
        path = f"/frameworks/{ledger.id}/executors/t/runs/latest/big"
        sandbox = await run(
            *(
                "curl",
                "-sS",
                "--cacert",
                str(certs / "ca.pem"),
                "--cert",
                str(certs / "client.pem"),
            ),
            *("--key", str(certs / "client-key.pem"), "-o", "/dev/null", "-w", "%{size_download}"),
            f"https://127.0.0.1:{cluster.master.port}/files/download?path={path}",
        )
        self.assertEqual((sandbox.stdout, sandbox.stderr), (b"3000000", b""))
        command = Command(
            cluster.directory / "run",
            "execute",
            f"--master={cluster.master.address}",
            "--name=one",
            "--command=true",
            "--resources=cpus:0.1;mem:32",
            f"--tls_ca_file={certs / 'ca.pem'}",
            f"--tls_cert_file={certs / 'client.pem'}",
            f"--tls_key_file={certs / 'client-key.pem'}",
        )
        self.assertEqual(await command.ended(), 0, command.output)
        self.assertIn("has shown the certificate of CN=mesoskit client", cluster.master.log())
        self.assertIn("has shown the certificate of CN=mesoskit server", cluster.master.log())

    async def check_http(self, daemon: Daemon, certs: Path) -> None:
        """Clients that others wrote come in with a certificate, and only so."""
        where = f"https://127.0.0.1:{daemon.port}/health"
        known = await run(
            *("curl", "-sS", "--cacert", str(certs / "ca.pem"), "-w", "%{http_code}", where),
            *("--cert", str(certs / "client.pem"), "--key", str(certs / "client-key.pem")),
        )
        self.assertEqual((known.stdout, known.stderr), (b"200", b""))
        stranger = await run("curl", "-sS", "--cacert", str(certs / "ca.pem"), where)
        self.assertNotEqual(stranger.returncode, 0)
        plain = await run("curl", "-sS", where.replace("https", "http"))
        self.assertNotEqual(plain.returncode, 0)
        self.assertIn("speaks without TLS and is turned away", daemon.log())
        shown = await run(
            *(
                "openssl",
                "s_client",
                "-connect",
                f"127.0.0.1:{daemon.port}",
                "-verify_return_error",
            ),
            *("-CAfile", str(certs / "ca.pem"), "-cert", str(certs / "client.pem")),
            *("-key", str(certs / "client-key.pem")),
            stdin=b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        self.assertIn(b"Verify return code: 0 (ok)", shown.stdout)

    async def test_both_where_it_is_wanted_and_files_that_will_not_do(self) -> None:
        cluster = self.cluster()
        certs = cluster.directory / "certs"
        flags = self.certificates(certs)
        master = cluster.make_master({**flags, "tls_support_downgrade": "true"})
        master.start()
        # The harness asks over plain HTTP, and the agent knows of no TLS.
        cluster.make_agent("a0").start()
        await master.ready()
        await cluster.registered()
        certificate = await run(
            "curl",
            "-sS",
            "--cacert",
            str(certs / "ca.pem"),
            f"https://127.0.0.1:{master.port}/health",
        )
        self.assertEqual((certificate.returncode, certificate.stderr), (0, b""))

        old = Authority().issue("old", ("127.0.0.1",), days=-1, age=9)
        write(certs / "old.pem", old[0])
        write(certs / "old-key.pem", old[1], private=True)
        for wrong, words in (
            ({"tls_key_file": certs / "client-key.pem"}, "client-key.pem: is not the key"),
            (
                {"tls_cert_file": certs / "old.pem", "tls_key_file": certs / "old-key.pem"},
                "old.pem: the certificate has expired",
            ),
        ):
            await master.stop()
            master.start(**{**flags, **wrong})
            self.assertEqual(await master.ended(), 1)
            self.assertIn(f"mesos-master: --tls: {certs}/{words}", master.log())
