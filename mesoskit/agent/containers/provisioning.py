"""What lies ready for a container from an image before it is started: one directory each.

    <work_dir>/provisioner/containers/<name>/
        plan.json, config.json      what L{mesoskit.agent.launcher_oci} and the runtime are told
        rootfs, upper, work         the image, mounted by the stage; what the container changes
        binds, images, secrets      where volumes are mounted, before the runtime takes them
        state                       the runtime's own
        started, failed, log        what became of it

All of it goes with the container.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final, NamedTuple

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers import oci
from mesoskit.agent.containers.image_rights import Rights
from mesoskit.agent.containers.image_store import StoredImage
from mesoskit.agent.containers.volumes import Bound, VolumeError, make_directory, target_beside
from mesoskit.agent.images import SANDBOX
from mesoskit.agent.launcher_isolation import MS_BIND, MS_RDONLY, MS_REC
from mesoskit.agent.users import Credentials
from mesoskit.messages.mesos_pb2 import ContainerInfo, LinuxInfo
from mesoskit.model.ids import ContainerId

_MAX_PLAN: Final = 4 << 20

Mounted = tuple[str, str, str, int, str, bool]
"""A L{mesoskit.agent.launcher_isolation.Mount}, as a plain tuple."""


class Prepared(NamedTuple):
    """
    What a container of an earlier agent was made of.

    @ivar container: its id.
    @ivar layers: what it stands on.
    @ivar inside: the sandbox that is seen from within; empty where it has the machine's files.
    """

    container: ContainerId
    layers: tuple[str, ...]
    inside: str


class Provisions:
    """
    The directories of containers from images.

    @ivar directory: where they are.
    @ivar secrets: where secrets of containers without an image lie while these run.
    @ivar runtime: the path of crun or runc; before it was looked for, its name or nothing.
    """

    def __init__(self, directory: str, secrets: str, runtime: str = "") -> None:
        self.directory = os.path.realpath(directory)
        self.secrets = os.path.realpath(secrets)
        self.runtime = runtime

    def path(self, container: ContainerId) -> str:
        """Return a container's directory."""
        return os.path.join(self.directory, runtime_id(container))

    def make(
        self,
        spec: ContainerSpec,
        info: ContainerInfo,
        rights: Rights,
        credentials: Credentials | None,
        layers: str,
        image: StoredImage,
        bounds: Sequence[tuple[Bound, StoredImage | None]],
        sandbox_directory: str = SANDBOX,
        around: int = 0,
    ) -> str:
        """
        Make ready what a container from an image needs; return its directory.

        @param layers: the store's directory of layers.
        @param bounds: volumes, each with its image, where it has one.
        @param around: a process of the container that it is nested in, 0 where that is none: its
            network is shared, and its shared memory, too, where neither is the machine's.
        Raises L{OSError}, L{VolumeError}, L{mesoskit.agent.containers.image_names.ImageError}.
        """
        path = self._empty(spec.id)
        name = runtime_id(spec.id)
        argv = oci.executable(spec, oci.merged_argv(spec, image.config))
        root = os.path.join(path, "rootfs")
        mounts: list[dict[str, Any]] = [{"target": root, "layers": image.layers, "writable": path}]
        laid = _volumes(path, spec, credentials, bounds, sandbox_directory, [spec.sandbox])
        sandbox = oci.OCIMount(_in(path, "binds/0"), sandbox_directory, False)
        seen = [*oci.door_of(spec), sandbox, *laid.seen]
        directory = image.config.get("WorkingDir") or sandbox_directory
        variables = oci.merged_environment(spec, image.config, sandbox_directory)
        process = oci.process(spec, rights, argv, variables, credentials, directory)
        self._write_secrets(os.path.join(path, "secrets"), laid.secrets, credentials)
        joined: dict[str, str] = {}
        if around:
            rights = replace(rights, network=False)
            joined = _shared(around, info)
        configured = oci.configuration(process, root, seen, info, rights, joined)
        _write(path, "config.json", configured)
        plan = {
            "container": spec.id,
            "inside": spec.sandbox,
            "id": name,
            "runtime": self.runtime,
            "options": _options(self.runtime, path),
            "exec": None,
            "layers": layers,
            "mounts": [*mounts, *laid.mounts],
            "binds": laid.binds,
            "secrets": bool(laid.secrets),
            "terminal": process["terminal"],
            "pid": not info.linux_info.share_pid_namespace,
        }
        _write(path, "plan.json", plan)
        return path

    def make_within(
        self,
        spec: ContainerSpec,
        rights: Rights,
        credentials: Credentials | None,
        parent: ContainerId,
        inside: str,
        sandbox_directory: str = SANDBOX,
    ) -> str:
        """
        Make ready what a process within a container from an image needs; return its directory.

        It starts in its sandbox, where that is to be seen from within.

        @param inside: the sandbox that is seen as C{sandbox_directory} there.
        """
        path = self._empty(spec.id)
        name = runtime_id(spec.id)
        argv = oci.executable(spec, list(spec.argv))
        directory = _seen_at(spec.sandbox, inside, sandbox_directory)
        variables = oci.merged_environment(spec, {}, directory)
        process = oci.process(spec, rights, argv, variables, credentials, directory)
        _write(path, "process.json", process)
        around = self._plan(self.path(parent))  # whose runtime may be another than ours by now
        plan = {
            "container": spec.id,
            "inside": inside,
            "id": name,
            "runtime": around["runtime"],
            "options": around["options"],
            "exec": around["exec"] or runtime_id(parent),
            "terminal": process["terminal"],
        }
        _write(path, "plan.json", plan)
        return path

    def make_among(
        self,
        spec: ContainerSpec,
        info: ContainerInfo,
        rights: Rights,
        credentials: Credentials | None,
        layers: str,
        bounds: Sequence[tuple[Bound, StoredImage | None]],
        around: int,
        inside: str,
        sandbox_directory: str = SANDBOX,
    ) -> str:
        """
        Make ready what a container needs that has the files of the one that it is nested in, and
        volumes of its own; return its directory.

        @param around: a process of the container that it is nested in.
        @param inside: the sandbox that is seen as C{sandbox_directory} there.
        Raises as L{make} does.
        """
        path = self._empty(spec.id)
        argv = oci.executable(spec, list(spec.argv))
        directory = _seen_at(spec.sandbox, inside, sandbox_directory)
        variables = oci.merged_environment(spec, {}, directory)
        process = oci.process(spec, rights, argv, variables, credentials, directory)
        laid = _volumes(path, spec, credentials, bounds, directory, [])
        self._write_secrets(os.path.join(path, "secrets"), laid.secrets, credentials)
        root = os.path.join(path, "rootfs")
        configured = oci.configuration(process, root, (), info, rights)
        devices = oci.OCIMount(os.path.join(root, "dev"), "/dev", False)
        configured["mounts"] = oci.binds([devices, *laid.seen])
        kinds = {"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid"}
        joined = _others(around, kinds)
        configured["linux"]["namespaces"] = [
            {"type": "mount"},
            *({"type": kind, "path": where} for kind, where in joined.items()),
        ]
        _write(path, "config.json", configured)
        plan = {
            "container": spec.id,
            "inside": inside,
            "id": runtime_id(spec.id),
            "runtime": self.runtime,
            "options": _options(self.runtime, path),
            "exec": None,
            "around": around,
            "layers": layers,
            "mounts": laid.mounts,
            "binds": laid.binds,
            "secrets": bool(laid.secrets),
            "terminal": process["terminal"],
            "pid": False,
        }
        _write(path, "plan.json", plan)
        return path

    def make_beside(
        self,
        spec: ContainerSpec,
        credentials: Credentials | None,
        layers: str,
        bounds: Sequence[tuple[Bound, StoredImage | None]],
    ) -> tuple[str, tuple[Mounted, ...]]:
        """
        Make ready the volumes of a container without an image; return its directory, and what
        is to be mounted. It sees the machine's files, so what is mounted over must be there.

        Raises L{OSError}, L{VolumeError}.
        """
        path = self._empty(spec.id)
        owner = None if credentials is None else (credentials.user, credentials.group)
        plan: dict[str, Any] = {
            "container": spec.id,
            "inside": "",
            "exec": None,
            "mounts": [],
        }
        mounts: list[Mounted] = []
        secrets = [bound.secret for bound, _ in bounds if bound.secret is not None]
        kept = os.path.join(self.secrets, runtime_id(spec.id))
        self._write_secrets(kept, secrets, credentials)
        known = 0
        for number, (bound, laid) in enumerate(bounds):
            if bound.secret is not None:
                source = os.path.join(kept, str(known))
                known += 1
            elif bound.sandboxed is not None:
                source = bound.sandboxed
                make_directory(_sandbox_above(source, spec.sandbox), source, owner)
            elif bound.path is not None:
                source = os.path.realpath(bound.path)
            else:
                assert laid is not None
                plan["mounts"] = [*plan["mounts"], {"layers": laid.layers}]
                writable = None if bound.read_only else _in(path, f"changes/{number}")
                target = target_beside(spec.sandbox, bound.target, True, owner)
                mounts.append(_laid(layers, laid.layers, target, writable))
                continue
            target = target_beside(spec.sandbox, bound.target, os.path.isdir(source), owner)
            flags = MS_BIND | MS_REC | (MS_RDONLY if bound.read_only else 0)
            mounts.append((source, target, "", flags, "", True))
        _write(path, "plan.json", plan)
        return path, tuple(mounts)

    def _empty(self, container: ContainerId) -> str:
        path = self.path(container)
        self.remove(path)
        os.makedirs(path, 0o700)
        return path

    def _write_secrets(
        self, path: str, secrets: Sequence[bytes], credentials: Credentials | None
    ) -> None:
        if not secrets:
            return
        os.makedirs(path, 0o700)
        for number, secret in enumerate(secrets):
            name = os.path.join(path, str(number))
            with open(name, "xb", opener=lambda path, flags: os.open(path, flags, 0o400)) as file:
                if credentials is not None:
                    os.fchown(file.fileno(), credentials.user, credentials.group)
                file.write(secret)

    def state(self, path: str) -> tuple[int, str]:
        """
        Return the pid of a container's own process once that has begun, or 0 and why it could
        not; empty: nobody knows.
        """
        for name in ("started", "failed"):
            try:
                with open(os.path.join(path, name), "rb") as file:
                    text = file.read(4096).decode("utf-8", "replace")
            except OSError:
                continue
            return (int(text), "") if name == "started" else (0, text)
        return 0, ""

    def _plan(self, path: str) -> dict[str, Any]:
        with open(os.path.join(path, "plan.json"), "rb") as file:
            plan: dict[str, Any] = json.loads(file.read(_MAX_PLAN))
        return plan

    def find(self) -> list[tuple[str, Prepared | None]]:
        """Return all directories that are there, and what they were made for."""
        found: list[tuple[str, Prepared | None]] = []
        try:
            entries = list(os.scandir(self.directory))
        except OSError:
            return found
        for entry in entries:
            try:
                found.append((entry.path, _prepared(self._plan(entry.path))))
            except (OSError, ValueError, KeyError, TypeError):
                found.append((entry.path, None))
        return found

    def remove(self, path: str) -> None:
        """Remove a directory of a container that does not run, and what its runtime has left."""
        if not os.path.lexists(path):
            return
        shutil.rmtree(os.path.join(self.secrets, os.path.basename(path)), ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)


