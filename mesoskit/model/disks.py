"""What a disk resource says about the disk: where it is, what volume was made of it.

The records mirror C{Resource.DiskInfo} and are compared field by field. That is stricter
than Mesos' own comparison, which leaves out how a volume is mounted and who made it; for
that there is L{Disk.identity}.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str | None], ...]
"""Labels as (key, value) pairs in alphabetical order; a label may lack a value."""

PATH: Final = 1
"""The number of C{DiskInfo.Source.Type} for a directory that can be shared out; its kin follow."""
MOUNT: Final = 2
BLOCK: Final = 3
RAW: Final = 4

SOURCE_NAMES: Final = {PATH: "PATH", MOUNT: "MOUNT", BLOCK: "BLOCK", RAW: "RAW"}

READ_WRITE: Final = 1
"""The number of C{Volume.Mode} for a volume that can be written to."""
READ_ONLY: Final = 2


def sorted_labels(labels: Iterable[tuple[str, str | None]]) -> Labels:
    """Return labels in the order that makes equal sets of labels equal tuples."""
    return tuple(sorted(labels, key=lambda label: (label[0], label[1] is not None, label[1] or "")))


def labels_text(labels: Labels) -> str:
    """Return C{"{key: value, key without value}"}."""
    return "{" + ", ".join(k if v is None else f"{k}: {v}" for k, v in labels) + "}"


class Volume(NamedTuple):
    """
    How a container sees a volume.

    @ivar data: the serialised C{mesos.v1.Volume}, where it holds more than the fields here.
    """

    container_path: str
    mode: int = READ_WRITE
    host_path: str | None = None
    data: bytes = b""

    def __str__(self) -> str:
        if self.host_path is None:
            return self.container_path
        mode = {READ_WRITE: ":rw", READ_ONLY: ":ro"}.get(self.mode, "")
        return f"{self.host_path}:{self.container_path}{mode}"


class Source(NamedTuple):
    """
    Where a disk comes from.

    @ivar path: the root directory of a PATH disk; empty where it is to be the agent's to
        settle, L{None} where the message does not speak of a path.
    @ivar mount: the same for a MOUNT disk.
    @ivar id: the storage backend's name for this one disk.
    """

    type: int
    path: str | None = None
    mount: str | None = None
    id: str | None = None
    metadata: Labels = ()
    profile: str | None = None
    vendor: str | None = None

    @property
    def exclusive(self) -> bool:
        """Whether the disk can only be had as a whole."""
        return self.type in (MOUNT, BLOCK) or (self.type == RAW and self.id is not None)

    def __str__(self) -> str:
        name = SOURCE_NAMES.get(self.type)
        if name is None:
            return "UNKNOWN"
        if self.id is not None or self.profile is not None:
            return f"{name}({self.vendor or ''},{self.id or ''},{self.profile or ''})"
        root = {PATH: self.path, MOUNT: self.mount}.get(self.type)
        return f"{name}:{root}" if root else name


class Disk(NamedTuple):
    """
    A C{Resource.DiskInfo}.

    @ivar persistence_id: the name of the persistent volume, unique for a role on an agent.
    @ivar principal: who made the volume.
    """

    persistence_id: str | None = None
    principal: str | None = None
    volume: Volume | None = None
    source: Source | None = None

    @property
    def identity(self) -> "Disk":
        """The disk without what Mesos leaves out when it compares disks."""
        if self.principal is None and self.volume is None:
            return self
        return Disk(self.persistence_id, None, None, self.source)

    @property
    def raw(self) -> "Disk | None":
        """The disk without the volume that was made of it, C{None} if that leaves nothing."""
        return None if self.source is None else Disk(source=self.source)

    def __str__(self) -> str:
        parts = [str(part) for part in (self.source, self.persistence_id) if part is not None]
        text = ",".join(parts)
        return text if self.volume is None else f"{text}:{self.volume}"
