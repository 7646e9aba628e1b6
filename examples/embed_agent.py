"""An agent inside a Twisted program."""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from mesoskit.app.agent import FLAGS, make_agent


async def main(reactor, *flags):
    given = ["--master=127.0.0.1:5050", "--ip=127.0.0.1", "--work_dir=cluster/agent", *flags]
    agent = make_agent(reactor, FLAGS.parse(given))
    reactor.addSystemEventTrigger("before", "shutdown", agent.stopService)
    await agent.startService()
    await Deferred()  # until Ctrl-C


react(main, sys.argv[1:])
