"""A scheduler on pymesos, in a process of its own: it says on standard output what it hears.

    python pymesos_scheduler.py MASTER FRAMEWORK_INFO TASKS [PRINCIPAL SECRET]

FRAMEWORK_INFO is JSON; TASKS a JSON object of commands by task id, or of what else is to be in
the task: its executor and data. It launches each task on the first offer that holds it. Further
lines on standard input are a method of the driver and its arguments, as a JSON list. A line of
output is an event's name and what came with it.

It imports nothing of ours: it is a stranger's program.
"""

# mypy: ignore-errors

import json
import sys

from pymesos import MesosSchedulerDriver, Scheduler

RESOURCES = {"cpus": 0.1, "mem": 32.0}


def say(event, value=None):
    print(json.dumps([event, value]), flush=True)


class Recorder(Scheduler):
    """Launches what is to be launched, and says what it hears."""

    def __init__(self, commands):
        self.waiting = dict(commands)

    def registered(self, driver, framework_id, master):
        say("registered", [framework_id, master])

    def reregistered(self, driver, master):
        say("reregistered", master)

    def disconnected(self, driver):
        say("disconnected")

    def resourceOffers(self, driver, offers):
        for offer in offers:
            if not self.waiting:
                driver.declineOffer(offer["id"], {"refuse_seconds": 1})
                continue
            tasks = [self.task(offer, *item) for item in self.waiting.items()]
            self.waiting.clear()
            driver.launchTasks(offer["id"], tasks, {"refuse_seconds": 1})

    def task(self, offer, name, told):
        return {
            "name": name,
            "task_id": {"value": name},
            "agent_id": offer["agent_id"],
            **(told if isinstance(told, dict) else {"command": {"value": told}}),
            "resources": [
                {"name": key, "type": "SCALAR", "scalar": {"value": value}}
                for key, value in RESOURCES.items()
            ],
        }

    def statusUpdate(self, driver, update):
        say("update", update)

    def frameworkMessage(self, driver, executor_id, agent_id, message):
        say("message", message)

    def executorLost(self, driver, executor_id, agent_id, status):
        say("executor lost", [executor_id["value"], status])

    def error(self, driver, message):
        say("error", message)


def main():
    master, framework, commands = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    principal, secret = sys.argv[4:6] or (None, None)
    driver = MesosSchedulerDriver(
        Recorder(commands), framework, master, principal=principal, secret=secret
    )
    driver.start()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            getattr(driver, name)(*arguments)
            say("did", name)
        except Exception as error:
            say("failed", [name, str(error)])
    driver.stop()
    driver.join()
    say("stopped")


main()
