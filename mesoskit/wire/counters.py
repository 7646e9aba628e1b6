"""What the links of one port have carried, for a daemon's metrics."""


class Counters:
    """
    Totals over any number of links; they only grow, except C{links}.

    @ivar links: links that are open now.
    @ivar opened: links that were ever opened.
    @ivar frames_in: frames taken, heartbeats among them.
    @ivar items_in: messages and answers taken.
    @ivar bytes_in: bytes read.
    @ivar frames_out: frames handed to transports.
    @ivar items_out: messages and answers put into frames.
    @ivar bytes_out: bytes handed to transports.
    @ivar errors: how often links were ended for each kind of error; the kinds are listed
        in C{docs/wire.md}.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "errors",
        "frames_in",
        "frames_out",
        "items_in",
        "items_out",
        "links",
        "opened",
    )

    def __init__(self) -> None:
        self.links = 0
        self.opened = 0
        self.frames_in = 0
        self.items_in = 0
        self.bytes_in = 0
        self.frames_out = 0
        self.items_out = 0
        self.bytes_out = 0
        self.errors: dict[str, int] = {}

    def error(self, kind: str) -> None:
        """Count an error of this kind."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def snapshot(self, prefix: str) -> dict[str, int]:
        """Return all of them by name, C{frames_in} or C{errors/silent}, behind C{prefix}."""
        values = {prefix + name: getattr(self, name) for name in self.__slots__ if name != "errors"}
        for kind, count in self.errors.items():
            values[f"{prefix}errors/{kind}"] = count
        return values