def provisioner_of(work_dir: str) -> str:
    """Return where an agent's containers from images are."""
    return os.path.join(work_dir, "provisioner", "containers")


def written(directory: str, container: ContainerId) -> list[str]:
    """
    Return where a container writes what it changes of images: its own, and those of volumes.

    @param directory: from L{provisioner_of}.
    """
    path = os.path.join(directory, runtime_id(container))
    return [os.path.join(path, "upper"), os.path.join(path, "changes")]


def runtime_id(container: ContainerId) -> str:
    """Return what the runtime calls a container: its id may hold what no runtime takes."""
    return sha256(container.encode()).hexdigest()[:32]


def _options(runtime: str, path: str) -> list[str]:
    """Return what a runtime is told before anything else: not to need cgroups, and its place."""
    without = "--cgroup-manager=disabled" if is_crun(runtime) else "--rootless=true"
    return [without, "--root", os.path.join(path, "state")]


def is_crun(runtime: str) -> bool:
    """Tell whether a runtime takes the options of crun, and not those of runc."""
    return os.path.basename(runtime).startswith("crun")


def _shared(around: int, info: ContainerInfo) -> dict[str, str]:
    """Return the namespaces that a container shares with the one that it is nested in."""
    wanted = {"network": "net"}
    linux = info.linux_info
    if linux.ipc_mode != LinuxInfo.PRIVATE and not linux.HasField("shm_size"):
        wanted["ipc"] = "ipc"
    if linux.share_pid_namespace:
        wanted["pid"] = "pid"
    return _others(around, wanted)


