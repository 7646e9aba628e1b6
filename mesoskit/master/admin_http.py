"""Endpoints by which operators set things, from before there was the operator API.

Weights, quotas, maintenance, reservations and volumes, as C{src/master/weights_handler.cpp},
C{quota_handler.cpp} and C{http.cpp} of Apache Mesos have them. What belongs to a feature that is
not there is checked as far as it can be, and then answered with 501.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qsl

import orjson
from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.web.http import Request

from mesoskit.master import answers, authorizing
from mesoskit.master import weights as setting
from mesoskit.master.operator import Replied, UpdateWeights
from mesoskit.master.visible import Viewer
from mesoskit.messages.codec import Malformed, from_dict, to_dict
from mesoskit.messages.maintenance_pb2 import Schedule
from mesoskit.messages.mesos_pb2 import AgentInfo, MachineID, Offer, Resource, WeightInfo
from mesoskit.messages.quota_pb2 import QuotaRequest
from mesoskit.model import authorization
from mesoskit.model.authorization import Action
from mesoskit.model.ids import AgentId
from mesoskit.model.resources import ENDPOINT, Resources
from mesoskit.web.authentication import Realm
from mesoskit.web.routes import Reply, Route, not_allowed, text
from mesoskit.web.sending import Document

if TYPE_CHECKING:
    from mesoskit.master.service import MasterService

M = TypeVar("M", bound=Message)

_LONGEST: Final = 1024 * 1024
"""Bytes of a body that are read."""
_SHOWN: Final = 1000
"""So much of a body is quoted in a refusal."""


class _Bad(Exception):
    """A request that cannot be understood; the message says why."""


def _body(request: Request) -> bytes:
    content = request.content
    return b"" if content is None else content.read(_LONGEST)


def _json(body: bytes, kind: type) -> Any:
    """Read a list or an object; errors are worded as those of Mesos' parser."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        near = error.doc[error.pos :].split("\n", 1)[0][:_SHOWN]
        raise _Bad(f"syntax error at line {error.lineno} near: {near}") from None
    if not isinstance(value, kind):
        raise _Bad("Unexpected JSON type parsed")
    return value


def _quoted(body: bytes) -> str:
    return body[:_SHOWN].decode("utf-8", "replace")


def _messages(kind: type[M], values: list[Any]) -> list[M]:
    try:
        return [from_dict(kind, value) for value in values]
    except Malformed as error:
        raise _Bad(str(error.reason)) from None


def form(request: Request) -> dict[str, str]:
    """Read a urlencoded body; an unreadable one is empty."""
    try:
        return dict(parse_qsl(_body(request).decode()))
    except ValueError:
        return {}


def _not_yet(what: str) -> Reply:
    return text(501, f"501 Not Implemented. mesoskit does not know {what} yet.")


def _forbidden() -> Reply:
    return text(403, "403 Forbidden.")


# Weights.


def weights(service: "MasterService", request: Any) -> "Reply | Deferred[Reply]":
    """
    Show the weights that roles were given, or give them others.

    C{PUT} takes a list, C{[{"role": "r", "weight": 2.5}]}; roles that it does not name keep
    their weight. Weights are kept over restarts, and win over C{--weights} from then on.
    """
    if request.method == b"GET":
        shown = answers.weights(service.state, Viewer(request.subject)).get_weights
        return Reply(body=[{"role": one.role, "weight": one.weight} for one in shown.weight_infos])
    if request.method != b"PUT":
        return not_allowed(request, "GET", "PUT")
    body = _body(request)
    try:
        parsed = _json(body, list)
    except _Bad as bad:
        return text(400, f"Failed to parse update weights request JSON '{_quoted(body)}': {bad}")
    try:
        infos = _messages(WeightInfo, parsed)
    except _Bad as bad:
        return text(
            400, f"Failed to convert weights JSON array to protobuf '{_quoted(body)}': {bad}"
        )
    return update_weights(service, request, infos)


def update_weights(
    service: "MasterService", request: Any, infos: Iterable[WeightInfo]
) -> "Reply | Deferred[Reply]":
    """Give roles other weights, if they can be and if whoever asks may."""
    try:
        wanted = setting.read(service.state, infos)
    except setting.InvalidWeights as invalid:
        return text(400, str(invalid))
    for role in wanted:
        if not request.subject.may(Action.UPDATE_WEIGHT, authorization.of_role(role)):
            return _forbidden()

    def replied(result: Replied) -> Reply:
        return text(result.status, result.why) if result.why else Reply(result.status)

    return service.request(UpdateWeights(wanted)).addCallback(replied)


