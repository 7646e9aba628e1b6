"""Persistent volumes: where they are, and where tasks find them."""

from __future__ import annotations

from typing import Any

from mesoskit.agent.persistent import volume_path, with_volumes
from mesoskit.messages import codec
from mesoskit.messages.mesos_pb2 import ContainerInfo, Resource
from tests.base import SynchronousTestCase


def volume(role: str = "ops/db", **source: Any) -> Resource:
    """Return a persistent volume."""
    disk: dict[str, Any] = {
        "persistence": {"id": "id1"},
        "volume": {"container_path": "data", "mode": "RW"},
    }
    if source:
        disk["source"] = source
    return codec.from_dict(
        Resource,
        {
            "name": "disk",
            "type": "SCALAR",
            "scalar": {"value": 64},
            "reservations": [{"type": "STATIC", "role": "ops"}, {"type": "DYNAMIC", "role": role}],
            "disk": disk,
        },
    )


class PersistentVolumeTests(SynchronousTestCase):
    """Pure functions."""

    def test_where_they_are(self):
        self.assertEqual(volume_path("/w", volume()), "/w/volumes/roles/ops db/id1")
        on_path = volume(type="PATH", path={"root": "/disk"})
        self.assertEqual(volume_path("/w", on_path), "/disk/volumes/roles/ops db/id1")
        below = volume(type="PATH", path={"root": "disk"})
        self.assertEqual(volume_path("/w", below), "/w/disk/volumes/roles/ops db/id1")
        mounted = volume(type="MOUNT", mount={"root": "/mnt/a"})
        self.assertEqual(volume_path("/w", mounted), "/mnt/a")

    def test_tasks_find_them_where_they_say(self):
        made = ContainerInfo.FromString(with_volumes(None, [volume()], "/w"))
        (found,) = made.volumes
        self.assertEqual(found.container_path, "data")
        self.assertEqual(found.source.host_path.path, "/w/volumes/roles/ops db/id1")
        self.assertEqual(made.type, ContainerInfo.MESOS)

    def test_what_has_none_stays_as_it_is(self):
        disk = Resource(name="disk")
        self.assertEqual(with_volumes(None, [disk], "/w"), b"")
        info = ContainerInfo(type=ContainerInfo.DOCKER, hostname="h")
        self.assertEqual(with_volumes(info, [disk], "/w"), info.SerializeToString())
        with_volumes(info, [volume()], "/w")
        self.assertEqual(len(info.volumes), 0)
