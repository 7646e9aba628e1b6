"""The executor: inverts images on the agent that it was sent to.

The agent fetches this file from the artifact server and starts it. A task's C{data} says, in
JSON, where its image is and where the result goes.
"""

import json
import time
import uuid
from io import BytesIO
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from PIL import Image, ImageOps
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from mesoskit.driver import Executor, TaskInfo, run_executor

TIMEOUT = 20.0
LARGEST = 64 * 1024 * 1024


class Unusable(Exception):
    """The image cannot be inverted; the message is what the framework reads."""


def invert(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """Return the same picture with its colours inverted, in its own format, and its size."""
    try:
        with Image.open(BytesIO(data)) as image:
            kind = image.format or "PNG"
            picture = ImageOps.exif_transpose(image)
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        said = str(error).partition(" <")[0]  # Pillow names an object of ours, which helps nobody
        raise Unusable(f"{said} ({len(data)} bytes beginning with {data[:8]!r})") from error
    result: Image.Image
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        result = ImageOps.invert(picture.convert("RGB"))
        result.putalpha(picture.getchannel("A"))
    else:
        result = ImageOps.invert(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))
    if kind == "JPEG" and result.mode == "RGBA":
        kind = "PNG"
    out = BytesIO()
    result.save(out, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return out.getvalue(), result.size


def fetch(url: str) -> bytes:
    """Return what is at a URL."""
    with urlopen(url, timeout=TIMEOUT) as answer:
        data: bytes = answer.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise Unusable(f"{url} has more than {LARGEST} bytes")
    return data


def post(url: str, name: str, image: bytes) -> None:
    """Post a result as a form in a browser would."""
    boundary = uuid.uuid4().hex
    form = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    body = form + image + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    with urlopen(Request(url, body, {"Content-Type": kind}), timeout=TIMEOUT) as answer:
        answer.read()


def work(data: bytes) -> bytes:
    """
    Do one task, and return a line about it for the framework.

    @raise Unusable: where it cannot be done.
    """
    task: dict[str, Any] = json.loads(data)
    began = time.monotonic()
    try:
        image, (width, height) = invert(fetch(task["image"]))
        post(task["upload"], task["name"], image)
    except HTTPError as error:
        raise Unusable(f"{error.url}: {error.code} {error.reason}") from error
    except URLError as error:
        raise Unusable(f"{task['image']}: {error.reason}") from error
    return f"{width}x{height} in {1000 * (time.monotonic() - began):.0f} ms".encode()


class Inverter(Executor):
    """
    Inverts images in threads, as many at a time as tasks are launched.

    What C{launch} returns is watched by the driver: the task runs until it has fired, its result
    goes into the status C{TASK_FINISHED}, and an exception becomes C{TASK_FAILED} with its text.
    """

    def launch(self, driver: object, task: TaskInfo) -> "Deferred[bytes]":
        """Run one task."""
        return deferToThread(work, task.data)


if __name__ == "__main__":
    run_executor(Inverter())
