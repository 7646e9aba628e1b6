"""An executor on pymesos: its tasks do what their data says. Run as a program by an agent.

A task finishes, fails, waits for a kill, or ends the process; messages are sent back.

It imports nothing of ours: it is a stranger's program.
"""

# mypy: ignore-errors

import os
import sys
import time

from pymesos import Executor, MesosExecutorDriver, decode_data, encode_data


class Echo(Executor):
    """Does what it is told, and says so."""

    def registered(self, driver, executor_info, framework_info, agent_info):
        ids = [
            executor_info["executor_id"],
            executor_info["framework_id"],
            framework_info["id"],
            agent_info["id"],
        ]
        print("registered", *(each["value"] for each in ids), file=sys.stderr, flush=True)

    def launchTask(self, driver, task):
        word = decode_data(task["data"]).decode()
        if word == "exit":
            os._exit(7)
        self.say(driver, task["task_id"], "TASK_RUNNING")
        if word != "wait":
            self.say(driver, task["task_id"], word)

    def launchTaskGroup(self, driver, task_infos):
        for task in task_infos:
            self.launchTask(driver, task)

    def killTask(self, driver, task_id):
        self.say(driver, task_id, "TASK_KILLED")

    def frameworkMessage(self, driver, message):
        driver.sendFrameworkMessage(encode_data(b"%d %s" % (os.getpid(), decode_data(message))))

    def say(self, driver, task_id, state):
        update = {"task_id": task_id, "state": state, "timestamp": time.time(), "message": "said"}
        driver.sendStatusUpdate(update)


MesosExecutorDriver(Echo()).run()
