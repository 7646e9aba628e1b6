"""
What operators cost who watch a cluster in which nothing happens.

A master with agents and tasks, in a process of its own; so many clients subscribe to the operator
API and take what comes, which is a heartbeat now and then. Told are the share of a core that the
master takes meanwhile, beside what it takes with nobody watching, its memory a stream, and how
long it took until all were served.

    .venv/bin/python benchmarks/operator_streams.py [--streams 500] [--seconds 20]
"""

import argparse
import selectors
import socket
import time

import psutil
from daemons import forked, free_port, table
from metrics import serve
from state import wait

CALL = b'{"type":"SUBSCRIBE"}'


def request(media: str) -> bytes:
    """Return a SUBSCRIBE."""
    head = f"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: {media}"
    return f"{head}\r\nContent-Length: {len(CALL)}\r\n\r\n".encode() + CALL


class Watchers:
    """
    Clients that watch.

    @ivar heard: bytes that came to all of them together.
    """

    def __init__(self, port: int, count: int, media: str) -> None:
        self.heard = 0
        self._selector = selectors.DefaultSelector()
        self._sockets = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(request(media))
            client.setblocking(False)
            self._selector.register(client, selectors.EVENT_READ)
            self._sockets.append(client)

    def listen(self, seconds: float, quiet: float | None = None) -> float:
        """Take what comes for so long, or until nothing has come for a while; return how long."""
        begun = last = time.monotonic()
        while (now := time.monotonic()) < begun + seconds:
            if quiet is not None and now > last + quiet:
                break
            for key, _ in self._selector.select(0.1):
                came = len(key.fileobj.recv(1 << 20))  # type: ignore[union-attr]
                if not came:
                    raise RuntimeError("the master has closed a stream")
                self.heard += came
                last = time.monotonic()
        return last - begun

    def close(self) -> None:
        """Leave."""
        for client in self._sockets:
            client.close()
        self._selector.close()


def main() -> None:
    """Start a master, watch it, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=100)
    chosen = parser.parse_args()
    port = free_port()
    with forked(lambda: serve(port, chosen.agents, chosen.tasks, 5)) as master:
        measure(port, master, chosen)


def measure(port: int, master: psutil.Process, chosen: argparse.Namespace) -> None:
    """Let nobody watch, and then many, in either type."""
    wait(port).close()
    time.sleep(1)
    rows = []
    kinds = (("JSON", "application/json"), ("protobuf", "application/x-protobuf"))
    for name, media in (("nobody", ""), *kinds):
        resident = master.memory_info().rss
        watchers = Watchers(port, chosen.streams if media else 0, media)
        served = watchers.listen(60, quiet=4.0) if media else 0.0
        first, grown = watchers.heard, master.memory_info().rss - resident
        before = sum(master.cpu_times()[:2])
        watchers.listen(chosen.seconds)
        share = (sum(master.cpu_times()[:2]) - before) / chosen.seconds
        count = max(1, chosen.streams if media else 0)
        rows.append(
            [
                name,
                f"{served:.1f}",
                f"{first / count / 1000:.0f}",
                f"{share * 100:.2f}",
                f"{grown / count / 1000:.1f}",
                f"{(watchers.heard - first) / count:.0f}",
            ]
        )
        watchers.close()
        time.sleep(1)
    table(
        f"{chosen.streams} streams, {chosen.agents} agents, {chosen.tasks} tasks,"
        f" {chosen.seconds:g} s",
        ["who", "all served s", "SUBSCRIBED kB", "% of a core", "kB a stream", "bytes heard"],
        rows,
    )


if __name__ == "__main__":
    main()
