"""C{mesoskit task}: the command line, and masters and agents that answer this and that."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from mesoskit.cli import main
from mesoskit.cli.asking import CannotBeDone, NotNow, Server
from mesoskit.cli.command_line import Line, split
from mesoskit.cli.task import EXEC
from mesoskit.cli.task_client import Cluster
from mesoskit.cli.task_session import window
from mesoskit.messages import master_pb2
from mesoskit.messages.mesos_pb2 import TaskState
from mesoskit.testing.certificates import make
from tests.base import SynchronousTestCase
from tests.cli.masters import Answer, master, refusal, reply, say


def said(*arguments: str) -> tuple[int, str, str]:
    """Run C{mesoskit task}; return its exit status, and what it has written."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        status = main(["task", *arguments])
    return status, out.getvalue(), err.getvalue()


class CommandLines(SynchronousTestCase):
    """What is understood, and what is said of the rest."""

    def test_flags_end_where_words_begin(self) -> None:
        self.assertEqual(
            split(["-it", "--user=kim", "web", "sh", "-c", "ls --all"]),
            (["--interactive", "--tty", "--user=kim"], ["web", "sh", "-c", "ls --all"]),
        )
        self.assertEqual(split(["-i", "--", "-odd", "x"]), (["--interactive"], ["-odd", "x"]))
        self.assertEqual(split(["web", "--", "ls", "--"]), ([], ["web", "ls", "--"]))
        self.assertEqual(split(["-x"]), (["-x"], []))

    def test_help_names_every_command(self) -> None:
        status, out, _ = said()
        self.assertEqual(status, 1)
        self.assertEqual(said("--help")[:2], (0, out))
        for name in ("list", "exec", "attach"):
            self.assertIn(f"mesoskit task {name}", out)
            self.assertIn("--master", said(name, "--help")[1])

    def test_mistakes_are_one_line(self) -> None:
        for arguments, why in (
            (("lsit",), "unknown command 'lsit'"),
            (("exec", "web"), "1 words besides the flags"),
            (("attach",), "0 words besides the flags"),
            (("list", "web"), "1 words besides the flags"),
            (("exec", "-x", "web", "sh"), "'-x' is not a flag"),
            (("list", "--principal=kim"), "--principal and --secret belong together"),
            (("list", "--master=ftp://host"), "host:port or https://host:port is wanted"),
            (("list", "--master=host:port"), "cannot ask 'host:port'"),
            (("list", "--master=127.0.0.1:1"), "cannot reach 127.0.0.1:1"),
        ):
            status, out, err = said(*arguments)
            self.assertEqual((status, out), (1, ""), arguments)
            self.assertIn(why, err)
            self.assertEqual(err.count("\n"), 1)

    def test_the_master_is_found_in_the_environment(self) -> None:
        for environment, expected in (
            ({"MESOS_MASTER": "10.0.0.1:5050", "MESOS_USER": "nobody"}, "10.0.0.1:5050"),
            ({}, "127.0.0.1:5050"),
        ):
            values = EXEC.parse([], environment)
            self.assertEqual((Line(values, ()).master, values.user), (expected, None))

    def test_an_address_of_zookeeper_that_cannot_be_is_named(self) -> None:
        status, _, err = said("list", "--master=zk://joe:secret@host")
        self.assertEqual(status, 1)
        self.assertIn("zk://joe:***@host", err)
        self.assertNotIn("secret", err)

    def test_a_window_has_a_size_even_where_there_is_none(self) -> None:
        rows, columns = window()
        self.assertTrue(rows and columns)


def tasks(*names: str, container: bool = True) -> Answer:
    """Return a master that has these tasks, on one agent."""

    def answer(handler: Any, call: Any) -> None:
        response = master_pb2.Response(type=master_pb2.Call.Type.Name(call.type))
        for name in names if call.type == master_pb2.Call.GET_TASKS else ():
            task = response.get_tasks.tasks.add(name=name, state=TaskState.TASK_RUNNING)
            task.task_id.value, task.agent_id.value, task.framework_id.value = name, "a", "f"
            if container:
                status = task.statuses.add(state=TaskState.TASK_RUNNING)
                status.task_id.value = name
                status.container_status.container_id.value = f"c-{name}"
        if call.type == master_pb2.Call.GET_AGENTS:
            agent = response.get_agents.agents.add(active=True, version="1", pid="slave(1)@h:99")
            agent.agent_info.hostname, agent.agent_info.id.value = "host.example", "a"
        reply(handler, response)

    return answer


