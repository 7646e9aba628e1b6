"""What a container is asked to be, and what is heard of it.

The seam between AgentState and the agent's hands: the state gives the effects
below, the service performs them through a C{Containers} (L{mesoskit.agent.containers})
and a fetcher, and tells what became of them as the events below.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mesoskit.model.ids import ContainerId
from mesoskit.model.values import Ranges


@dataclass(slots=True, frozen=True)
class Uri:
    """One thing to fetch (Mesos' C{CommandInfo.URI})."""

    value: str
    executable: bool = False
    extract: bool = True
    cache: bool = False
    output_file: str | None = None


Amounts = tuple[tuple[str, float | Ranges], ...]
"""What there is of some resources, by their names."""

UNLIMITED: Final = -1
"""In place of a limit: there is none."""


@dataclass(slots=True, frozen=True)
class Allotment:
    """
    What a container was given, and what it may take at most. 0 where nothing was given.

    @ivar cpus: thousandths of a core.
    @ivar mem: bytes.
    @ivar disk: bytes of its sandbox.
    @ivar gpus: whole ones.
    @ivar cpus_limit: thousandths of a core, or L{UNLIMITED}. L{None}: what C{cpus} is, where
        the agent limits CPU time at all (C{--cgroups_enable_cfs}).
    @ivar mem_limit: bytes, or L{UNLIMITED}. L{None}: what C{mem} is.
    @ivar ports: of the machine, as sorted ranges.
    """

    cpus: int = 0
    mem: int = 0
    disk: int = 0
    gpus: int = 0
    cpus_limit: int | None = None
    mem_limit: int | None = None
    ports: Ranges = ()


@dataclass(slots=True, frozen=True)
class Limitation:
    """
    Why whoever runs a container has ended it: it took more than it was given.

    @ivar reason: a L{mesoskit.model.tasks.Reason}: C{REASON_CONTAINER_LIMITATION_MEMORY} ...
    @ivar message: with the numbers, as Mesos words it.
    @ivar resources: what there was too much of, as (name, amount in Mesos' unit); of C{ports}
        the amount is ranges.
    """

    reason: int
    message: str
    resources: Amounts = ()


@dataclass(slots=True, frozen=True)
class Console:
    """
    That somebody may attach to a container's input and output.

    @ivar terminal: whether these are a terminal rather than pipes.
    @ivar session: whether the container exists for who is attached: its output waits for him.
    @ivar rows: of the terminal, 0 for no particular size; C{columns} likewise.
    """

    terminal: bool = False
    session: bool = False
    rows: int = 0
    columns: int = 0


@dataclass(slots=True, frozen=True)
class ContainerSpec:
    """
    One container: a process (with all it starts) in a sandbox.

    @ivar id: unique for ever; every command of the launcher is idempotent by it.
    @ivar argv: what is executed. A shell command is C{("sh", "-c", command)}.
    @ivar file: the executable where it is not C{argv[0]}: C{"/bin/sh"}, or Mesos'
        C{CommandInfo.value} with C{shell=false}; without a slash it is looked for in C{PATH}.
    @ivar environment: all of it; nothing of the agent's own is added.
    @ivar sandbox: the working directory, made by the service as the user, with what is
        missing above it; C{stdout} and C{stderr} are files in it.
    @ivar user: whom it runs as; L{None}: the agent's own user.
    @ivar image_user: whom it runs as in somebody else's container, by that one's names; L{None}:
        whom that one does.
    @ivar rlimits: (name such as C{"RLMT_NOFILE"}, soft, hard); L{None} for no limit.
    @ivar uris: what is fetched into the sandbox before it starts.
    @ivar links: symbolic links, each as (path, target), made or replaced beside the sandbox.
    @ivar allotment: what it was given; isolators hold it to that.
    @ivar info: its C{ContainerInfo} as it came (images, volumes, networks, Linux); empty for none.
    @ivar docker: whether it is a container of the Docker engine (C{ContainerInfo.DOCKER}).
    @ivar parent: the container that it is nested in: it shares that one's network and, where
        volumes say so, its sandbox, and ends with it.
    @ivar pod: whether it is the container of an executor of groups: it holds what its tasks share.
    @ivar member: whether it is one of these tasks: held to what itself was given, in a namespace
        of processes and of mounts of its own.
    @ivar patience: for how many seconds it goes on while no agent is there; L{None}: for ever.
    @ivar wrong: why it cannot be started at all, found out before; empty: nothing is known.
    @ivar staged: what it executes makes namespaces, mounts and rights for what it starts: of
        isolators it wants limits alone.
    @ivar mounts: what is mounted for it alone, each as in
        L{mesoskit.agent.launcher_isolation.Mount}.
    @ivar console: how somebody may attach to it; L{None}: not at all, and it has no input.
    """

    id: ContainerId
    argv: tuple[str, ...]
    sandbox: str
    # Secrets among them: it must not get into a log with the rest.
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    file: str | None = None
    user: str | None = None
    rlimits: tuple[tuple[str, int | None, int | None], ...] = ()
    uris: tuple[Uri, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    allotment: Allotment = Allotment()
    info: bytes = field(default=b"", repr=False)  # there may be secrets in it
    docker: bool = False
    parent: ContainerId | None = None
    pod: bool = False
    member: bool = False
    patience: float | None = None
    wrong: str = ""
    staged: bool = False
    mounts: tuple[tuple[str, str, str, int, str, bool], ...] = ()
    console: Console | None = None
    image_user: str | None = None


@dataclass(slots=True)
class Launch:
    """Effect: make the sandbox, fetch, start. Answered by ContainerStarted or ContainerFailed."""

    spec: ContainerSpec


@dataclass(slots=True)
class Signal:
    """Effect: signal the process group of a container; nothing happens if it has ended."""

    container: ContainerId
    signum: int


@dataclass(slots=True)
class Destroy:
    """
    Effect: SIGKILL everything the container ever started. L{ContainerExited} follows, as for
    any end; L{ContainerFailed}, where it was not started yet.
    """

    container: ContainerId


@dataclass(slots=True)
class Update:
    """Effect: a container that runs is given more or less."""

    container: ContainerId
    allotment: Allotment


@dataclass(slots=True)
class Forget:
    """Effect: the container's end is recorded; the launcher may drop what it kept of it."""

    container: ContainerId


@dataclass(slots=True)
class Settle:
    """Effect: the agent has a new id; C{slaves/latest} is to lead to its directory."""

    agent_id: str


@dataclass(slots=True)
class Remove:
    """Effect: delete a directory tree (sandbox GC)."""

    path: str


@dataclass(slots=True, frozen=True)
class ContainerFacts:
    """
    What whoever runs a container has to say of it, for the status that its task runs.

    @ivar data: as its framework gets it: of a Docker engine the inspection, a JSON array.
    @ivar addresses: under which the container is reached, where it has a network of its own.
    @ivar classid: the number that what it sends bears (C{cgroups/net_cls}); L{None}: none.
    """

    data: bytes = b""
    addresses: tuple[str, ...] = ()
    classid: int | None = None


@dataclass(slots=True)
class ContainerStarted:
    """
    Event: the container's process runs.

    @ivar pid: 0 where it had ended before anybody could look.
    @ivar facts: L{None} where there is nothing to say of it.
    """

    container: ContainerId
    pid: int
    facts: ContainerFacts | None = None


@dataclass(slots=True)
class ContainerProgress:
    """Event: how far the launch of a container is that takes long: an image is being pulled."""

    container: ContainerId
    message: str


@dataclass(slots=True)
class ContainerFailed:
    """
    Event: it could not be started; nothing of it is left running.

    @ivar stage: C{"sandbox"}, C{"fetch"} or C{"launch"}.
    @ivar why: what went wrong, with the value.
    """

    container: ContainerId
    stage: str
    why: str


@dataclass(slots=True)
class ContainerExited:
    """
    Event: the container's first process has ended and the rest of it was killed.

    @ivar status: the wait status (C{os.WIFEXITED} …); L{None} where nobody knows.
    @ivar limitation: set where it was ended for taking too much.
    """

    container: ContainerId
    status: int | None
    limitation: Limitation | None = None


@dataclass(slots=True, frozen=True)
class Usage:
    """
    What a container uses.

    @ivar user_seconds: CPU time since its start; C{system_seconds} likewise.
    @ivar rss_bytes: resident memory.
    @ivar processes: how many; C{threads}: of all of them together, 0 where nobody has counted.
    @ivar timestamp: when this was so, in seconds since 1970.
    @ivar figures: whatever else is known, under the names of Mesos' C{ResourceStatistics}:
        C{"mem_file_bytes"}, C{"cpus_nr_throttled"}, C{"disk_used_bytes"} ...; C{"cpus_limit"}
        where a quota holds it. Several containers of an executor are shown as their sum.
    @ivar whole: whether what is nested in it is counted in.
    @ivar parts: what of it is no number (C{blkio_statistics}, C{disk_statistics} ...), as a
        serialized C{ResourceStatistics} of nothing else.
    """

    user_seconds: float
    system_seconds: float
    rss_bytes: int
    processes: int
    timestamp: float = 0.0
    threads: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    parts: bytes = b""
    whole: bool = False


@dataclass(slots=True)
class UsageRead:
    """Event: what all containers used at one moment, from one pass over /proc."""

    usage: dict[ContainerId, Usage] = field(default_factory=dict)


@dataclass(slots=True)
class DiskRead:
    """Event: how full the file system of the work directory is (0.0 to 1.0)."""

    used: float


@dataclass(slots=True)
class RecoveredContainers:
    """
    Event: what the launcher still holds from before this agent process, told once after
    C{Recovered}. Each of them is destroyed or forgotten by the state; L{ContainerExited}
    comes for those in C{running} as for any other, and not for those in C{exited}.

    @ivar running: pid by container.
    @ivar exited: wait status by container; L{None} where nobody knows it.
    @ivar abandoned: those of both that are being ended, or were, because no agent was there for
        longer than their C{patience}.
    @ivar limitations: of those in C{exited} that were ended for taking too much: why.
    @ivar classes: of those in C{running} that have one: their C{ContainerFacts.classid}.
    """

    running: dict[ContainerId, int] = field(default_factory=dict)
    exited: dict[ContainerId, int | None] = field(default_factory=dict)
    abandoned: frozenset[ContainerId] = frozenset()
    limitations: dict[ContainerId, Limitation] = field(default_factory=dict)
    classes: dict[ContainerId, int] = field(default_factory=dict)


@dataclass(slots=True)
class SandboxesFound:
    """
    Event: the sandboxes that lie in the work directory at start, as (path, moment of the
    last change in seconds since 1970). Those that no live container owns wait for the GC.
    """

    sandboxes: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True)
class Removed:
    """Event: a tree that L{Remove} named is gone (C{why} empty), or why it is not."""

    path: str
    why: str = ""
