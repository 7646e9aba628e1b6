"""TLS for those who use it: the reactor of a daemon without OpenSSL, until somebody wants it.

C{twisted.internet.tcp}, C{posixbase} and C{endpoints} import pyOpenSSL and cryptography
wherever these are installed: 13 MB of memory and a third of a daemon's start, for nothing in
a cluster without TLS. Without pyOpenSSL they do without, and so they are made to believe
that it is not there, once, while they are imported. Whoever wants TLS later gets all of it:
everything that does imports L{twisted.internet.ssl} or L{twisted.protocols.tls} first
(C{treq} and C{twisted.web.client} for https, L{mesoskit.wire.endpoints} for C{ssl:} and
C{tls:}, L{mesoskit.wire.port} for TLS on the one port), and with these the modules that were
fooled are executed once more. Their functions and their dictionary stay the same objects, so
that nobody holds an old one that knows of no TLS.

What does not come back is C{startTLS} of a plain connection: C{twisted.internet.tcp} stays as
it is, for reactor and listening ports hold on to its classes. Nothing here uses it, as the
endpoints do not either.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Final

_OPENSSL: Final = "OpenSSL"
_TLS: Final = ("twisted.internet.ssl", "twisted.protocols.tls")
_FOOLED: Final = ("twisted.internet.posixbase", "twisted.internet.endpoints")


def leave_tls_for_later(endpoints: bool = True) -> None:
    """
    Import the reactor and the endpoints without TLS.

    To be called by a program of its own (C{twistd}), before anything has imported them; where
    something has, nothing is done.

    @param endpoints: whether Twisted's endpoints are going to be used; a program without
        them is spared them, too.
    """
    if any(name in sys.modules for name in (_OPENSSL, "twisted.internet.tcp", *_FOOLED)):
        return
    sys.modules[_OPENSSL] = None  # type: ignore[assignment]
    try:
        if endpoints:
            import twisted.internet.endpoints
        import twisted.internet.reactor  # noqa: F401
    finally:
        del sys.modules[_OPENSSL]
    sys.meta_path.insert(0, _Watch([name for name in _FOOLED if name in sys.modules]))


class _Watch(MetaPathFinder):
    """Sees that TLS is wanted, by what is imported."""

    def __init__(self, fooled: Sequence[str]) -> None:
        self._fooled = fooled

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module as it would be found anyway, with L{_restore} behind it."""
        if name not in _TLS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader, self._fooled)
        return spec


class _Then(Loader):
    """Loads a module by its own loader, then brings TLS back."""

    def __init__(self, loader: Loader, fooled: Sequence[str]) -> None:
        self._loader = loader
        self._fooled = fooled

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create it as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute it; after the last of the two, those that were fooled."""
        self._loader.exec_module(module)
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        for name in _TLS:
            # Either comes back here when it is imported, and finds the other one there.
            importlib.import_module(name)
        _restore(self._fooled)


def _restore(fooled: Sequence[str]) -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Watch)]
    from twisted.internet import reactor
    from twisted.internet.interfaces import IReactorSSL
    from zope.interface import alsoProvides

    if IReactorSSL.providedBy(reactor):
        return
    for name in fooled:
        importlib.reload(sys.modules[name])
    alsoProvides(reactor, IReactorSSL)
