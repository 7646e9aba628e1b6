"""Sandboxes: made for a user, found again, removed.

A sandbox may lie within another one, where a task puts what it likes in the way. So every path
is walked from the work directory down, component by component, and no symbolic link is followed;
what is made is changed through a descriptor of itself, never by its name.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from twisted.internet.defer import Deferred, DeferredLock

from mesoskit.agent.container import ContainerSpec, SandboxesFound
from mesoskit.agent.users import Credentials, InThread

SANDBOX_MODE = 0o700
"""Of a sandbox: its user's alone. In Mesos the user's group may look into it as well (0750)."""

POD_MODE = 0o711
"""Of the sandbox of a pod: tasks of other users have theirs in there, and get to them."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SandboxError(Exception):
    """A sandbox cannot be made or removed; the message says which and why."""


class Sandboxes:
    """
    The sandboxes under one work directory.

    @ivar work_dir: absolute, and without symbolic links in it: specs have to name sandboxes
        under this very path.
    """

    def __init__(self, work_dir: str, in_thread: InThread) -> None:
        """@param in_thread: where trees are searched and removed, one at a time."""
        self.work_dir = os.path.realpath(work_dir)
        self._in_thread = in_thread
        self._removing = DeferredLock()

    def make(self, spec: ContainerSpec, credentials: Credentials | None) -> None:
        """
        Make a container's sandbox and links; what is there already is left as it is.

        Takes some tenths of a millisecond. Raises L{SandboxError}.
        """
        with _saying(f"cannot make sandbox {spec.sandbox!r}"):
            mode = POD_MODE if spec.pod else SANDBOX_MODE
            self._make_directory(spec.sandbox, credentials, mode)
        for path, target in spec.links:
            with _saying(f"cannot make link {path!r}"):
                self._make_link(path, target, spec.id)

    def link_agent(self, agent_id: str) -> None:
        """Point C{slaves/latest} to an agent's directory, made if need be. Raises SandboxError."""
        path = f"{self.work_dir}/slaves/{agent_id}"
        with _saying(f"cannot make {path!r}"):
            with self._walk(path, make=True):
                pass
            self._make_link(f"{self.work_dir}/slaves/latest", path, agent_id)

    def remove(self, path: str) -> "Deferred[None]":
        """
        Delete a tree under the work directory, and the directories above it that are empty then.

        Nothing outside is touched whatever links are in it; other file systems mounted in it
        are left. Fails with L{SandboxError}; it is no error if there is nothing.
        """
        return self._removing.run(self._in_thread, lambda: self._remove(path))

    def find(self) -> "Deferred[SandboxesFound]":
        """Search the work directory for the sandboxes of executors, of earlier agents too."""
        return self._in_thread(self._find)

    # Making

    def _names(self, path: str) -> list[str]:
        prefix = self.work_dir.rstrip("/") + "/"
        names = path[len(prefix) :].split("/")
        if "\0" in path or not path.startswith(prefix) or {"", ".", ".."} & set(names):
            raise SandboxError(f"{path!r} is no plain path under the work directory {prefix!r}")
        return names

    @contextmanager
    def _walk(self, path: str, make: bool) -> Iterator[int]:
        """Open a directory under the work directory, making what is missing."""
        descriptor = os.open(self.work_dir, _PATH)
        try:
            for name in self._names(path):
                try:
                    deeper = os.open(name, _PATH, dir_fd=descriptor)
                except FileNotFoundError:
                    if not make:
                        raise
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o755, dir_fd=descriptor)
                    deeper = os.open(name, _PATH, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = deeper
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _parent(self, path: str) -> Iterator[int]:
        """Open the directory in which a path lies; what is missing is made."""
        parent = path.rpartition("/")[0]
        if parent == self.work_dir:
            descriptor = os.open(parent, _PATH)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        else:
            with self._walk(parent, make=True) as descriptor:
                yield descriptor

    def _make_directory(self, path: str, credentials: Credentials | None, mode: int) -> None:
        name = self._names(path)[-1]
        try:
            with self._parent(path) as parent:
                self._make_in(parent, name, credentials, mode)
        except FileNotFoundError:
            # A directory on the way was removed as empty in this moment (L{_prune}).
            with self._parent(path) as parent:
                self._make_in(parent, name, credentials, mode)

    def _make_in(self, parent: int, name: str, credentials: Credentials | None, mode: int) -> None:
        user = os.geteuid() if credentials is None else credentials.user
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != user:
                raise
            return
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            # Where a task owns the directory above it could have put another one in the place.
            if os.fstat(descriptor).st_uid != os.geteuid():
                raise SandboxError(f"{name!r} was replaced as it was made")
            os.fchmod(descriptor, mode)
            if credentials is not None:
                os.fchown(descriptor, credentials.user, credentials.group)
        except BaseException:
            with suppress(OSError):
                os.rmdir(name, dir_fd=parent)
            raise
        finally:
            os.close(descriptor)

    def _make_link(self, path: str, target: str, unique: str) -> None:
        name = self._names(path)[-1]
        with self._parent(path) as parent:
            fresh = f".{name}.{unique}"[:255]
            with suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=parent)
            os.symlink(target, fresh, dir_fd=parent)
            try:
                os.rename(fresh, name, src_dir_fd=parent, dst_dir_fd=parent)
            except OSError:
                os.unlink(fresh, dir_fd=parent)
                raise

    # Finding and removing, in a thread

    def _find(self) -> SandboxesFound:
        found = []
        for executor in self._directories(
            "slaves", None, "frameworks", None, "executors", None, "runs"
        ):
            with suppress(OSError):
                for entry in os.scandir(executor):
                    if entry.is_dir(follow_symlinks=False):
                        changed = entry.stat(follow_symlinks=False).st_mtime
                        found.append((entry.path, changed))
        return SandboxesFound(tuple(found))

    def _directories(self, *names: str | None) -> list[str]:
        """Return the directories at the end of a path in which L{None} stands for any name."""
        level = [self.work_dir]
        for name in names:
            deeper = []
            for path in level:
                if name is not None:
                    deeper.append(f"{path}/{name}")
                    continue
                with suppress(OSError):
                    for entry in os.scandir(path):
                        if entry.is_dir(follow_symlinks=False):
                            deeper.append(entry.path)
            level = deeper
        return level

    def _remove(self, path: str) -> None:
        names = self._names(path)
        if len(names) < 2:
            raise SandboxError(f"{path!r} is more than a sandbox: it is not removed")
        above = path.rpartition("/")[0]
        with _saying(f"cannot remove {path!r}"):
            try:
                with self._walk(above, make=False) as parent:
                    remove_tree(names[-1], parent)
            except FileNotFoundError:
                pass
            self._prune(above, path)

    def _prune(self, path: str, target: str) -> None:
        """Remove a directory and those above it, as far up as they are empty."""
        with suppress(OSError):
            link = f"{path}/latest"
            if os.readlink(link) == target:
                os.unlink(link)
        # An agent's own directory, slaves/<id>, stays.
        while len(self._names(path)) > 2:
            try:
                os.rmdir(path)
            except OSError:
                return
            path = path.rpartition("/")[0]


