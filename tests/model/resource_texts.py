"""Resources that are wrong, and what Mesos says of each: rows for the tests of validation."""

from typing import Any

CPUS: dict[str, Any] = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}
DISK: dict[str, Any] = {"name": "disk", "type": "SCALAR", "scalar": {"value": 64}}
STATIC: dict[str, Any] = {"type": "STATIC", "role": "web"}
DYNAMIC: dict[str, Any] = {"type": "DYNAMIC", "role": "web", "principal": "ann"}
REFINED: list[dict[str, Any]] = [STATIC, {"type": "DYNAMIC", "role": "web/db"}]
VOLUME: dict[str, Any] = {"container_path": "data", "mode": "RW"}
PERSISTENT: dict[str, Any] = {"persistence": {"id": "id1"}, "volume": VOLUME}


def _ranges(*pairs: tuple[int, int]) -> dict[str, Any]:
    spans = [{"begin": begin, "end": end} for begin, end in pairs]
    return {"name": "ports", "type": "RANGES", "ranges": {"range": spans}}


def _items(*items: str) -> dict[str, Any]:
    return {"name": "disks", "type": "SET", "set": {"item": list(items)}}


FORM: list[tuple[dict[str, Any], str]] = [
    ({**CPUS, "name": ""}, "Empty resource name"),
    ({"name": "cpus", "scalar": {"value": 1}}, "Invalid resource type"),
    ({**CPUS, "type": "TEXT"}, "Unsupported resource type"),
    ({"name": "cpus", "type": "SCALAR"}, "Invalid scalar resource"),
    ({**CPUS, "set": {"item": ["a"]}}, "Invalid scalar resource"),
    ({**CPUS, "scalar": {"value": -1}}, "Invalid scalar resource: value <= 0"),
    ({**CPUS, "scalar": {"value": 0.0004}}, "Invalid scalar resource: value <= 0"),
    ({**CPUS, "scalar": {"value": float("nan")}}, "Invalid scalar resource: value <= 0"),
    ({**CPUS, "scalar": {"value": float("inf")}}, "Invalid scalar resource: value <= 0"),
    ({**CPUS, "scalar": {"value": 1e300}}, "Invalid scalar resource: value <= 0"),
    ({**CPUS, "name": "ports", "type": "RANGES"}, "Invalid ranges resource"),
    (_ranges((5, 3)), "Invalid ranges resource: begin > end"),
    (_ranges((1, 4), (4, 6)), "Invalid ranges resource: overlapping ranges"),
    (_ranges((4, 6), (1, 4)), "Invalid ranges resource: overlapping ranges"),
    ({**CPUS, "type": "SET"}, "Invalid set resource"),
    (_items("a", "b", "a"), "Invalid set resource: duplicated elements"),
    ({**CPUS, "disk": {}}, "DiskInfo should not be set for cpus resource"),
    (
        {**DISK, "disk": {"source": {"type": "RAW", "mount": {"root": "/m"}}}},
        "Mount should not be set for RAW disk source",
    ),
    (
        {**DISK, "disk": {"source": {"type": "BLOCK", "path": {"root": "/p"}}}},
        "Path should not be set for BLOCK disk source",
    ),
    (
        {**DISK, "disk": {"source": {"type": "UNKNOWN"}}},
        "Unsupported 'DiskInfo.Source.Type' in 'UNKNOWN'",
    ),
    ({**CPUS, "role": ""}, "Role names cannot be the empty string"),
    ({**CPUS, "role": "/web"}, "Role '/web' cannot start with a slash"),
    ({**CPUS, "reservations": [{**STATIC, "role": "/a"}]}, "Role '/a' cannot start with a slash"),
    (
        {**CPUS, "role": "web", "reservation": {"type": "DYNAMIC"}},
        "'Resource.ReservationInfo.type' must not be set for the 'Resource.reservation' field",
    ),
    (
        {**CPUS, "role": "web", "reservation": {"role": "web"}},
        "'Resource.ReservationInfo.role' must not be set for the 'Resource.reservation' field",
    ),
    (
        {**CPUS, "reservation": {"principal": "ann"}},
        'Invalid reservation: role "*" cannot be dynamically reserved',
    ),
    (
        {**CPUS, "reservations": [{"role": "web"}]},
        "Invalid reservation: 'Resource.ReservationInfo.type' field must be set.",
    ),
    (
        {**CPUS, "reservations": [{"type": "STATIC"}]},
        "Invalid reservation: 'Resource.ReservationInfo.role' field must be set.",
    ),
    (
        {**CPUS, "reservations": [{"type": "DYNAMIC", "role": "*"}]},
        'Invalid reservation: role "*" cannot be reserved',
    ),
    (
        {**CPUS, "reservations": [STATIC, {"type": "STATIC", "role": "web/db"}]},
        "Invalid refined reservation: A refined reservation cannot be STATIC",
    ),
    (
        {**CPUS, "reservations": [STATIC, {"type": "DYNAMIC", "role": "website"}]},
        "Invalid refined reservation: role 'website' is not a refinement of 'web'",
    ),
    (
        {**CPUS, "reservations": [STATIC, DYNAMIC]},
        "Invalid refined reservation: role 'web' is not a refinement of 'web'",
    ),
    (
        {**CPUS, "role": "eng", "reservations": [STATIC]},
        (
            "Invalid resource format: 'Resource.role' field with 'eng' does not match the role"
            " 'web' in 'Resource.reservations'"
        ),
    ),
    (
        {**CPUS, "role": "web", "reservation": {}, "reservations": [STATIC]},
        (
            "Invalid resource format: 'Resource.reservation' must not be set if the single"
            " reservation in 'Resource.reservations' is STATIC"
        ),
    ),
    (
        {**CPUS, "role": "web", "reservations": [DYNAMIC]},
        (
            "Invalid resource format: 'Resource.role' and 'Resource.reservation' must either be"
            " both set or both not set if the single reservation in 'Resource.reservations' is"
            " DYNAMIC"
        ),
    ),
    (
        {**CPUS, "role": "web", "reservation": {"principal": "bob"}, "reservations": [DYNAMIC]},
        (
            "Invalid resource format: 'Resource.reservation.principal' field with 'bob' does not"
            " match the principal 'ann' in 'Resource.reservations'"
        ),
    ),
    (
        {
            **CPUS,
            "role": "web",
            "reservation": {
                "principal": "ann",
                "labels": {"labels": [{"key": "k", "value": "v"}, {"key": "l"}]},
            },
            "reservations": [DYNAMIC],
        },
        (
            "Invalid resource format: 'Resource.reservation.labels' field with '{k: v, l}' does not"
            " match the labels '{}' in 'Resource.reservations'"
        ),
    ),
    (
        {**CPUS, "reservations": [{**STATIC, "type": "UNKNOWN"}]},
        "Unsupported 'Resource.ReservationInfo.Type'",
    ),
    (
        {**CPUS, "role": "web/db", "reservations": REFINED},
        (
            "Invalid resource format: 'Resource.role' must not be set if there is more than one"
            " reservation in 'Resource.reservations'"
        ),
    ),
    (
        {**CPUS, "reservation": {}, "reservations": REFINED},
        (
            "Invalid resource format: 'Resource.reservation' must not be set if there is more than"
            " one reservation in 'Resource.reservations'"
        ),
    ),
    ({**CPUS, "shared": {}}, "Resource cpus cannot be shared"),
    ({**DISK, "shared": {}}, "Only persistent volumes can be shared"),
]
"""One resource, and what is wrong with its form."""

