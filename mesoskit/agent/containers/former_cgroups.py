"""Cgroups of a time when an agent had C{--launcher=linux}: used up, and not made any more."""

from mesoskit.agent.containers.isolator_cgroups import CgroupsIsolator
from mesoskit.agent.containers.isolators import NOTHING, Isolated, Preparation


class FormerCgroups(CgroupsIsolator):
    """An isolator that removes the groups of what is left, and gives none to what is new."""

    def prepare(self, container: Isolated) -> Preparation:
        """Want nothing."""
        return NOTHING
