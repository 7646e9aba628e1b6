"""An operator on pymesos, in a process of its own: it says on standard output what it hears.

    python pymesos_operator.py MASTER AGENT

It watches the master. Lines on standard input are C{master} or C{agent}, a method of that
driver and its arguments, as a JSON list. A line of output is an event's name, or the method's,
and what came with it.

It imports nothing of ours: it is a stranger's program.
"""

# mypy: ignore-errors

import json
import sys

from pymesos import MesosOperatorAgentDriver, MesosOperatorMasterDriver, OperatorMaster


def say(event, value=None):
    print(json.dumps([event, value]), flush=True)


class Watcher(OperatorMaster):
    """Says what it hears."""

    def taskAdded(self, task_info):
        say("task added", task_info)

    def taskUpdated(self, task_info):
        say("task updated", task_info)

    def frameworkAdded(self, framework_info):
        say("framework added", framework_info)

    def frameworkUpdated(self, framework_info):
        say("framework updated", framework_info)

    def frameworkRemoved(self, framework_info):
        say("framework removed", framework_info)

    def agentAdded(self, agent_info):
        say("agent added", agent_info)

    def agentRemoved(self, agent_info):
        say("agent removed", agent_info)


def main():
    watching = MesosOperatorMasterDriver(sys.argv[1], Watcher())
    subscribed = watching.on_subscribed
    watching.on_subscribed = lambda info: (subscribed(info), say("subscribed", info))
    watching.start()
    drivers = {"master": watching, "agent": MesosOperatorAgentDriver(sys.argv[2])}
    for line in sys.stdin:
        whose, name, *arguments = json.loads(line)
        try:
            say(name, getattr(drivers[whose], name)(*arguments))
        except Exception as error:
            say("failed", [name, str(error)])
    watching.stop()
    watching.join()
    say("stopped")


main()
