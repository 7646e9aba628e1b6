"""What the allocator keeps of agents, frameworks and roles."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from mesoskit.allocator.constraints import RoleConstraints
from mesoskit.allocator.filters import Filter
from mesoskit.allocator.options import AgentOptions, FrameworkOptions, Minimum
from mesoskit.allocator.sorter import Sorter
from mesoskit.model.capabilities import FrameworkCapability
from mesoskit.model.ids import AgentId, FrameworkId
from mesoskit.model.quantities import Quantities
from mesoskit.model.resource_key import ResourceKey
from mesoskit.model.resources import Resources
from mesoskit.model.values import SCALAR

LENT: Final = 64
"""A bit of L{Agent.view}'s key: what is shared there has been offered in this pass."""


def scalars(resources: Resources) -> dict[str, int]:
    """Return how much there is of each scalar resource: what shares are reckoned from."""
    amounts: dict[str, int] = {}
    for key, value in resources:
        if key.kind == SCALAR:
            assert isinstance(value, int)
            amounts[key.name] = amounts.get(key.name, 0) + value
    return amounts


class View:
    """
    What of an agent's free resources a client may see.

    @ivar scalars: as L{scalars} gives them, once somebody has asked.
    @ivar others: nothing is seen because what is free is reserved for other roles.
    """

    __slots__ = ("_fits", "_scalars", "others", "resources")

    def __init__(self, resources: Resources, others: bool = False) -> None:
        self.resources = resources
        self.others = others
        self._fits: dict[tuple[Quantities, ...], bool] = {}
        self._scalars: dict[str, int] | None = None

    @property
    def scalars(self) -> dict[str, int]:
        """The scalar quantities; not to be changed."""
        if self._scalars is None:
            self._scalars = scalars(self.resources)
        return self._scalars

    def fits(self, minimum: tuple[Quantities, ...]) -> bool:
        """Tell whether this is worth offering to somebody with such a minimum."""
        known = self._fits.get(minimum)
        if known is None:
            amounts = self.resources.quantities()
            known = not minimum or any(amounts.contains(least) for least in minimum)
            self._fits[minimum] = known
        return known


class Agent:
    """
    An agent, what it has, and who holds how much of it.

    @ivar total: all it has, unallocated.
    @ivar totals: its scalar quantities.
    @ivar free: what nobody holds, and all that is shared.
    @ivar held: resources and their scalar quantities by client.
    @ivar simple: C{free} can be kept by adding and subtracting what comes and goes; not so where
        anything is shared, or where there is less than is held.
    @ivar offerable: active and on the whitelist.
    @ivar plain: all clients see the same of it.
    @ivar picky: not every client may be offered it at all.
    @ivar window: until when what tasks free is gathered; L{None} while it is not.
    @ivar due: such a gathering has ended, and no pass has looked at the agent since.
    @ivar lent: L{LENT} once a pass has offered what is shared to somebody, else 0.
    @ivar judging: how many conditions of offer constraints had to be looked at for it in this pass.
    @ivar refusing: clients whose filters block whatever is free, as long as that is contained in
        C{refused}: passes need not ask them one by one.
    @ivar last: who was offered it last, and C{last_at} when.
    """

    __slots__ = (
        "_viewed",
        "_views",
        "active",
        "due",
        "free",
        "gpu",
        "held",
        "id",
        "judging",
        "last",
        "last_at",
        "lent",
        "listed",
        "offerable",
        "options",
        "picky",
        "plain",
        "refused",
        "refusing",
        "remote",
        "simple",
        "total",
        "totals",
        "window",
    )

    def __init__(self, agent_id: AgentId, options: AgentOptions) -> None:
        self.id = agent_id
        self.options = options
        self.total = self.free = self.refused = Resources.EMPTY
        self.refusing: dict[Client, None] = {}
        self.totals: Mapping[str, int] = {}
        self.held: dict[Client, tuple[Resources, dict[str, int]]] = {}
        self.active = self.listed = self.offerable = self.plain = self.simple = True
        self.picky = self.gpu = self.remote = self.due = False
        self.window: float | None = None
        self.lent = 0
        self.judging = 0
        self.last: Client | None = None
        self.last_at = 0.0
        self._viewed = self.free
        self._views: dict[object, View] = {}

    def view(self, client: Client) -> View:
        """Return what a client may see of what is free; remembered until that changes."""
        if self._viewed is not self.free:
            self._viewed = self.free
            self._views.clear()
        key = None if self.plain else (client.role.name, client.sees | self.lent)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = self._view(client)
        return view

    def _view(self, client: Client) -> View:
        if self.plain:
            return View(self.free)
        reachable = self.free.allocatable_to(client.role.name)
        if self.lent:
            reachable = reachable.non_shared()
        others = bool(self.free) and not reachable
        sees = client.sees
        if sees != ALL_SEEN:

            def understood(key: ResourceKey) -> bool:
                return not (
                    (key.revocable and not sees & REVOCABLE_SEEN)
                    or (key.shared and not sees & SHARED_SEEN)
                    or (key.refined and not sees & REFINED_SEEN)
                )

            reachable = reachable.filter(understood)
        return View(reachable, others)


