"""Names of isolators that Mesos has and an agent does not, and what there is in their place."""

from typing import Final

_ELSEWHERE: Final = "containers of other systems than Linux: leave it out"

INSTEAD: Final = {
    "appc/runtime": "images are Docker's and OCI's (--image_providers): leave it out",
    "disk/xfs": "use disk/du with --enforce_container_disk_quota",
    "docker/volume": (
        "volumes of drivers are mounted by Docker: use ContainerInfo.DOCKER with volume_driver, and"
        " --containerizers=docker,mesos"
    ),
    "filesystem/shared": "use filesystem/linux, and volumes of the sandbox (SANDBOX_PATH)",
    "filesystem/windows": _ELSEWHERE,
    "gpu/nvidia": (
        "offer GPUs as a resource of another name (--resources), and give containers their devices"
        " by --allowed_devices"
    ),
    "network/cni": (
        "use network/none, or ContainerInfo.DOCKER with the networks of a Docker engine"
        " (--containerizers=docker,mesos)"
    ),
    "network/port_mapping": (
        "use network/ports to hold containers to their ports, or ContainerInfo.DOCKER with network"
        " BRIDGE"
    ),
    "volume/csi": "use volumes of the machine (volume/host_path) that were mounted beforehand",
    "windows/cpu": _ELSEWHERE,
    "windows/mem": _ELSEWHERE,
}
"""By the name; nothing that Mesos knows is missing both here and among those that are there."""
