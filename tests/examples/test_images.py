"""The images: inverted in their own formats, and shown before and after."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import SkipTest

try:
    from PIL import Image
except ImportError:
    raise SkipTest("Pillow is not installed: pip install 'mesoskit[examples]'") from None

from tests.base import SynchronousTestCase
from tests.examples.loading import EXAMPLES, load_beside

executor = load_beside("images/executor.py")
contact_sheet = load_beside("images/contact_sheet.py")

PHOTOGRAPHS = sorted((EXAMPLES / "images" / "photographs").iterdir())


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as bytes of a format."""
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


class InvertTests(SynchronousTestCase):
    """What the executor makes of a picture."""

    def inverted(self, data: bytes) -> Image.Image:
        result, size = executor.invert(data)
        image = Image.open(BytesIO(result))
        self.assertEqual(image.size, size)
        return image

    def test_colours_are_inverted(self) -> None:
        image = self.inverted(saved(Image.new("RGB", (4, 3), (250, 100, 0)), "PNG"))
        self.assertEqual((image.format, image.size), ("PNG", (4, 3)))
        self.assertEqual(image.getpixel((1, 1)), (5, 155, 255))

    def test_photograph_stays_a_jpeg(self) -> None:
        image = self.inverted(saved(Image.new("RGB", (32, 32), (250, 100, 0)), "JPEG"))
        self.assertEqual(image.format, "JPEG")
        pixel = image.getpixel((9, 9))
        assert isinstance(pixel, tuple)
        for got, wanted in zip(pixel, (5, 155, 255), strict=True):
            self.assertTrue(abs(got - wanted) < 8, pixel)

    def test_what_is_transparent_stays_so(self) -> None:
        image = self.inverted(saved(Image.new("RGBA", (2, 2), (1, 2, 3, 77)), "PNG"))
        self.assertEqual(image.getpixel((0, 0)), (254, 253, 252, 77))

    def test_palette_and_grey(self) -> None:
        palette = Image.new("RGB", (2, 2), (255, 255, 0)).quantize(4)
        self.assertEqual(self.inverted(saved(palette, "PNG")).getpixel((0, 0)), (0, 0, 255))
        self.assertEqual(
            self.inverted(saved(Image.new("L", (2, 2), 10), "PNG")).getpixel((0, 0)), 245
        )
        self.assertEqual(self.inverted(saved(Image.new("1", (2, 2), 1), "PNG")).getpixel((0, 0)), 0)

    def test_camera_that_was_held_upright(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        data = saved(Image.new("RGB", (40, 20)), "JPEG", exif=exif)
        self.assertEqual(self.inverted(data).size, (20, 40))

    def test_what_is_no_image_says_so(self) -> None:
        whole = saved(Image.effect_noise((64, 64), 50), "PNG")
        for data in (b"", b"<html>", whole[: len(whole) // 2]):
            with self.assertRaises(executor.Unusable) as caught:
                executor.invert(data)
            self.assertIn(f"({len(data)} bytes beginning with", str(caught.exception))
            self.assertNotIn("0x", str(caught.exception))

    def test_image_that_would_fill_the_memory_is_refused(self) -> None:
        self.patch(Image, "MAX_IMAGE_PIXELS", 100)
        with self.assertRaises(executor.Unusable):
            executor.invert(saved(Image.new("1", (100, 100)), "PNG"))


class WorkTests(SynchronousTestCase):
    """A task of the executor."""

    def test_fetches_inverts_and_posts(self) -> None:
        data = saved(Image.new("L", (7, 5), 10), "PNG")
        posted: list[tuple[str, str, bytes]] = []
        self.patch(executor, "fetch", {"http://a/x.png": data}.__getitem__)
        self.patch(executor, "post", lambda *given: posted.append(given))
        task = {"image": "http://a/x.png", "upload": "http://a/upload", "name": "y.png"}
        said = executor.work(json.dumps(task).encode())
        self.assertRegex(said.decode(), r"^7x5 in \d+ ms$")
        [(url, name, image)] = posted
        self.assertEqual((url, name), ("http://a/upload", "y.png"))
        self.assertEqual(Image.open(BytesIO(image)).getpixel((0, 0)), 245)

    def test_server_that_is_not_there(self) -> None:
        task = {"image": "http://127.0.0.1:1/x", "upload": "", "name": ""}
        with self.assertRaises(executor.Unusable) as caught:
            executor.work(json.dumps(task).encode())
        self.assertIn("http://127.0.0.1:1/x: ", str(caught.exception))


class PhotographTests(SynchronousTestCase):
    """The pictures that come with the example."""

    def test_are_small_and_of_many_kinds(self) -> None:
        self.assertLess(sum(path.stat().st_size for path in PHOTOGRAPHS), 200_000)
        kinds = set()
        for path in PHOTOGRAPHS:
            with Image.open(path) as image:
                kinds.add((image.format, image.mode, image.has_transparency_data))
        self.assertLessEqual(
            {
                ("JPEG", "RGB", False),
                ("PNG", "P", False),
                ("PNG", "P", True),
                ("PNG", "L", False),
            },
            kinds,
        )

    def test_each_can_be_inverted(self) -> None:
        for path in PHOTOGRAPHS:
            executor.invert(path.read_bytes())


class SheetTests(SynchronousTestCase):
    """Before and after."""

    def test_sheet_has_room_for_all(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        pairs = []
        for number in range(4):
            before, after = folder / f"{number}.png", folder / f"{number}_inverted.png"
            Image.new("RGB", (900, 300 + number), (250, 0, 0)).save(before)
            Image.new("RGBA", (10, 10), (5, 255, 255, 0)).save(after)
            pairs.append((before, after))
        for number, columns, rows in ((1, 1, 1), (3, 3, 1), (4, 3, 2)):
            sheet = contact_sheet.contact_sheet(pairs[:number])
            self.assertEqual(sheet.size, (12 + columns * 398, 12 + rows * 156))
        self.assertEqual(sheet.getpixel((12 + 96, 12 + 64)), (250, 0, 0))
