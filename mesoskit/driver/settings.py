"""The numbers of a framework's driver that its author may want to turn."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesoskit.driver.connection import Backoff
from mesoskit.wire.auth.identity import Patience

if TYPE_CHECKING:
    from mesoskit.cluster.zookeeper import ZooKeeperTLS

WEEK = 7 * 24 * 3600.0


@dataclass(slots=True, frozen=True)
class DriverSettings:
    """
    Limits and times of a framework's driver; all times are seconds.

    @ivar backoff: between attempts to reach a master; each wait is a random part.
    @ivar authentication: how long proving who the framework is may take, where it has a credential.
    @ivar minimum_mechanism: the weakest SASL mechanism that it is proved by: C{CRAM-MD5}, all that
        Mesos' own masters know, or C{SCRAM-SHA-256}.
    @ivar subscribe_timeout: how long a master may take to answer a subscription.
    @ivar call_timeout: a master that answers none of the calls that wait for so long is left.
    @ivar http_json: whether a master at an C{http://} or C{https://} address is spoken to in JSON,
        and not in protobuf.
    @ivar http_record_limit: the longest event taken from such a master, in bytes.
    @ivar zk_session_timeout: of the session in ZooKeeper, where masters are looked up there.
    @ivar zk_tls: how TLS is spoken there; plain TCP where it is L{None}.
    @ivar missed_heartbeats: a master that sends C{HEARTBEAT} events is left after so many of
        its intervals without any event.
    @ivar failover_timeout: how long the cluster keeps the tasks of a framework that keeps its
        id, where C{FrameworkInfo} says nothing.
    @ivar blip_timeout: the same for a framework that does not: its program cannot come back
        after a restart, but its link may break.
    @ivar teardown_timeout: how long stopping waits for the master to take a teardown.
    @ivar offer_backlog: how many offers wait for each loop; what is over is declined.
    @ivar reconcile_first: how long to wait for answers before tasks are asked for again; doubled
        each time.
    @ivar reconcile_longest: the longest such wait.
    @ivar reconcile_interval: how often all live tasks are asked for without an occasion.
    @ivar reconcile_batch: how many tasks are asked for in one call.
    @ivar kill_first: how long to wait for the end of a task before it is killed again; doubled.
    @ivar kill_longest: the longest such wait.
    @ivar remembered_updates: of how many updates it is remembered that they were taken.
    @ivar remembered_tasks: of how many lost tasks it is remembered that they must not come back.
    @ivar unreachable_patience: how long a task whose agent is cut off is waited for before it
        counts as lost. L{None}: for ever if there is an C{IScheduler}, which can decide; else
        not at all, as for Mesos' frameworks without C{PARTITION_AWARE}.
    """

    backoff: Backoff = field(default_factory=Backoff)
    authentication: Patience = field(default_factory=Patience)
    minimum_mechanism: str = "CRAM-MD5"
    subscribe_timeout: float = 30.0
    call_timeout: float = 60.0
    http_json: bool = False
    http_record_limit: int = 64 * 1024 * 1024
    missed_heartbeats: int = 5
    failover_timeout: float = WEEK
    blip_timeout: float = 600.0
    teardown_timeout: float = 5.0
    offer_backlog: int = 256
    reconcile_first: float = 5.0
    reconcile_longest: float = 300.0
    reconcile_interval: float = 900.0
    reconcile_batch: int = 1000
    kill_first: float = 5.0
    kill_longest: float = 120.0
    remembered_updates: int = 10_000
    remembered_tasks: int = 10_000
    unreachable_patience: float | None = None
    zk_session_timeout: float = 10.0
    zk_tls: "ZooKeeperTLS | None" = None