# Quotas.


def quota(service: "MasterService", request: Any) -> Reply:
    """
    Show quotas: none can be set yet.

    C{POST} with a quota that is well formed is answered with 501; C{DELETE} of a role's quota
    says that the role has none.
    """
    if request.method == b"GET":
        return Reply(body={})
    body = _body(request)
    if request.method == b"POST":
        try:
            parsed = _json(body, dict)
        except _Bad as bad:
            return text(400, f"Failed to parse set quota request JSON '{_quoted(body)}': {bad}")
        try:
            (wanted,) = _messages(QuotaRequest, [parsed])
        except _Bad as bad:
            return text(400, f"Failed to validate set quota request JSON '{_quoted(body)}': {bad}")
        if not request.subject.may(Action.UPDATE_QUOTA, authorization.of_role(wanted.role)):
            return _forbidden()
        return _not_yet("quotas")
    if request.method == b"DELETE":
        path = request.path.decode("latin-1")
        role = path.strip("/").removeprefix("master/").removeprefix("quota").strip("/")
        if not request.subject.may(Action.UPDATE_QUOTA, authorization.of_role(role)):
            return _forbidden()
        if not role:
            return text(400, f"Failed to parse request path '{path}': 'quota/<role>' is expected")
        return text(
            400, f"Failed to remove quota for path '{path}': Role '{role}' has no quota set"
        )
    return not_allowed(request, "GET", "POST", "DELETE")


# Maintenance.


def schedule(service: "MasterService", request: Any) -> Reply:
    """
    Show which machines will be maintained when: none can be named yet.

    C{POST} with an empty schedule is taken; any other is answered with 501.
    """
    if request.method == b"GET":
        return Reply(body={})
    if request.method != b"POST":
        return not_allowed(request, "GET", "POST")
    if not request.subject.may(Action.UPDATE_MAINTENANCE_SCHEDULE):
        return _forbidden()
    try:
        (wanted,) = _messages(Schedule, [_json(_body(request), dict)])
    except _Bad as bad:
        return text(400, str(bad))
    return _not_yet("maintenance") if len(wanted.windows) else Reply()


def maintenance_status(service: "MasterService", request: Any) -> Reply:
    """Show which machines are drained or down for maintenance: none can be yet."""
    return Reply(body={}) if request.method == b"GET" else not_allowed(request, "GET")


def machine_down(service: "MasterService", request: Any) -> Reply:
    """Begin the maintenance of machines, which must be in the schedule."""
    return _machines(request, Action.START_MAINTENANCE)


def machine_up(service: "MasterService", request: Any) -> Reply:
    """End the maintenance of machines, which must be down."""
    return _machines(request, Action.STOP_MAINTENANCE)


def _machines(request: Any, action: Action) -> Reply:
    if request.method != b"POST":
        return not_allowed(request, "POST")
    if not request.subject.may(action):
        return _forbidden()
    try:
        machines = _messages(MachineID, _json(_body(request), list))
    except _Bad as bad:
        return text(400, str(bad))
    if not machines:
        return text(400, "List of machines is empty")
    shown = orjson.dumps(to_dict(machines[0])).decode()
    return text(400, f"Machine '{shown}' is not part of a maintenance schedule")


# Reservations and volumes.


def reserve(service: "MasterService", request: Any) -> Reply:
    """Reserve resources of an agent (C{slaveId}, C{resources}); not there yet."""
    return _operation(service, request, Offer.Operation.RESERVE)


def unreserve(service: "MasterService", request: Any) -> Reply:
    """Free reserved resources of an agent (C{slaveId}, C{resources}); not there yet."""
    return _operation(service, request, Offer.Operation.UNRESERVE)


def create_volumes(service: "MasterService", request: Any) -> Reply:
    """Make persistent volumes on an agent (C{slaveId}, C{volumes}); not there yet."""
    return _operation(service, request, Offer.Operation.CREATE)


def destroy_volumes(service: "MasterService", request: Any) -> Reply:
    """Remove persistent volumes of an agent (C{slaveId}, C{volumes}); not there yet."""
    return _operation(service, request, Offer.Operation.DESTROY)


