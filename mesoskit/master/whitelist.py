"""The agents that are offered at all, where the operator has a list of them (C{--whitelist})."""

from dataclasses import dataclass


class WhitelistError(ValueError):
    """A whitelist cannot be read."""


@dataclass(slots=True, frozen=True)
class Whitelisted:
    """
    An event: the whitelist is another.

    @ivar hostnames: of the agents that are offered from now on.
    """

    hostnames: frozenset[str]


def parse_whitelist(text: str, source: str) -> frozenset[str]:
    """
    Read a whitelist: a host name a line. Raises L{WhitelistError}.

    @param source: what the text is from, for messages.
    """
    names = set()
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        if len(name.split()) > 1 or len(name) > 255:
            raise WhitelistError(f"{source}, line {number}: expected one host name a line")
        names.add(name)
    return frozenset(names)
