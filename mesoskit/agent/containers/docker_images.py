"""Images of the Docker engine: whether they are there, and how they come to be.

Who may pull what is said by a C{config.json} as C{docker login} writes it: in the sandbox, where
the task has had it fetched, or else the agent's own (C{--docker_config}).
"""

import base64
import os
from collections.abc import Callable
from typing import Any, Final

import orjson
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.docker_http import Engine, deliver
from mesoskit.web.timer import Timer

STALL: Final = 180.0
"""Seconds for which a pull may say nothing. A registry may take its time, and so may a disk."""

BETWEEN_WORDS: Final = 5.0
"""Seconds until it is told first, and again, how far a pull is."""

MAX_LINE: Final = 1 << 20
"""Bytes of the longest line of a pull's progress."""

MAX_CONFIG: Final = 1 << 20
"""Bytes of the largest file with credentials."""

HUB: Final = "docker.io"
_HUB_KEYS: Final = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")
_CONFIGS: Final = ((".docker", "config.json"), ("docker.cfg",), (".dockercfg",))


def split_image(image: str) -> tuple[str, str]:
    """
    Return the name of an image, and its tag or digest: C{latest} where it has none.

    C{busybox}, C{registry:5000/a/b:1.2}, C{a@sha256:..} are names.
    """
    name, found, digest = image.partition("@")
    if found:
        return name, digest
    before, colon, tag = image.rpartition(":")
    if colon and "/" not in tag:
        return before, tag
    return image, "latest"


def registry_of(image: str) -> str:
    """Return where an image comes from: what stands before the first slash, if that is a host."""
    first, slash, _ = split_image(image)[0].partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return HUB


def credentials(config: str, image: str) -> str:
    """
    Return the C{X-Registry-Auth} for an image; empty where the configuration has none.

    @param config: JSON of a C{config.json}, or of the older C{.dockercfg}.
    @raise ContainerError: where it cannot be read, or leads to a program for credentials.
    """
    if not config.strip():
        return ""
    try:
        given: Any = orjson.loads(config)
        entries = given.get("auths", given)
        registry = registry_of(image)
        keys = _HUB_KEYS if registry == HUB else _keys(registry)
        for key in keys:
            if key in entries:
                return _auth(entries[key], key)
        helper = given.get("credHelpers", {}).get(registry) or given.get("credsStore")
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError) as error:
        raise ContainerError(f"the Docker config for {image} cannot be read: {error}") from error
    if helper:
        raise ContainerError(
            f"the Docker config leaves {registry} to the program docker-credential-{helper},"
            " which is not asked: give an 'auth' for it"
        )
    return ""


def _keys(registry: str) -> tuple[str, ...]:
    hosts = (registry, f"https://{registry}", f"http://{registry}")
    return tuple(host + end for host in hosts for end in ("", "/", "/v1/", "/v2/"))


def _auth(entry: dict[str, str], server: str) -> str:
    user, secret = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        user, _, secret = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    found = {"username": user, "password": secret.rstrip("\0"), "serveraddress": server}
    if entry.get("identitytoken"):
        found = {"identitytoken": entry["identitytoken"], "serveraddress": server}
    return base64.urlsafe_b64encode(orjson.dumps(found)).decode()


def config_in(sandbox: str) -> str:
    """
    Return the Docker configuration that a task has had fetched into its sandbox; empty where
    there is none. No link is followed: it is read with the agent's rights.
    """
    for names in _CONFIGS:
        try:
            return _read(sandbox, names)
        except (OSError, UnicodeDecodeError):
            continue
    return ""


