"""An executor over HTTP for tests, of the standard library alone. Run as a program by an agent.

It tries to come in without its token and with a forged one, then with the right one. Its task
finishes at once; the data of its last status says what came of all that, and the digest of the
secret that it found in its environment.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import time
import uuid
from typing import Any

AGENT = os.environ["MESOS_AGENT_ENDPOINT"]
TOKEN = os.environ["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"]
WHOSE = {
    "framework_id": {"value": os.environ["MESOS_FRAMEWORK_ID"]},
    "executor_id": {"value": os.environ["MESOS_EXECUTOR_ID"]},
}


def post(call: dict[str, Any], token: str | None) -> http.client.HTTPResponse:
    """POST a call; return the answer, whose body is not read yet."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection = http.client.HTTPConnection(AGENT, timeout=90)
    connection.request("POST", "/slave(1)/api/v1/executor", json.dumps({**WHOSE, **call}), headers)
    return connection.getresponse()


def update(task: dict[str, Any], state: str, data: bytes = b"") -> None:
    """Say what became of the task."""
    status = {
        "task_id": task["task_id"],
        "state": state,
        "source": "SOURCE_EXECUTOR",
        "uuid": base64.b64encode(uuid.uuid4().bytes).decode(),
        "timestamp": time.time(),
        "data": base64.b64encode(data).decode(),
    }
    answer = post({"type": "UPDATE", "update": {"status": status}}, TOKEN)
    assert answer.status == 202, (answer.status, answer.read())


def main() -> None:
    """Subscribe, run one task, and end when told to."""
    subscribe = {"type": "SUBSCRIBE", "subscribe": {}}
    tried = [post(subscribe, token).status for token in (None, TOKEN[:-4] + "AAAA")]
    stream = post(subscribe, TOKEN)
    tried.append(stream.status)
    secret = hashlib.sha256(os.environ["PASSWORD"].encode()).hexdigest()
    while line := stream.readline():
        event = json.loads(stream.read(int(line)))
        if event["type"] == "LAUNCH":
            task = event["launch"]["task"]
            update(task, "TASK_RUNNING")
            update(task, "TASK_FINISHED", json.dumps([tried, secret]).encode())
        elif event["type"] == "SHUTDOWN":
            return


if __name__ == "__main__":
    main()
