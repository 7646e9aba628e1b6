"""Who leads: the nodes by which masters are elected, as Mesos makes and reads them.

Each master that would lead has an ephemeral node below the cluster's path, whose name ends in a
number that grows. Who has the lowest leads. (C{src/zookeeper/group.cpp} and
C{src/master/{contender,detector}/zookeeper.cpp} of Apache Mesos.)

====================  ==================================================================
C{json.info_<n>}      JSON of C{MasterInfo}; what Mesos has written since 0.25, and we write
C{info_<n>}           C{MasterInfo} in protobuf
C{<n>}                the master's PID as text
====================  ==================================================================

Whatever else is there, such as C{log_replicas} of Mesos' replicated log, is nobody's candidacy.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

import orjson
from google.protobuf.message import DecodeError

from mesoskit.messages import codec
from mesoskit.messages.mesos_pb2 import MasterInfo

LABEL: Final = "json.info"

_NODE: Final = re.compile(r"(?:(?P<label>json\.info|info)_)?(?P<number>[0-9]{10})", re.ASCII)


class NotAMaster(ValueError):
    """What a node holds describes no master; the message names the node."""


@dataclass(slots=True, frozen=True)
class Leader:
    """
    A master that leads, or would.

    @ivar node: the name of its node.
    @ivar epoch: greater for each master that leads after another: the node's number and one,
        for 0 is the epoch of those that were not elected.
    """

    node: str
    epoch: int
    info: MasterInfo

    @property
    def address(self) -> str:
        """C{ip:port}, where it is dialled."""
        return f"{self.info.address.ip}:{self.info.address.port}"

    @property
    def name(self) -> str:
        """C{hostname:port}, by which certificates know it."""
        return f"{self.info.hostname}:{self.info.address.port}"


def number(name: str) -> int | None:
    """Return the number of a candidate's node; L{None} for any other node's name."""
    match = _NODE.fullmatch(name)
    return None if match is None else int(match["number"])


def epoch(name: str) -> int:
    """Return the epoch that a candidate's node stands for."""
    found = number(name)
    if found is None:
        raise NotAMaster(f"{name!r} is the name of no candidate's node")
    return found + 1


def first(names: Iterable[str]) -> str | None:
    """Return the node of the one that leads; L{None} where nobody would."""
    numbered = [(found, name) for name in names if (found := number(name)) is not None]
    return min(numbered)[1] if numbered else None


def to_json(info: MasterInfo) -> bytes:
    """Return what a candidate's node holds: names sorted, no blanks."""
    return orjson.dumps(codec.to_dict(info), option=orjson.OPT_SORT_KEYS)


def read(name: str, data: bytes) -> Leader:
    """Return what a node tells; raises L{NotAMaster}."""
    match = _NODE.fullmatch(name)
    if match is None:
        raise NotAMaster(f"{name!r} is the name of no candidate's node")
    if match["label"] == "info":
        try:
            info = codec.decode_as(MasterInfo, data)
        except (DecodeError, codec.Malformed) as error:
            raise NotAMaster(f"{name} holds no MasterInfo: {error}") from None
    elif match["label"] is None:
        info = _of_pid(name, data)
    else:
        info = _of_json(name, data)
    _complete(name, info)
    return Leader(name, epoch(name), info)


def _of_json(name: str, data: bytes) -> MasterInfo:
    try:
        value: Any = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise NotAMaster(f"{name} holds no JSON: {error}") from None
    if isinstance(value, dict):
        # A later release may know more of them than this one.
        value.pop("capabilities", None)
    try:
        return codec.from_dict(MasterInfo, value)
    except codec.Malformed as error:
        raise NotAMaster(f"{name} holds no MasterInfo: {error}") from None


def _of_pid(name: str, data: bytes) -> MasterInfo:
    pid = data.decode(errors="replace")
    host, colon, port = pid.rpartition("@")[2].rpartition(":")
    try:
        if not colon:
            raise ValueError
        ip = int.from_bytes(IPv4Address(host).packed, "little")
        return MasterInfo(id=pid, ip=ip, port=int(port), pid=pid, hostname=host)
    except ValueError:
        raise NotAMaster(f"{name} holds {pid[:100]!r}, which is no PID") from None


def _complete(name: str, info: MasterInfo) -> None:
    """Fill in C{address}, and C{hostname}: masters before 0.24 say less."""
    if not info.address.ip:
        info.address.ip = str(IPv4Address(info.ip.to_bytes(4, "little")))
    if not info.address.port:
        info.address.port = info.port
    if not 0 < info.address.port < 65536:
        raise NotAMaster(f"{name}: a master has no port {info.address.port}")
    if not info.hostname:
        info.hostname = info.address.hostname or info.address.ip
    if not info.address.hostname:
        info.address.hostname = info.hostname
