"""C{/offers/explain} and its like: why frameworks are or are not offered what agents have.

The allocator decides, and tells; here its words become JSON.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from mesoskit.allocator.interface import Explanation
from mesoskit.master.agents import agent_options
from mesoskit.master.visible import EVERYTHING, Viewer
from mesoskit.model.ids import FrameworkId

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState


def frameworks(
    state: "MasterState", framework_id: str | None, role: str | None
) -> list[FrameworkId]:
    """Return the frameworks that are asked about: one by its id, or all in a role."""
    if framework_id is not None:
        name = FrameworkId(framework_id)
        return [name] if name in state.frameworks else []
    return [one.id for one in state.frameworks.values() if role in one.roles]


def document(
    state: "MasterState",
    now: float,
    framework_ids: list[FrameworkId],
    role: str | None,
    agent_id: str | None,
    viewer: Viewer = EVERYTHING,
) -> Iterator[bytes]:
    """Give the JSON document, an agent a piece."""
    yield b'{"frameworks":['
    before = b""
    for framework_id in framework_ids:
        framework = state.frameworks.get(framework_id)
        if framework is None:
            continue
        head = {"framework_id": framework_id, "name": framework.info.name}
        yield before + orjson.dumps(head)[:-1] + b',"agents":['
        before, comma = b",", b""
        for told in state.allocator.explain(now, framework_id, role):
            if agent_id in (None, told.agent_id) and viewer.role(told.role):
                yield comma + orjson.dumps(_view(state, told, viewer))
                comma = b","
        yield b"]}"
    yield b"]}"


def constraints_document(state: "MasterState", viewer: Viewer = EVERYTHING) -> Iterator[bytes]:
    """
    Give C{/allocator/offer_constraints_debug}: by framework and role, the agents that its
    constraints exclude.
    """
    yield b'{"frameworks":{'
    before = b""
    for framework in list(state.frameworks.values()):
        if not viewer.framework(framework):
            continue
        head = orjson.dumps({"suppressed_roles": sorted(framework.suppressed)})[:-1]
        yield before + orjson.dumps(framework.id) + b":" + head
        yield b',"excluded_by_attribute_constraints":{'
        before, comma = b",", b""
        for role in framework.roles:
            excluded: list[str] = []
            constraints = framework.constraints.roles.get(role)
            for agent in [] if constraints is None else list(state.agents.values()):
                if constraints is not None and constraints.excludes(agent_options(agent)):
                    excluded.append(agent.id)
                yield b""
            yield comma + orjson.dumps(role) + b":" + orjson.dumps(excluded)
            comma = b","
        yield b"}}"
    yield b"}}"


def _view(state: "MasterState", told: Explanation, viewer: Viewer) -> dict[str, Any]:
    agent = state.agents.get(told.agent_id)
    view: dict[str, Any] = {
        "agent_id": told.agent_id,
        "hostname": "" if agent is None else agent.info.hostname,
        "role": told.role,
        "reason": told.reason.name,
        "why": told.reason.value,
        "available": told.available.as_json(),
    }
    if told.until is not None:
        view["until"] = told.until
    view["holders"] = [
        {"framework_id": one, "role": role}
        for one, role in told.holders
        if _sees(state, one, role, viewer)
    ]
    if told.offered is not None:
        view["offered_time"] = told.offered
    return view


def _sees(state: "MasterState", framework_id: FrameworkId, role: str, viewer: Viewer) -> bool:
    """Tell whether it may be seen that a framework holds something for a role."""
    framework = state.frameworks.get(framework_id)
    return viewer.all or (
        framework is not None and viewer.framework(framework) and viewer.role(role)
    )
