"""Offers made and declined a second through a real master over real sockets.

Many agents, many frameworks that decline all they are offered with a filter of 0 seconds, at a
short allocation interval. Agents and frameworks are played by a process of their own, on raw
sockets.

    python benchmarks/offers.py [--agents 1000] [--frameworks 200] [--seconds 5] [--runs 3]
"""

import argparse
import os
import statistics
from functools import partial
from time import perf_counter

from agents import registration
from daemons import Daemon, in_child, table
from rawlinks import RawLink, RawLoop, hello, messages, packed

from mesoskit.messages import internal_pb2, mesos_pb2, scheduler_pb2
from mesoskit.messages.stream_pb2 import Role

_PING = packed(internal_pb2.PongSlaveMessage())
_REGISTERED = internal_pb2.SlaveRegisteredMessage.DESCRIPTOR.full_name.encode()
_OFFERS = scheduler_pb2.Event.OFFERS
_SUBSCRIBED = scheduler_pb2.Event.SUBSCRIBED


def subscription(number: int) -> bytes:
    """Return the frame with which a framework subscribes, each in a role of its own."""
    call = scheduler_pb2.Call(type=scheduler_pb2.Call.SUBSCRIBE)
    info = call.subscribe.framework_info
    info.user, info.name = "nobody", f"bench-{number}"
    info.roles.append(f"role-{number}")
    info.capabilities.add().type = mesos_pb2.FrameworkInfo.Capability.MULTI_ROLE
    return packed(call)


class Tally:
    """What has been offered so far."""

    def __init__(self) -> None:
        self.registered = self.subscribed = self.offers = self.events = 0


def measure(agents: int, frameworks: int, seconds: float, interval: str) -> dict[str, float]:
    """Start a master, and measure one round with it."""
    tally = Tally()
    flags = "--registry=in_memory", f"--allocation_interval={interval}"
    with Daemon("mesos-master", *flags) as master:
        loop = RawLoop(master.port)

        def as_agent(link: RawLink, payload: bytes) -> None:
            if _REGISTERED in payload:
                tally.registered += 1
                loop.running = tally.registered < agents
            elif payload:
                link.send(_PING)

        def as_framework(link: RawLink, payload: bytes) -> None:
            call = scheduler_pb2.Call(type=scheduler_pb2.Call.DECLINE)
            for event in messages(payload):
                assert isinstance(event, scheduler_pb2.Event)
                if event.type == _OFFERS:
                    tally.events += 1
                    call.decline.offer_ids.extend([offer.id for offer in event.offers.offers])
                elif event.type == _SUBSCRIBED:
                    tally.subscribed += 1
                    link.mind = event.subscribed.framework_id
                    loop.running = tally.subscribed < frameworks
            if call.decline.offer_ids:
                tally.offers += len(call.decline.offer_ids)
                call.framework_id.CopyFrom(link.mind)
                call.decline.filters.refuse_seconds = 0
                link.send(packed(call))

        def subscribe(link: RawLink) -> None:
            link.send(link.mind)

        for number in range(agents):
            loop.dial(
                RawLink(lambda link: link.send(link.mind), as_agent, registration(number)),
                hello(Role.AGENT),
            )
        loop.run(60)
        loop.running = True
        for number in range(frameworks):
            loop.dial(RawLink(subscribe, as_framework, subscription(number)), hello(Role.FRAMEWORK))
        loop.run(60)
        loop.turn_for(1.0)
        before = tally.offers, tally.events, master.cpu(), sum(os.times()[:2]), perf_counter()
        loop.turn_for(seconds)
        after = tally.offers, tally.events, master.cpu(), sum(os.times()[:2]), perf_counter()
        loop.close()
        offers, events, cpu, own, passed = (b - a for a, b in zip(before, after, strict=True))
        return {
            "rate": offers / passed,
            "bundle": offers / max(1, events),
            "cpu": cpu / offers * 1e6,
            "busy": cpu / passed,
            "own": own / offers * 1e6,
        }


def main() -> None:
    """Run all rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--frameworks", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--interval", default="50ms")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    one = partial(measure, chosen.agents, chosen.frameworks, chosen.seconds, chosen.interval)
    results = [in_child(one) for _ in range(chosen.runs)]
    median = {key: statistics.median(r[key] for r in results) for key in results[0]}
    table(
        f"Offers made and declined, {chosen.agents:,} agents, {chosen.frameworks} frameworks,"
        f" interval {chosen.interval}, median of {chosen.runs} runs",
        ["offers/s", "offers an event", "master CPU us/offer", "of a core", "harness CPU us/offer"],
        [
            [
                f"{median['rate']:,.0f}",
                f"{median['bundle']:.1f}",
                f"{median['cpu']:.1f}",
                f"{median['busy']:.0%}",
                f"{median['own']:.1f}",
            ]
        ],
    )


if __name__ == "__main__":
    main()