REVOCABLE_SEEN: Final = 1
SHARED_SEEN: Final = 2
REFINED_SEEN: Final = 4
ALL_SEEN: Final = REVOCABLE_SEEN | SHARED_SEEN | REFINED_SEEN


class Framework:
    """
    A framework, and its part in each role that it is subscribed to or holds something in.

    @ivar known: it was added; an agent can speak of one that was not yet.
    """

    __slots__ = ("active", "clients", "congested", "id", "known", "options")

    def __init__(self, framework_id: FrameworkId, options: FrameworkOptions) -> None:
        self.id = framework_id
        self.options = options
        self.clients: dict[str, Client] = {}
        self.known = self.active = self.congested = False


class Client:
    """
    A framework in one role: what sorters sort and filters belong to.

    @ivar active: it is to be offered resources.
    @ivar holds: on how many agents it holds something.
    @ivar minimum: what an offer has to hold at least.
    @ivar sees: bits of C{REVOCABLE_SEEN} and so on.
    @ivar constraints: which agents it wants; L{None} for any.
    @ivar judged: what they say of agents, of those that they were asked about; whoever changes
        an agent's options drops it here.
    """

    __slots__ = (
        "active",
        "constraints",
        "filters",
        "framework",
        "gpu",
        "hierarchical",
        "holds",
        "judged",
        "minimum",
        "multi_role",
        "regional",
        "role",
        "sees",
    )

    def __init__(self, framework: Framework, role: Role) -> None:
        self.framework = framework
        self.role = role
        self.filters: dict[Agent, Filter] = {}
        self.hierarchical = "/" in role.name
        self.active = False
        self.holds = 0
        self.minimum: tuple[Quantities, ...] = ()
        self.sees = 0
        self.constraints: RoleConstraints | None = None
        self.judged: dict[Agent, bool] = {}
        self.gpu = self.multi_role = self.regional = False

    def configure(self, default_minimum: Minimum) -> bool:
        """Take over the framework's options; tell whether it can be offered more than before."""
        options = self.framework.options
        before = (self.minimum, self.sees, self.gpu, self.multi_role, self.regional)
        constrained = options.constraints.get(self.role.name)
        constraints_changed = constrained != self.constraints
        if constraints_changed:
            self.constraints = constrained
            self.judged.clear()
        self.minimum = tuple(options.min_allocatable.get(self.role.name, default_minimum))
        able = options.capabilities
        self.gpu = able.gpu_resources
        self.multi_role = able.multi_role
        self.regional = able.region_aware
        self.sees = (
            REVOCABLE_SEEN * bool(able & FrameworkCapability.REVOCABLE_RESOURCES)
            | SHARED_SEEN * bool(able & FrameworkCapability.SHARED_RESOURCES)
            | REFINED_SEEN * bool(able & FrameworkCapability.RESERVATION_REFINEMENT)
        )
        after = (self.minimum, self.sees, self.gpu, self.multi_role, self.regional)
        return constraints_changed or before != after

    def excludes(self, agent: Agent) -> bool:
        """Tell whether an agent is one that the framework does not want to be offered."""
        if self.constraints is None:
            return False
        excluded = self.judged.get(agent)
        if excluded is None:
            agent.judging += self.constraints.size
            excluded = self.judged[agent] = self.constraints.excludes(agent.options)
        return excluded


class Role:
    """
    A role that frameworks are in, and their order.

    @ivar clients: by framework id.
    @ivar actives: how many of them are active.
    """

    __slots__ = ("actives", "clients", "name", "sorter")

    def __init__(self, name: str, sorter: Sorter) -> None:
        self.name = name
        self.sorter = sorter
        self.clients: dict[str, Client] = {}
        self.actives = 0


def by_role(clients: Collection[Client]) -> dict[str, set[str]]:
    """Return the framework ids of clients by role: what sorters are asked with."""
    grouped: dict[str, set[str]] = {}
    for client in clients:
        grouped.setdefault(client.role.name, set()).add(client.framework.id)
    return grouped
