"""What lies on the machine for the volumes of containers of Docker: directories, and secrets.

A secret is a file that all in its container can read, whoever the image says that runs there; on
the machine it lies in a directory that nobody but the agent's user can enter.
"""

import os
import shutil
from pathlib import Path

from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.docker_create import Creation
from mesoskit.agent.containers.volumes import VolumeError, make_directory


class Secrets:
    """
    The secrets of containers.

    @param directory: where they lie, a directory each.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def path(self, container: str) -> str:
        """Return where a container's secrets are."""
        return os.path.join(self._directory, container)

    def write(self, container: str, secrets: dict[str, bytes]) -> None:
        """
        Write a container's secrets.

        @param secrets: what is in files, by their paths.
        @raise ContainerError: where that cannot be; nothing is left then.
        """
        if not secrets:
            return
        try:
            path = self.path(container)
            self.remove(container)
            os.makedirs(path, mode=0o700)
            os.chmod(self._directory, 0o700)
            for name, secret in secrets.items():
                file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
                with os.fdopen(file, "wb") as opened:
                    opened.write(secret)
        except OSError as error:
            self.remove(container)
            raise ContainerError(f"its secrets cannot be written: {error.strerror}") from error

    def remove(self, container: str) -> None:
        """Remove a container's secrets."""
        shutil.rmtree(self.path(container), ignore_errors=True)

    def keep(self, containers: set[str]) -> None:
        """Remove those of all others."""
        try:
            names = os.listdir(self._directory)
        except OSError:
            return
        for name in names:
            if name not in containers:
                self.remove(name)


def make_directories(wanted: Creation, sandbox: str, owner: tuple[int, int]) -> None:
    """
    Make the directories of a sandbox that are volumes, where nothing is there yet.

    @param owner: user and group.
    @raise ContainerError: where one cannot be made.
    """
    for path in wanted.directories:
        try:
            if not Path(path).exists():
                make_directory(sandbox, path, owner)
        except VolumeError as error:
            raise ContainerError(str(error)) from error
