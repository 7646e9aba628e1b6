"""LIST_FILES and READ_FILE of the operator API, which master and agent answer alike."""

from __future__ import annotations

import os
from typing import Any

from mesoskit.web import api, files
from mesoskit.web.files import Attached, Door
from mesoskit.web.files_http import Answer, look, nothing
from mesoskit.web.routes import Reply, text


def list_files(kind: Any, door: Door, reactor: Any, path: str, accepted: str) -> Answer:
    """
    Answer LIST_FILES.

    @param kind: the class C{Response} of the daemon's API.
    @param accepted: the media type of the answer.
    """

    def listed(place: Attached) -> Reply:
        found = files.listed(place, path)
        if found is None:
            return nothing()
        response = kind(type=kind.LIST_FILES)
        response.list_files.SetInParent()
        for name, status in found:
            shown = response.list_files.file_infos.add(
                path=name,
                nlink=status.st_nlink,
                size=status.st_size,
                mode=status.st_mode,
                uid=files.user_name(status.st_uid),
                gid=files.group_name(status.st_gid),
            )
            shown.mtime.nanoseconds = int(status.st_mtime) * 1_000_000_000
        return api.message_reply(response, accepted)

    return look(door, reactor, path, listed, nothing)


def read_file(kind: Any, door: Door, reactor: Any, wanted: Any, accepted: str) -> Answer:
    """
    Answer READ_FILE.

    @param wanted: the C{Call.ReadFile}.
    """

    def part(place: Attached) -> Reply:
        opened = files.open_file(place)
        if opened is None:
            return text(400, "Cannot read a directory.\n")
        descriptor, size = opened
        length = min(wanted.length if wanted.HasField("length") else size, files.LONGEST_READ)
        try:
            data = os.pread(descriptor, length, wanted.offset) if wanted.offset < size else b""
        except OSError as error:
            return text(500, f"Failed to read: {error.strerror}.\n")
        finally:
            os.close(descriptor)
        response = kind(type=kind.READ_FILE)
        response.read_file.size = size
        response.read_file.data = data
        return api.message_reply(response, accepted)

    return look(door, reactor, wanted.path, part, nothing)