RIGHT: list[dict[str, Any]] = [
    CPUS,
    {**CPUS, "scalar": {"value": 0}},
    {**CPUS, "role": "web"},
    {**CPUS, "role": "web", "reservation": {}},
    {**CPUS, "reservations": [STATIC]},
    {**CPUS, "reservations": REFINED},
    {**CPUS, "role": "web", "reservations": [STATIC]},
    {**CPUS, "role": "web", "reservation": {"principal": "ann"}, "reservations": [DYNAMIC]},
    _ranges((31000, 31009), (31010, 32000)),
    _ranges(),
    _items("a", "b"),
    {**DISK, "disk": {"source": {"type": "MOUNT", "mount": {"root": "/m"}}}},
    {**DISK, "disk": {"source": {"type": "PATH"}}},
    {**DISK, "disk": {"source": {"type": "RAW", "id": "r1"}}},
    {**DISK, "role": "web", "disk": PERSISTENT},
    {**DISK, "role": "web", "disk": PERSISTENT, "shared": {}},
    {**CPUS, "revocable": {}},
    {"name": "gpus", "type": "SCALAR", "scalar": {"value": 2}},
]
"""Resources with which nothing is wrong."""

TOGETHER: list[tuple[list[dict[str, Any]], str]] = [
    (
        [CPUS, {**CPUS, "scalar": {"value": -1}}],
        "Invalid resources: Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0",
    ),
    (
        [{**CPUS, "scalar": {"value": float("nan")}}],
        "Invalid resources: Resource 'cpus:nan' is invalid: Invalid scalar resource: value <= 0",
    ),
    (
        [_ranges((7, 9), (5, 3))],
        (
            "Invalid resources: Resource 'ports:[7-9, 5-3]' is invalid:"
            " Invalid ranges resource: begin > end"
        ),
    ),
    (
        [_items("b", "a", "b")],
        (
            "Invalid resources: Resource 'disks:{b, a, b}' is invalid:"
            " Invalid set resource: duplicated elements"
        ),
    ),
    (
        [{**CPUS, "type": "TEXT"}],
        "Invalid resources: Resource 'cpus:1' is invalid: Unsupported resource type",
    ),
    (
        [{"name": "gpus", "type": "SCALAR", "scalar": {"value": 0.5}}],
        "Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer",
    ),
    (
        [{**DISK, "role": "web", "disk": PERSISTENT, "revocable": {}}],
        "Invalid DiskInfo: Persistent volumes cannot be created from revocable resources",
    ),
    (
        [{**DISK, "disk": PERSISTENT}],
        "Invalid DiskInfo: Persistent volumes cannot be created from unreserved resources",
    ),
    (
        [{**DISK, "role": "web", "disk": {"persistence": {"id": "id1"}}}],
        "Invalid DiskInfo: Expecting 'volume' to be set for persistent volume",
    ),
    (
        [
            {
                **DISK,
                "role": "web",
                "disk": {**PERSISTENT, "volume": {**VOLUME, "host_path": "/data"}},
            }
        ],
        "Invalid DiskInfo: Expecting 'host_path' to be unset for persistent volume",
    ),
    (
        [{**DISK, "role": "web", "disk": {**PERSISTENT, "persistence": {"id": "a/b"}}}],
        (
            "Invalid DiskInfo: Invalid persistence ID for persistent volume:"
            " 'a/b' contains invalid characters"
        ),
    ),
    (
        [{**DISK, "disk": {"volume": VOLUME}}],
        "Invalid DiskInfo: Non-persistent volume not supported",
    ),
    ([{**DISK, "disk": {}}], "Invalid DiskInfo: DiskInfo is set but empty"),
    (
        [{**CPUS, "reservations": [DYNAMIC], "revocable": {}}],
        (
            "Invalid ReservationInfo: Dynamically reserved resource"
            " cpus(reservations: [(DYNAMIC,web,ann)]){REV}:1"
            " cannot be created from revocable resources"
        ),
    ),
    (
        [{**CPUS, "role": "web", "reservation": {}, "revocable": {}}],
        (
            "Invalid ReservationInfo: Dynamically reserved resource cpus{REV}:1"
            " cannot be created from revocable resources"
        ),
    ),
]
"""Lists of resources, and what a framework or agent that sends them is told."""

