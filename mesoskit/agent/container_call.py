"""What is asked of an agent about single containers over its API, and how it is answered.

The seam between the HTTP API and the state, which decides (L{mesoskit.agent.nested_calls}).
"""

from dataclasses import dataclass

from mesoskit.messages.agent_pb2 import Call, Response
from mesoskit.model.authorization import Subject


@dataclass(slots=True)
class ContainerCall:
    """
    Event: a call to launch, wait for, signal or remove a container. L{ContainerAnswer} follows,
    unless L{CallAbandoned} comes before.

    @ivar number: never used before in this life of the agent.
    @ivar call: valid, of one of the types in L{mesoskit.agent.nested_calls.CALLS}.
    @ivar who: who asks.
    """

    number: int
    call: Call
    who: Subject


@dataclass(slots=True)
class CallAbandoned:
    """Event: whoever made a call has left; what it has begun goes on."""

    number: int


@dataclass(slots=True)
class SessionOver:
    """Event: nobody is there any more who listens to a session: its container ends."""

    container: str


@dataclass(slots=True)
class ContainerAnswer:
    """
    Effect: answer a L{ContainerCall}.

    @ivar status: of HTTP.
    @ivar what: a text, or the message that the answer is.
    """

    number: int
    status: int
    what: str | Response = ""
