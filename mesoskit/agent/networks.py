"""Networks that containers are in: the machine's, or none; of those with names there is none."""

from typing import Final

from mesoskit.agent.isolation import IsolationSettings
from mesoskit.messages.mesos_pb2 import ContainerInfo

_LOOPBACK: Final = "127.0.0.1"


def alone(isolation: IsolationSettings) -> bool:
    """Tell whether containers have no network but a loopback of their own (C{network/none})."""
    return "network/none" in isolation.isolation


def address_within(isolation: IsolationSettings, ip: str) -> str:
    """
    Return the address that a container has (C{MESOS_CONTAINER_IP}).

    @param ip: the agent's.
    """
    return _LOOPBACK if alone(isolation) else ip


def unknown_network(container: ContainerInfo, isolation: IsolationSettings) -> str:
    """
    Say which network of a container is not there; or nothing.

    In Mesos such are CNI's, and what is to be in one that is not configured does not start
    (C{src/slave/containerizer/mesos/isolators/network/cni/cni.cpp}, whose words these begin with);
    it must not find itself in the machine's network. Isolators of a site's own may know them.
    """
    if container.type != ContainerInfo.MESOS or any("." in name for name in isolation.isolation):
        return ""
    for network in container.network_infos:
        if network.HasField("name"):
            return (
                f"Unknown CNI network '{network.name}': this agent has no CNI networks; without the"
                " name a container is in the machine's network, or, where the agent has"
                " --isolation=network/none, in one of its own"
            )
    return ""