NOT_FORMATTED = "Some JSON resources were not formatted properly: not a mesos.v1.Resource"

COMMAND_LINE: list[tuple[str, str]] = [
    ("cpus", "Bad value for resources, missing or extra ':' in cpus"),
    ("cpus:1:2", "Bad value for resources, missing or extra ':' in cpus:1:2"),
    ("mem:1;cpus(web:1", "Bad value for resources, mismatched parentheses in cpus(web:1"),
    ("cpus)(web:1", "Bad value for resources, mismatched parentheses in cpus)(web:1"),
    ("ports:[1-2", "Failed to parse resource ports value [1-2 error Mismatched brackets"),
    ("cpus: ", "Failed to parse resource cpus value   error Expecting non-empty string"),
    (
        "ports:[1-2,3]",
        'Failed to parse resource ports value [1-2,3] error Expecting one or more "ranges"',
    ),
    (
        "ports:[a-2]",
        "Failed to parse resource ports value [a-2] error Expecting non-negative integers in 'a'",
    ),
    (
        "cpus:1e-310",
        "Failed to parse resource cpus value 1e-310 error Subnormal values not supported",
    ),
    ("cpus:a[1-2]", "Failed to parse resource cpus value a[1-2] error Unexpected '[' found"),
    ("cpus:a{b}", "Failed to parse resource cpus value a{b} error Unexpected '{' found"),
    ("cpus:many", "Bad type for resource cpus value many type TEXT"),
    ("cpus:-1", "Bad type for resource cpus value -1 type TEXT"),
    ("cpus:inf", "Bad type for resource cpus value inf type TEXT"),
    (" (web):1", "Empty resource name"),
    ("cpus:0.0001", "Invalid scalar resource: value <= 0"),
    ("ports:[5-3]", "Invalid ranges resource: begin > end"),
    ("disks:{a,a}", "Invalid set resource: duplicated elements"),
    ("cpus(-web):1", "Role component '-web' is invalid because it starts with a dash"),
    (
        "x(web):1;x(db):[0-1]",
        "Resources with the same name ('x') but different types are not allowed",
    ),
    (
        '{"name": "cpus"}',
        'Failed to parse resource {"name" value  "cpus"} error Mismatched brackets',
    ),
    ('[{"type": "SCALAR"}]', NOT_FORMATTED + ": "),
    ('[{"name": "cpus", "type": "SCALAR", "scalar": 1}]', NOT_FORMATTED + ": scalar: "),
    ("[[]]", NOT_FORMATTED + ": "),
    ("[1]", NOT_FORMATTED + ": "),
    ('[{"name": "cpus", "type": "SCALAR"}]', "Invalid scalar resource"),
    (
        (
            '[{"name": "disk", "type": "SCALAR", "scalar": {"value": 1}, "role": "web", "disk":'
            ' {"persistence": {"id": "a"}, "volume": {"container_path": "p", "mode": "RW"}}}]'
        ),
        "Persistent volumes cannot be specified at the command line",
    ),
    (
        '[{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}, "revocable": {}}]',
        (
            "Revocable resources cannot be specified at the command line; do"
            " not include a 'revocable' key in the resources JSON"
        ),
    ),
    (
        (
            '[{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1},'
            ' "reservations": [{"type": "DYNAMIC", "role": "web"}]}]'
        ),
        (
            "Dynamic reservations cannot be specified at the command line; do"
            " not include a reservation with DYNAMIC type in the resources JSON"
        ),
    ),
]
"""Values of C{--resources}, and the beginning of what an operator is told."""
