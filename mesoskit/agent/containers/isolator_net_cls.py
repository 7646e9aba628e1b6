"""Isolator C{cgroups/net_cls}, where the agent gives out the numbers (L{mesoskit.agent.net_cls}).

Without C{--cgroups_net_cls_primary_handle} containers have groups of that controller, and it is the
operator's to write numbers into them, as in Mesos.
"""

from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.cgroups import CgroupError, Cgroups
from mesoskit.agent.containers.isolator_cgroups import group_of
from mesoskit.agent.containers.isolators import NOTHING, Isolated, Isolator, Preparation
from mesoskit.agent.net_cls import Handles, HandlesExhausted


class NetClsIsolator(Isolator):
    """
    Gives each container a number, which what is nested in it has, too.

    The groups are made before it is asked, by the isolator of all controllers.
    """

    def __init__(self, cgroups: Cgroups, handles: Handles) -> None:
        super().__init__()
        self._cgroups = cgroups
        self._handles = handles

    def prepare(self, container: Isolated) -> Preparation:
        """Set its number; a new group below another one begins with that one's."""
        if container.parent is not None:
            container.classid = container.parent.classid
            return NOTHING
        try:
            container.classid = self._handles.take()
            self._cgroups.classify(group_of(container), container.classid)
        except (HandlesExhausted, CgroupError) as error:
            raise ContainerError(str(error)) from error
        return NOTHING

    def recover(self, container: Isolated) -> None:
        """Find out which number it has."""
        root = container
        while root.parent is not None:
            root = root.parent
        try:
            handle = self._cgroups.class_of(group_of(root))
        except (CgroupError, ValueError):
            return  # it was started when this was no isolator of the agent's
        if handle:
            self._handles.reserve(handle)
            container.classid = handle

    def cleanup(self, container: Isolated) -> bool:
        """Let its number be free."""
        if container.parent is None and container.classid is not None:
            self._handles.give_back(container.classid)
        return True
