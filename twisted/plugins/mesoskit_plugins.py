"""The daemons as twistd plugins: C{twistd mesos-master}, C{twistd mesos-agent}."""

from twisted.application.service import ServiceMaker

mesos_master = ServiceMaker(
    "Mesos master",
    "mesoskit.app.master",
    "Pools the machines of a cluster and offers them to frameworks.",
    "mesos-master",
)

mesos_agent = ServiceMaker(
    "Mesos agent",
    "mesoskit.app.agent",
    "Offers this machine to a cluster and runs tasks on it.",
    "mesos-agent",
)
