"""How daemons are told about ZooKeeper: flags, and what they make."""

from typing import TYPE_CHECKING, Any, Final

from mesoskit.cluster.zk_url import ZooKeeperURL, hidden, is_zookeeper
from mesoskit.flags import Flag, Values, boolean, duration

if TYPE_CHECKING:
    from mesoskit.cluster.detector import ZooKeeperDetector
    from mesoskit.cluster.election import Election
    from mesoskit.cluster.store import IStore
    from mesoskit.cluster.zookeeper import ZooKeeper


def session_timeout(value: str) -> float:
    """Read C{--zk_session_timeout}: no shorter than servers can keep apart from a slow network."""
    seconds = duration(value)
    if not 1.0 <= seconds <= 3600.0:
        raise ValueError("must be from 1secs to 1hrs")
    return seconds


FLAGS: Final = (
    Flag(
        "zk_session_timeout",
        session_timeout,
        10.0,
        "How long ZooKeeper waits for a master that it does not hear before another one leads.",
        written="10secs",
    ),
    Flag(
        "zk_tls",
        boolean,
        False,
        "Speak TLS with ZooKeeper, with the files of --tls_ca_file, --tls_cert_file and"
        " --tls_key_file.",
    ),
)

MASTER_FLAGS: Final = (
    Flag(
        "zk",
        ZooKeeperURL.parse,
        None,
        "Where masters meet to choose the one that leads:"
        " zk://user:password@host1:port1,host2:port2/path, or file:///path of a file with that.",
        show=hidden,
    ),
    *FLAGS,
)


def client(reactor: Any, url: ZooKeeperURL, values: Values) -> "ZooKeeper":
    """
    Return a client; it dials when it is first used.

    Raises L{ValueError} where TLS is wanted and its files are of no use.
    """
    from mesoskit.cluster.zookeeper import ZooKeeper, ZooKeeperTLS

    tls = None
    if values.zk_tls:
        tls = ZooKeeperTLS(
            ca_file=values.tls_ca_file,
            cert_file=values.tls_cert_file,
            key_file=values.tls_key_file,
            check_hostname=values.tls_verify_server,
        )
        tls.check()
    # Nothing is waited for longer than the session lasts.
    timeout = values.zk_session_timeout
    return ZooKeeper(reactor, url, session_timeout=timeout, operation_timeout=timeout, tls=tls)


def detector(
    reactor: Any, where: str, values: Values, by_name: bool = False
) -> "ZooKeeperDetector | None":
    """
    Return what finds the leading master; L{None} where C{where} is no C{zk://} URL.

    Raises L{URLError<mesoskit.cluster.zk_url.URLError>}.

    @param by_name: whether it is dialled by its name, as certificates have it, rather than by
        its address.
    """
    if not is_zookeeper(where):
        return None
    from mesoskit.cluster.detector import ZooKeeperDetector

    url = ZooKeeperURL.parse(where)
    return ZooKeeperDetector(
        client(reactor, url, values),
        reactor,
        url.path,
        (lambda leader: leader.name) if by_name else (lambda leader: leader.address),
    )


def election(reactor: Any, values: Values, name: str) -> "tuple[Election, IStore]":
    """
    Return a master's part in the election, and the registry in the same ZooKeeper.

    @param name: of this master, for people who look who wrote the registry.
    """
    from mesoskit.cluster.election import Election
    from mesoskit.cluster.registry import ZooKeeperStore

    ensemble = client(reactor, values.zk, values)
    path = values.zk.path
    elected = Election(ensemble, reactor, path)
    return elected, ZooKeeperStore(ensemble, reactor, path, lambda: elected.epoch, name)
