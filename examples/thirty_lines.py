"""Runs shell commands on the cluster: thirty_lines.py 127.0.0.1:5050 'echo one' 'exit 3'"""

import sys

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import react

from mesoskit.driver import Framework, FrameworkInfo, TaskEnded, command_task


async def follow(task):
    try:
        print(f"{task.info.name}: {(await task.terminal()).message}")
    except TaskEnded as error:
        print(f"{task.info.name}: {error.state.name}, {error.message}")


async def main(reactor, master, *commands):
    todo, ends = list(commands), []
    async with Framework(reactor, master, FrameworkInfo(user="", name="thirty")) as framework:
        async for offer in framework.offers():
            room = int(min(offer.cpus // 0.5, offer.mem // 64))
            tasks = [command_task(each, each, cpus=0.5, mem=64) for each in todo[:room]]
            for task in await framework.accept(offer, tasks):
                ends.append(Deferred.fromCoroutine(follow(task)))
            todo = todo[room:]
            if not todo:
                break
        await DeferredList(ends)


react(main, sys.argv[1:])
