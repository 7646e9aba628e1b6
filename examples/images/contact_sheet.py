"""A sheet of small pictures: each image before and after, side by side."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

CELL = (192, 128)
GAP = 12
CAPTION = 16
COLUMNS = 3
PAPER = (250, 249, 246)
INK = (60, 60, 60)


def thumbnail(path: Path) -> Image.Image:
    """Return a small copy; what is transparent shows a chessboard."""
    with Image.open(path) as image:
        small = image.convert("RGBA")
    small.thumbnail(CELL, Image.Resampling.LANCZOS)
    board = Image.new("RGBA", small.size, (255, 255, 255, 255))
    draw = ImageDraw.Draw(board)
    for x in range(0, small.width, 8):
        for y in range(x // 8 % 2 * 8, small.height, 16):
            draw.rectangle((x, y, x + 7, y + 7), fill=(214, 214, 214, 255))
    return Image.alpha_composite(board, small).convert("RGB")


def contact_sheet(pairs: Sequence[tuple[Path, Path]]) -> Image.Image:
    """Return one picture of all pairs of files, before and after."""
    width, height = 2 * CELL[0] + 2, CELL[1] + CAPTION
    rows = -(-len(pairs) // COLUMNS)
    columns = min(COLUMNS, len(pairs))
    size = (GAP + columns * (width + GAP), GAP + rows * (height + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (before, after) in enumerate(pairs):
        x = GAP + index % COLUMNS * (width + GAP)
        y = GAP + index // COLUMNS * (height + GAP)
        for path, left in ((before, x), (after, x + CELL[0] + 2)):
            small = thumbnail(path)
            offset = (CELL[0] - small.width) // 2, (CELL[1] - small.height) // 2
            sheet.paste(small, (left + offset[0], y + offset[1]))
        draw.text((x, y + CELL[1] + 2), before.name, fill=INK)
    return sheet