class Masters(SynchronousTestCase):
    """What masters say."""

    def cluster(self, address: str, *flags: str) -> Cluster:
        return Cluster(Line(EXEC.parse([f"--master={address}", *flags]), ()))

    def test_a_task_is_found_by_its_id_or_the_beginning_of_it(self) -> None:
        with master(tasks("web", "web-2", "db")) as address:
            cluster = self.cluster(address)
            for name, found in (("web", "web"), ("web-", "web-2"), ("d", "db")):
                target = cluster.task(name)
                self.assertEqual(target.container.value, f"c-{found}")
                self.assertEqual((target.agent.host, target.agent.port), ("h", 99))
            error = self.assertRaises(CannotBeDone, cluster.task, "we")
            self.assertEqual(str(error), "2 tasks run whose ids are or begin with 'we': web, web-2")
            error = self.assertRaises(CannotBeDone, cluster.task, "x")
            self.assertEqual(str(error), "no task runs whose id is or begins with 'x'")
            rows = cluster.rows(False)
            self.assertEqual(rows[0], ("web", "TASK_RUNNING", "f", "host.example"))

    def test_a_task_without_a_container_is_named(self) -> None:
        with master(tasks("web", container=False)) as address:
            error = self.assertRaises(CannotBeDone, self.cluster(address).task, "web")
        self.assertEqual(str(error), "task web has no container yet")

    def test_one_that_does_not_lead_sends_us_on(self) -> None:
        with master(tasks("web")) as leader:

            def elsewhere(handler: Any, call: Any) -> None:
                handler.send_response(307)
                handler.send_header("Location", f"//{leader}/api/v1")
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            with master(elsewhere) as address:
                self.assertEqual(self.cluster(address).task("web").container.value, "c-web")

    def test_masters_that_send_us_round_in_circles_are_left(self) -> None:
        def circle(handler: Any, call: Any) -> None:
            handler.send_response(307)
            handler.send_header("Location", f"//{handler.headers['Host']}/api/v1")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with master(circle) as address:
            error = self.assertRaises(CannotBeDone, self.cluster(address).task, "web")
        self.assertIn("none of them leads", str(error))

    def test_whoever_is_sent_on_without_tls_does_not_go(self) -> None:
        certificates = Path(self.mktemp())
        make(certificates)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificates / "server.pem", certificates / "server-key.pem")
        asked: list[str] = []

        def leads(handler: Any, call: Any) -> None:
            asked.append(handler.headers["Authorization"])
            say(handler, 403, b"")

        with master(leads) as leader:

            def elsewhere(handler: Any, call: Any) -> None:
                handler.send_response(307)
                handler.send_header("Location", f"http://{leader}/api/v1")
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            with master(elsewhere, tls) as address:
                who = ("--principal=p", "--secret=s", f"--tls_ca_file={certificates / 'ca.pem'}")
                status, out, err = said("list", f"--master=https://{address}", *who)
        self.assertEqual((1, "", []), (status, out, asked))
        self.assertIn("without TLS: not asked", err)

    def test_who_asks_is_proved(self) -> None:
        heard: list[str] = []

        def ask(handler: Any, call: Any) -> None:
            heard.append(handler.headers["Authorization"])
            tasks("web")(handler, call)

        with master(ask) as address:
            self.cluster(address, "--principal=kim", "--secret=pass").task("web")
        self.assertEqual(set(heard), {"Basic a2ltOnBhc3M="})

    def test_refusals_are_told_with_the_reason(self) -> None:
        for status, text, flags, said in (
            (400, "Unknown", (), "answered 400: Unknown"),
            (401, "", (), "wants to know who asks: --principal and --secret say it"),
            (401, "", ("kim",), "does not believe principal 'kim' with that secret"),
            (
                403,
                "No.",
                (),
                "answered 403: GET_TASKS is not for everybody; --principal and --secret say who",
            ),
            (
                403,
                "Forbidden.",
                ("kim",),
                "answered 403: GET_TASKS is not for principal 'kim' (Forbidden.)",
            ),
            (501, "Not Implemented", (), "answered 501: Not Implemented: GET_TASKS is not there"),
            (503, "No leader elected", (), "answered 503: No leader elected"),
        ):
            given = [f"--principal={name}" for name in flags] + ["--secret=s" for _ in flags]
            with master(refusal(status, text)) as address:
                error = self.assertRaises(CannotBeDone, self.cluster(address, *given).task, "web")
            self.assertTrue(str(error).startswith(f"{address} {said}"), error)
            self.assertEqual(isinstance(error, NotNow), status == 503)

    def test_an_agent_is_not_taken_for_a_master(self) -> None:
        def nothing(handler: Any, call: Any) -> None:
            handler.send_response(404 if handler.path.startswith("/master/") else 200)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with master(nothing) as address:
            error = self.assertRaises(CannotBeDone, self.cluster(address).rows, False)
        self.assertEqual(str(error), f"{address} is no master: nothing is at /master/api/v1")

    def test_what_is_no_answer_is_named(self) -> None:
        def cut(handler: Any, call: Any) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", "100")
            handler.end_headers()
            handler.wfile.write(b"x")

        for answer, why in (
            (cut, "has left in the middle of its answer"),
            (lambda handler, call: say(handler, 200, b"\xff"), "not a mesos.v1.master.Response"),
        ):
            with master(answer) as address:
                error = self.assertRaises(CannotBeDone, self.cluster(address).rows, False)
            self.assertIn(why, str(error))

    def test_whoever_may_speak_tls_or_not_is_proposed(self) -> None:
        def hang_up(handler: Any, call: Any) -> None:
            reset = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            handler.connection.close()
            handler.wfile = handler.rfile = BytesIO()

        with master(hang_up) as address:
            error = self.assertRaises(CannotBeDone, self.cluster(address).rows, False)
            self.assertIn("did not answer: ", str(error))
            self.assertIn(f"if it speaks TLS: https://{address}", str(error))
            error = self.assertRaises(CannotBeDone, self.cluster(f"https://{address}").rows, False)
        self.assertIn(f"if it speaks no TLS: http://{address}", str(error))

    def test_addresses_may_be_urls(self) -> None:
        line = Line(EXEC.parse([]), ())
        server = Server("https://host.example:5051", line)
        self.assertEqual((server.host, server.port, server.secure), ("host.example", 5051, True))
        self.assertEqual(Server("host", line).port, 5050)
