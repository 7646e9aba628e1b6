"""A master inside a Twisted program."""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from mesoskit.app.master import FLAGS, make_master


async def main(reactor, *flags):
    values = FLAGS.parse(["--ip=127.0.0.1", "--work_dir=cluster/master", *flags])
    master = make_master(reactor, values)
    reactor.addSystemEventTrigger("before", "shutdown", master.stopService)
    await master.startService()
    await Deferred()  # until Ctrl-C


react(main, sys.argv[1:])
