"""For the tests of framework authors: a cluster without a cluster, and doubles of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesoskit.testing.cluster import TestAgent, TestCluster
    from mesoskit.testing.network import Host, Network

__all__ = ["Host", "Network", "TestAgent", "TestCluster"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what is asked for: not every test needs all of it."""
        if name in ("TestAgent", "TestCluster"):
            from mesoskit.testing import cluster as home
        elif name in ("Host", "Network"):
            from mesoskit.testing import network as home
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(home, name)
