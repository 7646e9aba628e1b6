"""Stage one: a scheduler that does nothing but say what it is told.

    mesoskit local                                      (in another terminal)
    python examples/tutorial/1_empty_template.py --master 127.0.0.1:5050

It registers, and prints each offer. It neither accepts nor declines them, so it keeps them
until it ends, or until the master takes them back (C{--offer_timeout}).
"""

import argparse
import sys

from twisted.internet.task import react

from mesoskit.driver import Framework, FrameworkInfo, Scheduler


class EmptyScheduler(Scheduler):
    """Overrides what it wants to hear of; L{Scheduler} does nothing for all the rest."""

    def __init__(self):
        self.offers = []

    def subscribed(self, framework):
        print(f"Framework registered with ID={framework.id}")
        print(f"Scheduler Registered with Master {framework.master_info.id}", flush=True)

    def resource_offers(self, framework, offers):
        # An offer that nobody holds is declined; these are held, and never used.
        self.offers += offers
        for offer in offers:
            print(f"Received Offer <{offer.id}> with cpus={offer.cpus:g} mem={offer.mem:g}")
        sys.stdout.flush()

    def offer_rescinded(self, framework, offer_id):
        self.offers = [offer for offer in self.offers if offer.id != offer_id]
        print(f"Offer <{offer_id}> rescinded", flush=True)

    def disconnected(self, framework, why):
        self.offers.clear()
        print(f"Scheduler Disconnected: {why}", flush=True)

    def error(self, framework, error):
        print(f"Scheduler received error: {error}", flush=True)


def main(reactor, *arguments):
    parser = argparse.ArgumentParser(description="A scheduler that does nothing.")
    parser.add_argument("--master", default="127.0.0.1:5050")
    given = parser.parse_args(arguments)
    info = FrameworkInfo(user="", name="Test Framework (Twisted)")
    framework = Framework(reactor, given.master, info, scheduler=EmptyScheduler())
    # Ctrl-C ends it: the master forgets the framework, and offers its resources to others.
    reactor.addSystemEventTrigger("before", "shutdown", framework.stopService)
    return framework.run()


if __name__ == "__main__":
    react(main, sys.argv[1:])
