"""The options of C{docker run}, as parameters of C{DockerInfo}, in the words of the Engine API.

Mesos hands C{DockerInfo.parameters} to the command line as C{--key=value}; this says the same
to the engine itself. An option that is not known, or has a value that means nothing, is an error
that names it.
"""

from collections.abc import Callable
from typing import Any, Final

import orjson

from mesoskit.agent.containers import ContainerError

Body = dict[str, Any]
"""The body of a request that creates a container; C{HostConfig} is in it."""

_Setter = Callable[[Body, str], None]

_UNITS: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TRUE: Final = ("", "1", "t", "true", "T", "TRUE", "True")
_FALSE: Final = ("0", "f", "false", "F", "FALSE", "False")

_OURS: Final = {
    "name": "containers are named by the agent",
    "rm": "containers are removed by the agent after --docker_remove_delay",
    "detach": "the agent follows what a container writes",
    "d": "the agent follows what a container writes",
    "cidfile": "there is no file for ids",
    "attach": "the agent follows what a container writes",
    "a": "the agent follows what a container writes",
    "env-file": "give CommandInfo.environment instead",
    "label-file": "give labels instead",
    "pull": "set force_pull_image instead",
    "detach-keys": "nobody is attached",
    "sig-proxy": "nobody is attached",
    "disable-content-trust": "it is a matter of the docker command alone",
}
"""Options that make no sense here, and why."""


def apply(body: Body, key: str, value: str) -> None:
    """
    Change a container that is to be created as an option says.

    @param body: has a C{HostConfig}; it is changed.
    @raise ContainerError: where the option is unknown, or its value means nothing.
    """
    name = key.lstrip("-")
    if name in _OURS:
        raise ContainerError(f"docker parameter '{key}' cannot be given: {_OURS[name]}")
    setter = _OPTIONS.get(_SHORT.get(name, name))
    if setter is None:
        raise ContainerError(
            f"docker parameter '{key}' is not known: it should be an option of 'docker run'"
        )
    try:
        setter(body, value)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ContainerError(f"docker parameter '{key}' has value {value!r}: {error}") from error


def size(value: str) -> int:
    """Read bytes: C{512m}, C{1.5g}, C{1024}. Raises C{ValueError}."""
    text = value.strip().lower()
    for ending in ("ib", "b"):
        if text.endswith(ending) and len(text) > len(ending):
            text = text[: -len(ending)]
            break
    unit = text[-1:] if text[-1:] in _UNITS and not text[-1:].isdigit() else ""
    try:
        number = float(text[: len(text) - len(unit)])
    except ValueError:
        raise ValueError("expected bytes such as 512m") from None
    if not 0 <= number < 1 << 62:
        raise ValueError("expected bytes such as 512m")
    return int(number * _UNITS[unit])


def boolean(value: str) -> bool:
    """Read C{true} or C{false}; nothing is true. Raises C{ValueError}."""
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ValueError("expected true or false")