def _others(around: int, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return paths of those namespaces of a process that are not ours, as a runtime calls them."""
    found = {}
    try:
        for kind, name in wanted.items():
            path = f"/proc/{around}/ns/{name}"
            if os.readlink(path) != os.readlink(f"/proc/self/ns/{name}"):
                found[kind] = path
    except FileNotFoundError as error:
        raise VolumeError("the container that it is to be in has ended") from error
    return found


class _Volumes(NamedTuple):
    """What L{mesoskit.agent.launcher_oci} and the runtime do for volumes."""

    mounts: list[dict[str, Any]]
    binds: list[str]
    seen: list[oci.OCIMount]
    secrets: list[bytes]


def _volumes(
    path: str,
    spec: ContainerSpec,
    credentials: Credentials | None,
    bounds: Sequence[tuple[Bound, StoredImage | None]],
    where: str,
    binds: list[str],
) -> _Volumes:
    """
    Return what is to be done for volumes. Raises L{VolumeError}.

    @param path: the container's directory.
    @param where: what paths within the container are relative to.
    @param binds: directories that are bound anyway.
    """
    owner = None if credentials is None else (credentials.user, credentials.group)
    laid = _Volumes([], binds, [], [])
    for number, (bound, image) in enumerate(bounds):
        if bound.path is not None:
            source = bound.path
        elif bound.sandboxed is not None:
            base = _sandbox_above(bound.sandboxed, spec.sandbox)
            make_directory(base, bound.sandboxed, owner)
            source = _in(path, f"binds/{len(binds)}")
            binds.append(bound.sandboxed)
        elif bound.secret is not None:
            source = _in(path, f"secrets/{len(laid.secrets)}")
            laid.secrets.append(bound.secret)
        else:
            assert image is not None
            source = _in(path, f"images/{number}")
            writable = None if bound.read_only else _in(path, f"changes/{number}")
            laid.mounts.append({"target": source, "layers": image.layers, "writable": writable})
        target = os.path.join(where, bound.target)
        laid.seen.append(oci.OCIMount(source, target, bound.read_only, bound.follow))
    return laid


def _seen_at(sandbox: str, inside: str, directory: str) -> str:
    """Return where a sandbox is seen within a container whose own is C{inside}."""
    below = sandbox.removeprefix(inside.rstrip("/") + "/")
    return directory if below == sandbox else os.path.join(directory, below)


def _prepared(plan: dict[str, Any]) -> Prepared:
    layers = {layer for mount in plan.get("mounts", ()) for layer in mount["layers"]}
    return Prepared(ContainerId(plan["container"]), tuple(layers), _inside(plan))


def _inside(plan: dict[str, Any]) -> str:
    """Return what a plan says of the sandbox within, or what one of an older agent meant."""
    if "inside" in plan:
        return str(plan["inside"])
    return str(plan["sandbox"]) if plan["exec"] is None else ""


def _sandbox_above(path: str, sandbox: str) -> str:
    """Return the sandbox that a path lies in: the container's own, or one around it."""
    while not path.startswith(sandbox.rstrip("/") + "/") and path != sandbox:
        sandbox = os.path.dirname(sandbox)
        if sandbox == "/":
            raise VolumeError(f"{path!r} is in no sandbox of the container")
    return sandbox


def _laid(layers: str, names: Sequence[str], target: str, writable: str | None) -> Mounted:
    """Return the mount of an image's layers. Raises L{VolumeError}."""
    paths = [os.path.join(layers, name) for name in reversed(names)]
    if writable is None and len(paths) == 1:
        return paths[0], target, "", MS_BIND | MS_REC | MS_RDONLY, "", True
    options = f"lowerdir={':'.join(paths)}"
    if writable is not None:
        for name in ("upper", "work"):
            os.makedirs(os.path.join(writable, name))
        options += f",upperdir={writable}/upper,workdir={writable}/work"
    if len(options.encode()) >= os.sysconf("SC_PAGE_SIZE"):
        raise VolumeError(
            f"volume {target!r}: its image has {len(names)} layers, which are more than one mount"
            " can be told of: give the container itself an image, or squash the volume's"
        )
    return "overlay", target, "overlay", 0, options, True


def _in(path: str, name: str) -> str:
    return os.path.join(path, name)


def _write(path: str, name: str, content: object) -> None:
    # Secrets may be in the environment.
    target = os.path.join(path, name)
    with open(target, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        json.dump(content, file)
