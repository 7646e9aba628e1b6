"""How daemons are told where they are: C{--domain}."""

import json
from typing import Final

from mesoskit.flags import Flag

_EXAMPLE: Final = (
    'expected the JSON of a DomainInfo such as {"fault_domain": {"region": {"name": "north"},'
    ' "zone": {"name": "north-1"}}}, or the absolute path of a file of it'
)

_LONGEST_FILE: Final = 1024 * 1024


def domain(value: str) -> bytes:
    """Read a C{DomainInfo} as JSON, or from the file of an absolute path; return it serialized."""
    from mesoskit.messages import codec
    from mesoskit.messages.mesos_pb2 import DomainInfo

    if value.startswith("/"):
        try:
            with open(value, encoding="utf-8") as file:
                value = file.read(_LONGEST_FILE)
        except OSError as error:
            raise ValueError(f"cannot read {value}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{value} is not UTF-8 text") from None
    try:
        read = codec.from_dict(DomainInfo, json.loads(value))
        serialized = read.SerializeToString()
    except Exception as error:
        raise ValueError(f"{_EXAMPLE}: {error}") from None
    fault = read.fault_domain
    if not fault.region.name or not fault.zone.name:
        raise ValueError(f"{_EXAMPLE}: a region and a zone need names")
    return serialized


FLAG: Final = Flag(
    "domain",
    domain,
    b"",
    'Where this is, as JSON: {"fault_domain": {"region": {"name": "north"}, "zone": {"name":'
    ' "north-1"}}}. Agents in another region than the master are offered to frameworks alone that'
    " are REGION_AWARE.",
)
"""Of master and agent."""
