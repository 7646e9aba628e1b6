"""What is told of the build: when it was made, by whom, and of what."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Build:
    """
    A build, as C{/version}, C{/state} and C{GET_VERSION} show it.

    @ivar time: when it was made, in seconds since 1970.
    @ivar date: the same for people, as Mesos writes it: C{2026-11-20 21:00:33 UTC}.
    @ivar user: who made it, or nothing.
    @ivar git_sha: the commit that it was made of; empty where that is not known.
    @ivar git_branch: the branch, or nothing.
    """

    time: float = 0.0
    date: str = ""
    user: str = ""
    git_sha: str = ""
    git_branch: str = ""

    def as_json(self) -> dict[str, str | float]:
        """Return it as C{/version} has it: without what is not known of git."""
        shown: dict[str, str | float] = {
            "build_date": self.date,
            "build_time": self.time,
            "build_user": self.user,
        }
        if self.git_branch:
            shown["git_branch"] = self.git_branch
        if self.git_sha:
            shown["git_sha"] = self.git_sha
        return shown
