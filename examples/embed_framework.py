"""A framework inside a Twisted program: one task, as soon as there is room for it."""

import sys

from twisted.internet.task import react

from mesoskit.driver import Framework, FrameworkInfo, command_task


async def main(reactor, master="127.0.0.1:5050"):
    info = FrameworkInfo(user="", name="embedded")
    async with Framework(reactor, master, info) as framework:
        async for offer in framework.offers():
            [task] = await framework.accept(offer, [command_task("hello", "echo hello")])
            break
        status = await task.terminal()
    print(status.message)


react(main, sys.argv[1:])
