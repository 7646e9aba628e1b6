"""The agent's bulk links: files for who asks its master, over a connection that it dials.

The master invites (L{Invitation} on the control link); the agent dials it once more, shows the
ticket, and answers what it is asked (L{mesoskit.agent.bulk_files}). Bulk links live no longer
than the control link.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.messages.bulk_pb2 import Invitation
from mesoskit.messages.stream_pb2 import Purpose
from mesoskit.wire.bulk_answers import Answers
from mesoskit.wire.link import Hello, Link
from mesoskit.wire.plan import Receivers
from mesoskit.wire.settings import BulkSettings

if TYPE_CHECKING:
    from mesoskit.agent.service import AgentService


class BulkLinks:
    """
    Dials bulk links when it is invited to, and answers over them.

    @param service: whose sandboxes are shown.
    @param dial: dials the master once more.
    @param hello: what the agent says of itself on its control link.
    """

    log = Logger()

    def __init__(
        self,
        service: AgentService,
        dial: Callable[[Receivers, Hello], Deferred[Link]],
        hello: Hello,
        settings: BulkSettings | None = None,
    ) -> None:
        self._service = service
        self._dial = dial
        self._hello = hello
        self._settings = settings or BulkSettings()
        self._dialling: Deferred[Any] | None = None
        self._open: list[Answers] = []

    def __len__(self) -> int:
        """Return how many files are on their way."""
        return sum(map(len, self._open))

    def invited(self, invitation: Invitation) -> None:
        """The master would like a bulk link; a former one is not needed any more."""
        # It brings in what HTTP needs, which an agent that nobody asks goes without.
        from mesoskit.agent.bulk_files import found

        self._give_up()
        hello = replace(self._hello, token=invitation.ticket, purpose=Purpose.BULK, bulk=False)
        find = partial(found, self._service)
        answers = Answers(find, self._service.reactor, self._ended, self._settings)
        self._dialling = dialling = self._dial(answers, hello)
        dialling.addCallbacks(self._linked, self._failed, (answers,))

    def close(self, why: str) -> None:
        """End all of it; the master may invite again."""
        self._give_up()
        for answers in self._open:
            if answers.link is not None:
                answers.link.lose(why)

    def _give_up(self) -> None:
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()

    def _linked(self, link: Link, answers: Answers) -> None:
        self._dialling = None
        if answers.link is None:
            return
        self.close("another bulk link has taken its place")
        self._open.append(answers)

    def _failed(self, reason: Failure) -> None:
        if not isinstance(reason.value, CancelledError):
            self._dialling = None
            self.log.warn("No bulk link to the master: {why}", why=reason.getErrorMessage())

    def _ended(self, answers: Answers) -> None:
        if answers in self._open:
            self._open.remove(answers)