def remove_tree(name: str, parent: int) -> None:
    """
    Delete a file or a tree in the directory C{parent}, following no link.

    However deep the tree is, a few descriptors are enough: what lies deeper than one level is
    moved up to the first. Raises L{OSError}; what could be deleted is gone then too.
    """
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass
    top = _open_for_removal(name, parent)
    try:
        device = os.fstat(top).st_dev
        count = 0
        pending = _clear(top)
        while pending:
            inner = pending.pop()
            descriptor = _open_for_removal(inner, top)
            try:
                if os.fstat(descriptor).st_dev != device:
                    raise OSError(16, "another file system is mounted in it")
                for deeper in _clear(descriptor):
                    while True:
                        count += 1
                        moved = f".removed-{count}"
                        try:
                            os.stat(moved, dir_fd=top, follow_symlinks=False)
                        except FileNotFoundError:
                            break
                    _move(deeper, descriptor, moved, top)
                    pending.append(moved)
            finally:
                os.close(descriptor)
            os.rmdir(inner, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _clear(descriptor: int) -> list[str]:
    """Delete all files of a directory; return the names of the directories in it."""
    directories = []
    with os.scandir(descriptor) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in names:
        if is_directory:
            directories.append(name)
        else:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=descriptor)
    return directories


def _open_for_removal(name: str, parent: int) -> int:
    """Open a directory; one that its owner may not read is opened up before."""
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        _open_up(name, parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)
    if os.geteuid() != 0 and os.fstat(descriptor).st_mode & 0o700 != 0o700:
        os.fchmod(descriptor, 0o700)
    return descriptor


def _open_up(name: str, parent: int) -> None:
    descriptor = os.open(name, _PATH, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
    finally:
        os.close(descriptor)


def _move(name: str, source: int, moved: str, target: int) -> None:
    """Move a directory; that changes its C{..}, so that it has to be writable itself."""
    try:
        os.rename(name, moved, src_dir_fd=source, dst_dir_fd=target)
    except PermissionError:
        _open_up(name, source)
        os.rename(name, moved, src_dir_fd=source, dst_dir_fd=target)


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """Turn errors of the system into L{SandboxError}."""
    try:
        yield
    except OSError as error:
        raise SandboxError(f"{what}: {error.strerror}") from error
    except ValueError as error:  # a NUL in a name
        raise SandboxError(f"{what}: {error}") from error
