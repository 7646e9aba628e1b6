"""Prints what becomes of a cluster's tasks, until Ctrl-C: watch_tasks.py 127.0.0.1:5050"""

import json
import sys

import treq
from twisted.internet.task import react

from mesoskit.wire.recordio import Decoder

SUBSCRIBE = {"type": "SUBSCRIBE"}
JSON = "application/json"
LARGEST = 256 * 1024 * 1024  # what SUBSCRIBED of a very large cluster may have, in bytes


def tell(event):
    kind = event["type"]
    if kind == "SUBSCRIBED":
        state = event["subscribed"]["get_state"]
        print(f"{len(state['get_tasks']['tasks'])} tasks", flush=True)
    elif kind == "TASK_ADDED":
        task = event["task_added"]["task"]
        print(f"{task['task_id']['value']}: {task['state']}", flush=True)
    elif kind == "TASK_UPDATED":
        updated = event["task_updated"]
        print(f"{updated['status']['task_id']['value']}: {updated['state']}", flush=True)


async def main(reactor, master):
    # Mesos wants these types to the letter: treq's own for JSON names a charset.
    headers = {"Content-Type": JSON, "Accept": JSON}
    answer = await treq.post(
        f"http://{master}/api/v1",
        json.dumps(SUBSCRIBE).encode(),
        headers=headers,
        unbuffered=True,
        reactor=reactor,
    )
    if answer.code != 200:
        raise SystemExit(f"{answer.code}: {await answer.text()}")
    records = Decoder(LARGEST)

    def heard(data):
        for record in records.feed(data):
            tell(json.loads(record))

    await treq.collect(answer, heard)
    raise SystemExit(str(records.error or "The master has ended the stream."))


react(main, sys.argv[1:])
