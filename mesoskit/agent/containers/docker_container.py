"""What is known of one container of the Docker engine while there is an agent."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mesoskit.agent.container import Limitation
from mesoskit.agent.containers.docker_found import Found
from mesoskit.agent.containers.docker_http import Delays
from mesoskit.agent.containers.docker_logs import Follower
from mesoskit.agent.docker import name_of
from mesoskit.model.ids import ContainerId


class Container:
    """
    A container that the agent has launched, or found.

    @ivar name: by which the engine knows it.
    @ivar found: what the engine has said of it last.
    @ivar pid: of its first process; 0 where that is none of ours to see.
    @ivar launching: it is being started; C{pulling}: for it, an image is being waited for.
    @ivar running: the engine has it, and has not said yet that it has ended.
    @ivar ended: its end was told, or is to be by recovery.
    @ivar own: this agent has launched it.
    @ivar signals: what it was sent.
    @ivar looks: how often the engine did not know how it has ended.
    """

    def __init__(self, container: ContainerId, sandbox: str = "") -> None:
        self.id = container
        self.name = name_of(container)
        self.sandbox = sandbox
        self.found = Found()
        self.pid = 0
        self.launching = self.pulling = self.running = self.ended = self.own = False
        self.abandoned = self.doomed = self.checking = False
        self.status: int | None = None
        self.limitation: Limitation | None = None
        self.signals: set[int] = set()
        self.follower: Follower | None = None
        self.work: Deferred[int] | None = None
        self.launchers: list[Deferred[int]] = []
        self.destroyers: list[Deferred[None]] = []
        self.kills: Delays | None = None
        self.looks = 0
        self.later: IDelayedCall | None = None

    @property
    def terminal(self) -> bool:
        """Whether it has one."""
        return self.found.tty
