"""Endpoints that nobody is given (C{--firewall_rules} of Apache Mesos)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

_EXAMPLE: Final = '{"disabled_endpoints": {"paths": ["/files/browse", "/metrics/snapshot"]}}'


def parse_firewall_rules(text: str) -> tuple[str, ...]:
    """
    Read C{--firewall_rules}: C{Firewall} as JSON; returns the disabled paths. Raises L{ValueError}.

    What is not understood is an error, for who disables something relies on it.
    """
    try:
        given: Any = json.loads(text)
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    rules = _only(given, "disabled_endpoints", "rules")
    paths = _only(rules, "paths", "disabled_endpoints")
    if paths is None:
        return ()
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise ValueError(f"paths must be a list of texts, as in {_EXAMPLE}")
    for path in paths:
        if not path.strip("/"):
            raise ValueError(f"{path!r} is the path of no endpoint; /state would be")
    return tuple(paths)


def _only(given: Any, name: str, what: str) -> Any:
    """Return the one member of an object that it may have."""
    if given is None:
        return None
    if not isinstance(given, dict):
        raise ValueError(f"{what} must be an object, as in {_EXAMPLE}")
    for other in given.keys() - {name}:
        raise ValueError(f"unknown name {other!r} in {what}; expected {_EXAMPLE}")
    return given.get(name)


class Firewall:
    """
    What is disabled on one daemon.

    In Mesos a rule must be the path that an endpoint has with the daemon's name before it; here
    any of an endpoint's paths disables all of them: a rule that does nothing helps nobody.

    @param name: the daemon's own, which stands before paths: C{master}.
    @param paths: as L{parse_firewall_rules} returns them.

    @ivar disabled: the endpoints, as they are called without that name.
    """

    def __init__(self, name: str, paths: Iterable[str]) -> None:
        self.disabled = frozenset(
            path.strip("/").removeprefix(f"{name}/").removesuffix(".json") for path in paths
        )

    def __bool__(self) -> bool:
        """Tell whether anything is disabled."""
        return bool(self.disabled)