def _whole(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError("expected a whole number") from None


def _pair(value: str, mark: str = "=") -> tuple[str, str]:
    left, found, right = value.partition(mark)
    if not left or not found:
        raise ValueError(f"expected something{mark}something")
    return left, right


def _nanoseconds(value: str) -> int:
    """Read a duration as Go writes it: C{1m30s}."""
    units = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    total, number, text = 0.0, "", value
    while text:
        if text[0].isdigit() or text[0] == ".":
            number, text = number + text[0], text[1:]
            continue
        unit = next((one for one in ("ns", "us", "ms", "s", "m", "h") if text.startswith(one)), "")
        if not unit or not number:
            raise ValueError("expected a duration such as 30s")
        total += float(number) * units[unit]
        number, text = "", text[len(unit) :]
    if number:
        raise ValueError("expected a duration such as 30s")
    return int(total)


# How a value is put into the body.


def _top(name: str, read: Callable[[str], Any] = str) -> _Setter:
    def put(body: Body, value: str) -> None:
        body[name] = read(value)

    return put


def _host(name: str, read: Callable[[str], Any] = str) -> _Setter:
    def put(body: Body, value: str) -> None:
        body["HostConfig"][name] = read(value)

    return put


def _append(name: str, read: Callable[[str], Any] = str) -> _Setter:
    def put(body: Body, value: str) -> None:
        body["HostConfig"].setdefault(name, []).append(read(value))

    return put


def _entry(where: str, name: str, mark: str = "=", bare: bool = False) -> _Setter:
    """Add key=value to a mapping in C{HostConfig} or in the body itself."""

    def put(body: Body, value: str) -> None:
        place = body if where == "body" else body["HostConfig"]
        left, right = (value, "") if bare and mark not in value else _pair(value, mark)
        place.setdefault(name, {})[left] = right

    return put


def _endpoint(name: str, many: bool = False) -> _Setter:
    """Set something of the container's place in its network."""

    def put(body: Body, value: str) -> None:
        place = body.setdefault("_endpoint", {})
        if many:
            place.setdefault(name, []).append(value)
        else:
            place[name] = value

    return put


def _address(name: str) -> _Setter:
    def put(body: Body, value: str) -> None:
        body.setdefault("_endpoint", {}).setdefault("IPAMConfig", {})[name] = value

    return put


def _device(value: str) -> Body:
    parts = value.split(":")
    if not 1 <= len(parts) <= 3 or not parts[0]:
        raise ValueError("expected host path[:container path][:permissions]")
    inside, permissions = parts[0], "rwm"
    for part in parts[1:]:
        if part.startswith("/"):
            inside = part
        elif set(part) <= set("rwm"):
            permissions = part
        else:
            raise ValueError("expected host path[:container path][:permissions]")
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": permissions}


def _rate(read: Callable[[str], int]) -> Callable[[str], Body]:
    def parse(value: str) -> Body:
        path, rate = _pair(value, ":")
        return {"Path": path, "Rate": read(rate)}

    return parse


def _weight(value: str) -> Body:
    path, weight = _pair(value, ":")
    return {"Path": path, "Weight": _whole(weight)}


def _ulimit(value: str) -> Body:
    name, limits = _pair(value)
    soft, _, hard = limits.partition(":")
    return {"Name": name, "Soft": _whole(soft), "Hard": _whole(hard or soft)}


def _port(value: str) -> str:
    number, _, protocol = value.partition("/")
    if not number.isdigit() or not 0 < int(number) < 65536:
        raise ValueError("expected a port such as 80/tcp")
    return f"{int(number)}/{protocol or 'tcp'}"


def _publish(body: Body, value: str) -> None:
    *outside, inside = value.rsplit(":", 2)
    port = _port(inside)
    host = {"HostPort": outside[-1] if outside else ""}
    if len(outside) == 2:
        host["HostIp"] = outside[0].strip("[]")
    body.setdefault("ExposedPorts", {})[port] = {}
    body["HostConfig"].setdefault("PortBindings", {}).setdefault(port, []).append(host)


def _expose(body: Body, value: str) -> None:
    body.setdefault("ExposedPorts", {})[_port(value)] = {}


def _restart(body: Body, value: str) -> None:
    if value not in ("no", ""):
        raise ValueError("expected no: whether a task starts again is its framework's matter")


def _env(body: Body, value: str) -> None:
    body.setdefault("Env", []).append(value)


def _volume(body: Body, value: str) -> None:
    if ":" in value:
        body["HostConfig"].setdefault("Binds", []).append(value)
    else:
        body.setdefault("Volumes", {})[value] = {}


def _mount(body: Body, value: str) -> None:
    mount: Body = {"Type": "volume"}
    names = {"src": "Source", "source": "Source", "dst": "Target", "destination": "Target"}
    names |= {"target": "Target", "type": "Type", "consistency": "Consistency"}
    for part in value.split(","):
        key, found, text = part.partition("=")
        if key in ("ro", "readonly"):
            mount["ReadOnly"] = boolean(text)
        elif key == "bind-propagation":
            mount["BindOptions"] = {"Propagation": text}
        elif key == "tmpfs-size":
            mount.setdefault("TmpfsOptions", {})["SizeBytes"] = size(text)
        elif key == "tmpfs-mode":
            mount.setdefault("TmpfsOptions", {})["Mode"] = int(text, 8)
        elif key in names and found:
            mount[names[key]] = text
        else:
            raise ValueError(f"{part!r} means nothing: expected type=..,source=..,target=..")
    if "Target" not in mount:
        raise ValueError("expected a target=..")
    body["HostConfig"].setdefault("Mounts", []).append(mount)


def _log_option(body: Body, value: str) -> None:
    left, right = _pair(value)
    log = body["HostConfig"].setdefault("LogConfig", {"Type": ""})
    log.setdefault("Config", {})[left] = right


def _log_driver(body: Body, value: str) -> None:
    body["HostConfig"].setdefault("LogConfig", {})["Type"] = value


def _gpus(body: Body, value: str) -> None:
    count = -1 if value == "all" else _whole(value)
    request = {"Count": count, "Capabilities": [["gpu"]]}
    body["HostConfig"].setdefault("DeviceRequests", []).append(request)


def _cpus(body: Body, value: str) -> None:
    number = float(value)
    if not 0 <= number < 1 << 20:
        raise ValueError("expected a number of cores")
    body["HostConfig"].pop("CpuQuota", None)
    body["HostConfig"].pop("CpuPeriod", None)
    body["HostConfig"]["NanoCpus"] = int(number * 10**9)


def _health(name: str, read: Callable[[str], Any]) -> _Setter:
    def put(body: Body, value: str) -> None:
        body.setdefault("Healthcheck", {})[name] = read(value)

    return put


def _security(value: str) -> str:
    if not value.startswith(("seccomp=", "seccomp:")) or value[8:] == "unconfined":
        return value
    # The docker command reads a file; the engine wants what is in it.
    try:
        orjson.loads(value[8:])
    except orjson.JSONDecodeError:
        raise ValueError("expected unconfined, or a profile as JSON, not its path") from None
    return "seccomp=" + value[8:]


_OPTIONS: Final[dict[str, _Setter]] = {
    "add-host": _append("ExtraHosts"),
    "annotation": _entry("host", "Annotations"),
    "blkio-weight": _host("BlkioWeight", _whole),
    "blkio-weight-device": _append("BlkioWeightDevice", _weight),
    "cap-add": _append("CapAdd"),
    "cap-drop": _append("CapDrop"),
    "cgroup-parent": _host("CgroupParent"),
    "cgroupns": _host("CgroupnsMode"),
    "cpu-period": _host("CpuPeriod", _whole),
    "cpu-quota": _host("CpuQuota", _whole),
    "cpu-rt-period": _host("CpuRealtimePeriod", _whole),
    "cpu-rt-runtime": _host("CpuRealtimeRuntime", _whole),
    "cpu-shares": _host("CpuShares", _whole),
    "cpus": _cpus,
    "cpuset-cpus": _host("CpusetCpus"),
    "cpuset-mems": _host("CpusetMems"),
    "device": _append("Devices", _device),
    "device-cgroup-rule": _append("DeviceCgroupRules"),
    "device-read-bps": _append("BlkioDeviceReadBps", _rate(size)),
    "device-read-iops": _append("BlkioDeviceReadIOps", _rate(_whole)),
    "device-write-bps": _append("BlkioDeviceWriteBps", _rate(size)),
    "device-write-iops": _append("BlkioDeviceWriteIOps", _rate(_whole)),
    "dns": _append("Dns"),
    "dns-opt": _append("DnsOptions"),
    "dns-option": _append("DnsOptions"),
    "dns-search": _append("DnsSearch"),
    "domainname": _top("Domainname"),
    "entrypoint": _top("Entrypoint", lambda value: [value] if value else []),
    "env": _env,
    "expose": _expose,
    "gpus": _gpus,
    "group-add": _append("GroupAdd"),
    "health-cmd": _health("Test", lambda value: ["CMD-SHELL", value]),
    "health-interval": _health("Interval", _nanoseconds),
    "health-retries": _health("Retries", _whole),
    "health-start-period": _health("StartPeriod", _nanoseconds),
    "health-timeout": _health("Timeout", _nanoseconds),
    "hostname": _top("Hostname"),
    "init": _host("Init", boolean),
    "interactive": _top("OpenStdin", boolean),
    "ip": _address("IPv4Address"),
    "ip6": _address("IPv6Address"),
    "ipc": _host("IpcMode"),
    "isolation": _host("Isolation"),
    "kernel-memory": _host("KernelMemory", size),
    "label": _entry("body", "Labels", bare=True),
    "link": _append("Links"),
    "link-local-ip": _endpoint("LinkLocalIPs", many=True),
    "log-driver": _log_driver,
    "log-opt": _log_option,
    "mac-address": _endpoint("MacAddress"),
    "memory": _host("Memory", size),
    "memory-reservation": _host("MemoryReservation", size),
    "memory-swap": _host("MemorySwap", lambda value: -1 if value == "-1" else size(value)),
    "memory-swappiness": _host("MemorySwappiness", _whole),
    "mount": _mount,
    "network": _host("NetworkMode"),
    "network-alias": _endpoint("Aliases", many=True),
    "no-healthcheck": _health("Test", lambda value: ["NONE"]),
    "oom-kill-disable": _host("OomKillDisable", boolean),
    "oom-score-adj": _host("OomScoreAdj", _whole),
    "pid": _host("PidMode"),
    "pids-limit": _host("PidsLimit", _whole),
    "platform": _top("_platform"),
    "privileged": _host("Privileged", boolean),
    "publish": _publish,
    "publish-all": _host("PublishAllPorts", boolean),
    "read-only": _host("ReadonlyRootfs", boolean),
    "restart": _restart,
    "runtime": _host("Runtime"),
    "security-opt": _append("SecurityOpt", _security),
    "shm-size": _host("ShmSize", size),
    "stop-signal": _top("StopSignal"),
    "stop-timeout": _top("StopTimeout", _whole),
    "storage-opt": _entry("host", "StorageOpt"),
    "sysctl": _entry("host", "Sysctls"),
    "tmpfs": _entry("host", "Tmpfs", ":", bare=True),
    "tty": _top("Tty", boolean),
    "ulimit": _append("Ulimits", _ulimit),
    "user": _top("User"),
    "userns": _host("UsernsMode"),
    "uts": _host("UTSMode"),
    "volume": _volume,
    "volume-driver": _host("VolumeDriver"),
    "volumes-from": _append("VolumesFrom"),
    "workdir": _top("WorkingDir"),
}
_SHORT: Final = {
    "P": "publish-all",
    "c": "cpu-shares",
    "e": "env",
    "h": "hostname",
    "i": "interactive",
    "l": "label",
    "m": "memory",
    "net": "network",
    "net-alias": "network-alias",
    "p": "publish",
    "t": "tty",
    "u": "user",
    "v": "volume",
    "w": "workdir",
}
