"""The artifact server: hands out the executor and the images, and takes results back.

Agents fetch the executor from it before they start it, executors fetch the images from it and
post what they made of them: C{multipart/form-data} with the fields C{name} and C{image}.
"""

import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from twisted.web.http import BAD_REQUEST, CREATED, REQUEST_ENTITY_TOO_LARGE, Request
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import File

LONGEST = 32 * 1024 * 1024
"""Bytes that an upload may have."""

NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,99}")
"""What a file may be called: nothing hidden, and nothing that leads out of a folder."""


class Body(BytesIO):
    """What was posted, up to a limit: what is more is counted and thrown away."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.length = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Take some more of it."""
        self.length += len(data)
        if self.length <= self.limit:
            super().write(data)
        return len(data)


class Uploads(Resource):
    """Where results are posted; each becomes a file in a folder."""

    isLeaf = True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def render_POST(self, request: Request) -> bytes:
        """Keep one result."""
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        if isinstance(request.content, Body) and request.content.length > LONGEST:
            request.setResponseCode(REQUEST_ENTITY_TOO_LARGE)
            return b"an upload may have %d bytes\n" % LONGEST
        name = request.args.get(b"name", [b""])[0].decode("utf-8", "replace")
        image = request.args.get(b"image", [b""])[0]
        if not NAME.fullmatch(name):
            request.setResponseCode(BAD_REQUEST)
            return f"the field name must be a plain file name, not {name!r}\n".encode()
        if not image:
            request.setResponseCode(BAD_REQUEST)
            return b"the field image is missing or empty\n"
        (self.folder / name).write_bytes(image)
        request.setResponseCode(CREATED)
        return f"{name}: {len(image)} bytes\n".encode()


class ArtifactSite(Site):
    """
    The server: C{/executor.py}, C{/images/<name>} and C{/upload}.

    @param executor: the program that agents fetch.
    @param images: files by the names under which they are fetched.
    @param results: the folder in which uploads end.
    """

    def __init__(self, executor: Path, images: Mapping[str, Path], results: Path) -> None:
        root, pictures = Resource(), Resource()
        root.putChild(b"executor.py", File(str(executor)))
        root.putChild(b"images", pictures)
        root.putChild(b"upload", Uploads(results))
        for name, path in images.items():
            pictures.putChild(name.encode(), File(str(path)))
        super().__init__(root)

    def getContentFile(self, length: int | None) -> Body:
        """Return where the body of a request is kept: Twisted alone knows no limit."""
        return Body(LONGEST)
