"""How much of C{stdout} and C{stderr} of a container is kept: what the agent says, and the command.

Names and meanings are those of Mesos' logrotate container logger (C{docs/logging.md},
C{src/slave/container_loggers/logrotate.hpp}).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from mesoskit.model.sizes import InvalidSize, parse_size

SMALLEST: Final = 4096
"""Bytes of the least size that a log may be held to, as in Mesos: a page."""

PREFIX: Final = "CONTAINER_LOGGER_"
"""Of the variables by which a command says otherwise."""

_ROTATE = re.compile(r"^\s*rotate\s+(\d{1,4})\s*$", re.MULTILINE)


class LogSizeError(ValueError):
    """A command wants its logs held to what is no size; the message names the variable."""


@dataclass(slots=True, frozen=True)
class Sizes:
    """
    What the logs of a container are held to.

    @ivar stdout: bytes of C{stdout}, and of each older one of it; C{stderr} likewise.
    @ivar stdout_files: how many older ones are kept; C{stderr_files} likewise.
    """

    stdout: int = 10 << 20
    stderr: int = 10 << 20
    stdout_files: int = 5
    stderr_files: int = 5


def sizes_of(default: Sizes, environment: Iterable[tuple[str, str]]) -> Sizes:
    """
    Return what a command wants its logs held to: C{CONTAINER_LOGGER_MAX_STDOUT_SIZE}, and
    C{rotate} of C{CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS}; the same for C{STDERR}.

    Raises L{LogSizeError} where that is nothing to go by.
    """
    given = {name: value for name, value in environment if name.startswith(PREFIX)}
    sizes = default
    for stream in ("stdout", "stderr"):
        name = f"{PREFIX}MAX_{stream.upper()}_SIZE"
        if name in given:
            try:
                size = parse_size(given[name])
            except InvalidSize as error:
                raise LogSizeError(f"{name}: {error}: a size such as 10MB is wanted") from None
            if size < SMALLEST:
                raise LogSizeError(f"{name}: expected at least {SMALLEST}B, not {given[name]!r}")
            sizes = replace(sizes, **{stream: size})
        options = given.get(f"{PREFIX}LOGROTATE_{stream.upper()}_OPTIONS")
        if options is not None:
            found = _ROTATE.search(options)
            # As logrotate, which keeps nothing where it is not told to.
            sizes = replace(sizes, **{f"{stream}_files": int(found[1]) if found else 0})
    return sizes
