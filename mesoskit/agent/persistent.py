"""Persistent volumes: which directory one is, and that its task finds it where it says.

They lie where Mesos has them (C{getPersistentVolumePath} in C{src/slave/paths.cpp}):
C{<work_dir>/volumes/roles/<role>/<id>}; on a disk of type C{PATH} below its root in place of the
work directory; a disk of type C{MOUNT} is one itself.
"""

from collections.abc import Iterable
from posixpath import join

from mesoskit.messages.mesos_pb2 import ContainerInfo, Resource, Volume


def volume_path(work_dir: str, volume: Resource) -> str:
    """Return the directory of a persistent volume."""
    source = volume.disk.source
    root = work_dir
    if source.type == Resource.DiskInfo.Source.MOUNT and source.HasField("mount"):
        return join(work_dir, source.mount.root)
    if source.type == Resource.DiskInfo.Source.PATH and source.HasField("path"):
        root = join(work_dir, source.path.root)
    role = volume.reservations[-1].role if volume.reservations else volume.role
    # A role may be a path, and is one name here, as in Mesos.
    return join(root, "volumes", "roles", role.replace("/", " "), volume.disk.persistence.id)


def with_volumes(info: ContainerInfo | None, resources: Iterable[Resource], work_dir: str) -> bytes:
    """
    Return what a container is to be, serialized, with the persistent volumes among its resources.

    @param info: what its task or executor says; L{None}: nothing. It is not changed.
    """
    whole = ContainerInfo(type=ContainerInfo.MESOS)
    if info is not None:
        whole.CopyFrom(info)
    found = False
    for resource in resources:
        if not resource.disk.HasField("persistence") or not resource.disk.HasField("volume"):
            continue
        found = True
        volume = whole.volumes.add(
            container_path=resource.disk.volume.container_path, mode=resource.disk.volume.mode
        )
        volume.source.type = Volume.Source.HOST_PATH
        volume.source.host_path.path = volume_path(work_dir, resource)
    return whole.SerializeToString() if found or info is not None else b""