def _read(sandbox: str, names: tuple[str, ...]) -> str:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    at = os.open(sandbox, flags | os.O_DIRECTORY)
    try:
        for name in names[:-1]:
            deeper = os.open(name, flags | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = deeper
        file = os.open(names[-1], flags, dir_fd=at)
    finally:
        os.close(at)
    with os.fdopen(file, "rb") as opened:
        return opened.read(MAX_CONFIG).decode()


class Images:
    """The images of an engine. Whoever wants one that is being pulled waits for the same pull."""

    def __init__(self, reactor: Any, engine: Engine, config: str = "") -> None:
        """@param config: C{--docker_config}: JSON of a C{config.json}."""
        self._reactor = reactor
        self._engine = engine
        self._config = config
        self._pulls: dict[tuple[str, str, str], _Pull] = {}
        self._took = Timer("containerizer/docker/image_pull_ms", reactor.seconds)

    def metrics(self) -> dict[str, float]:
        """Return how long pulls took that have succeeded."""
        return self._took.metrics()

    async def pull(
        self, image: str, platform: str, sandbox: str, progressed: Callable[[str], None]
    ) -> None:
        """
        Pull an image.

        @param platform: which of several is meant; empty for the engine's own.
        @param sandbox: where there may be credentials.
        @param progressed: is told now and then how far it is.
        @raise ContainerError: where it cannot be had.
        """
        auth = credentials(config_in(sandbox) or self._config, image)
        key = image, platform, auth
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = _Pull(self._reactor, self._engine, image, platform, auth)
            pull.begin(lambda took: self._over(key, took))
        await pull.join(progressed)

    def _over(self, key: tuple[str, str, str], took: float | None) -> None:
        del self._pulls[key]
        if took is not None:
            self._took.add(took)

    def stop(self) -> None:
        """Give up all pulls."""
        for pull in list(self._pulls.values()):
            pull.cancel()


class _Pull:
    """One pull, and those who wait for it."""

    def __init__(self, reactor: Any, engine: Engine, image: str, platform: str, auth: str) -> None:
        self._reactor = reactor
        self._engine = engine
        self._image = image
        self._platform = platform
        self._auth = auth
        self._waiting: dict[Deferred[None], Callable[[str], None]] = {}
        self._work: Deferred[None] | None = None
        self._stall: IDelayedCall | None = None
        self._stalled = False
        self._line = b""
        self._error = ""
        self._quiet = reactor.seconds() + BETWEEN_WORDS

    def begin(self, over: Callable[[float | None], None]) -> None:
        """Pull; C{over} is told when that has ended: the seconds that it took, if it went well."""
        began = self._reactor.seconds()

        def done(result: object) -> None:
            if self._stall is not None:
                self._stall.cancel()
                self._stall = None
            over(None if isinstance(result, Failure) else self._reactor.seconds() - began)
            waiting, self._waiting = self._waiting, {}
            for one in waiting:
                if isinstance(result, Failure):
                    one.errback(self._why(result))
                else:
                    one.callback(None)

        self._stall = self._reactor.callLater(STALL, self._stop)
        self._work = Deferred.fromCoroutine(self._pull())
        # Those who wait come before the end, even where the engine is not there.
        self._reactor.callLater(0, lambda: self._work and self._work.addBoth(done))

    def join(self, progressed: Callable[[str], None]) -> "Deferred[None]":
        """Wait for it; the last who gives up ends it."""

        def cancelled(one: "Deferred[None]") -> None:
            self._waiting.pop(one, None)
            if not self._waiting:
                self.cancel()

        waiter: Deferred[None] = Deferred(cancelled)
        self._waiting[waiter] = progressed
        return waiter

    def cancel(self) -> None:
        """Give it up."""
        if self._work is not None:
            self._work.cancel()

    def _stop(self) -> None:
        self._stall = None
        self._stalled = True
        self.cancel()

    async def _pull(self) -> None:
        name, tag = split_image(self._image)
        query = {"fromImage": name, "tag": tag}
        if self._platform:
            query["platform"] = self._platform
        headers = {"X-Registry-Auth": self._auth} if self._auth else {}
        response = await self._engine.stream(
            "POST", "/images/create", query, headers=headers, timeout=None
        )
        body = deliver(response, self._received)
        await body.over
        if self._line.strip():
            self._take(self._line)
        if self._error:
            raise ContainerError(self._error)

    def _received(self, data: bytes) -> None:
        if self._stall is not None:
            self._stall.reset(STALL)
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._take(line)
        if len(self._line) > MAX_LINE:
            raise ContainerError("the engine says too much of it in one line")

    def _take(self, line: bytes) -> None:
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            return
        if not isinstance(found, dict):
            return
        if found.get("error"):
            detail = found.get("errorDetail")
            words = detail.get("message") if isinstance(detail, dict) else None
            self._error = str(words or found["error"])[:2000]
            return
        now = self._reactor.seconds()
        if now >= self._quiet:
            self._quiet = now + BETWEEN_WORDS
            parts = (found.get("id"), found.get("status"), found.get("progress"))
            status = " ".join(str(part) for part in parts if part)[:200]
            for tell in list(self._waiting.values()):
                tell(f"Pulling image {self._image}: {status}")

    def _why(self, reason: Failure) -> Failure:
        prefix = f"Failed to pull image '{self._image}': "
        if self._stalled:
            return Failure(ContainerError(f"{prefix}nothing came for {STALL:g} seconds"))  # type: ignore[no-untyped-call]
        if reason.check(CancelledError):  # type: ignore[no-untyped-call]
            return Failure(ContainerError(f"{prefix}it was given up"))  # type: ignore[no-untyped-call]
        return Failure(ContainerError(prefix + reason.getErrorMessage()))  # type: ignore[no-untyped-call]