def _operation(service: "MasterService", request: Any, kind: "Offer.Operation.Type") -> Reply:
    if request.method != b"POST":
        return not_allowed(request, "POST")
    given = form(request)
    if "slaveId" not in given:
        return text(400, "Missing 'slaveId' query parameter in the request body")
    if AgentId(given["slaveId"]) not in service.state.agents:
        return text(400, "No agent found with specified ID")
    operation = Offer.Operation(type=kind)
    body, field, feature = {
        Offer.Operation.RESERVE: (operation.reserve, "resources", "reservations"),
        Offer.Operation.UNRESERVE: (operation.unreserve, "resources", "reservations"),
        Offer.Operation.CREATE: (operation.create, "volumes", "persistent volumes"),
        Offer.Operation.DESTROY: (operation.destroy, "volumes", "persistent volumes"),
    }[kind]
    if field not in given:
        return text(400, f"Missing '{field}' query parameter in the request body")
    try:
        getattr(body, field).extend(_messages(Resource, _json(given[field].encode(), list)))
    except _Bad as bad:
        return text(400, f"Error parsing '{field}' query parameter in the request body: {bad}")
    needed = authorizing.needed_for(operation)
    if not all(request.subject.may(action, thing) for action, thing in needed):
        return _forbidden()
    return _not_yet(feature)


# What the master has written down.


def registry(service: "MasterService", request: Any) -> Reply:
    """Show what the master has written down: agents, unreachable and gone ones, weights."""
    viewer = Viewer(request.subject)
    return Reply(body=Document(lambda: _registry(service, viewer), f"registry{viewer.key}"))


def _registry(service: "MasterService", viewer: Viewer) -> Iterator[bytes]:
    state = service.state
    agents = {agent_id: agent.info for agent_id, agent in state.agents.items()}
    admitted = sorted({**state.recovered, **agents}.items())
    yield b'{"master":{"info":%b},"slaves":{"slaves":[' % orjson.dumps(to_dict(state.info))
    comma = b""
    for agent_id, info in admitted:
        shown = {"deactivated": agent_id in state.deactivated, "info": _agent(info, viewer)}
        yield comma + orjson.dumps(shown)
        comma = b","
    yield b"]}"
    for name, moments in (("unreachable", state.unreachable), ("gone", state.gone)):
        if moments:
            yield b',"%b":%b' % (name.encode(), orjson.dumps({"slaves": _moments(moments)}))
    weights = [(role, weight) for role, weight in state.weights.items() if viewer.role(role)]
    if weights:
        weighed = [{"info": {"role": role, "weight": one}} for role, one in sorted(weights)]
        yield b',"weights":' + orjson.dumps(weighed)
    yield b"}"


def _agent(info: AgentInfo, viewer: Viewer) -> dict[str, Any]:
    shown = AgentInfo()
    shown.CopyFrom(info)
    del shown.resources[:]
    seen = viewer.resources(Resources.from_message(info.resources))
    shown.resources.extend(seen.to_message(ENDPOINT))
    # A field that v0 alone has; there is no agent that does not checkpoint.
    return {**to_dict(shown), "checkpoint": True}


def _moments(moments: dict[AgentId, int]) -> list[dict[str, Any]]:
    return [
        {"id": {"value": agent_id}, "timestamp": {"nanoseconds": moment}}
        for agent_id, moment in list(moments.items())
    ]


ROUTES: Final = (
    Route("weights", weights, led=True, realm=Realm.READWRITE),
    Route("quota", quota, led=True, realm=Realm.READWRITE),
    Route("maintenance/schedule", schedule, led=True, realm=Realm.READWRITE),
    Route("maintenance/status", maintenance_status, led=True, realm=Realm.READONLY),
    Route("machine/down", machine_down, led=True, realm=Realm.READWRITE),
    Route("machine/up", machine_up, led=True, realm=Realm.READWRITE),
    Route("reserve", reserve, led=True, realm=Realm.READWRITE),
    Route("unreserve", unreserve, led=True, realm=Realm.READWRITE),
    Route("create-volumes", create_volumes, led=True, realm=Realm.READWRITE),
    Route("destroy-volumes", destroy_volumes, led=True, realm=Realm.READWRITE),
    Route("registrar(1)/registry", registry, prefixed=False, realm=Realm.READONLY),
)
"""Rows for the master's table."""
