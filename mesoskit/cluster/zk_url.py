"""C{zk://user:password@host:port,host:port/path}: which ZooKeeper, as whom, and where in it."""

import re
from dataclasses import dataclass, field
from typing import Final

SCHEME: Final = "zk://"

DEFAULT_PORT: Final = 2181

_EXAMPLE: Final = "zk://10.0.0.1:2181,10.0.0.2:2181/mesos"

_HOST: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/@\[\],]+)(:(?P<port>[0-9]{1,5}))?", re.ASCII
)


class URLError(ValueError):
    """
    The text is no such URL. The message does not repeat a password.

    @ivar why: what is wrong with it.
    """

    def __init__(self, text: str, why: str) -> None:
        self.why = why
        super().__init__(f"{hidden(text)!r} is not the URL of a ZooKeeper: {why}")


@dataclass(slots=True, frozen=True)
class ZooKeeperURL:
    """
    Where a cluster's nodes are.

    @ivar hosts: C{host:port} each; IPv6 addresses in brackets.
    @ivar path: absolute, without a slash at its end, and not C{/} itself.
    @ivar credential: C{user:password} of the digest scheme, or L{None}.
    """

    hosts: tuple[str, ...]
    path: str
    # A secret: it must not get into a log with the rest.
    credential: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> "ZooKeeperURL":
        """
        Read one as Mesos writes them (C{src/master/detector/zookeeper.cpp}); raises L{URLError}.

        What Mesos does not allow either: the path C{/}, where all of a ZooKeeper's users meet.
        """
        if not is_zookeeper(text):
            raise URLError(text, f"it does not begin with {SCHEME}; {_EXAMPLE} would do")
        rest = text.strip()[len(SCHEME) :]
        # The password may have an @ or a slash, so the last @ before the path's slash is the one.
        credential: str | None = None
        if "@" in rest:
            credential, _, rest = rest.rpartition("@")
            if not credential.partition(":")[0] or ":" not in credential:
                raise URLError(text, "before the @ stand a user and a password, user:password")
        servers, slash, path = rest.partition("/")
        path = _path(text, slash + path)
        return cls(_hosts(text, servers), path, credential)

    def __str__(self) -> str:
        """Return it as people may see it."""
        who = f"{self.credential.partition(':')[0]}:***@" if self.credential else ""
        return f"{SCHEME}{who}{','.join(self.hosts)}{self.path}"


def is_zookeeper(text: str) -> bool:
    """Tell whether the text is meant to be such a URL."""
    return text.strip().startswith(SCHEME)


def hidden(text: str) -> str:
    """Return the text with what may be a password left out."""
    return re.sub(r"(//[^:@/]*:).*@", r"\1***@", text)


def _hosts(text: str, servers: str) -> tuple[str, ...]:
    hosts = []
    for server in filter(None, (part.strip() for part in servers.split(","))):
        match = _HOST.fullmatch(server)
        if match is None:
            raise URLError(text, f"{server!r} is no host:port; {_EXAMPLE} would do")
        port = int(match["port"] or DEFAULT_PORT)
        if not 0 < port < 65536:
            raise URLError(text, f"{server!r} has no port from 1 to 65535")
        hosts.append(f"{match['host']}:{port}")
    if not hosts:
        raise URLError(text, f"it names no server; {_EXAMPLE} would do")
    return tuple(hosts)


def _path(text: str, path: str) -> str:
    names = [name for name in path.split("/") if name]
    if not names:
        raise URLError(text, f"the path is missing; {_EXAMPLE} would do")
    if any(name in (".", "..") for name in names) or not all(map(str.isprintable, names)):
        raise URLError(text, f"no node can have the path {path!r}")
    return "/" + "/".join(names)
