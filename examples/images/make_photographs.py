"""Paint the photographs of this example: landscapes from noise, ridges and light.

They were made by running this file, so that the example owes nobody anything:

    python examples/images/make_photographs.py

The same numbers come out every time. Nothing here concerns Mesos.
"""

import math
import random
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

FOLDER = Path(__file__).parent / "photographs"
SIZE = (480, 320)
PAINTED = (960, 640)  # twice as large, so that scaling it down smooths the edges

Colour = tuple[int, int, int]


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return the colour that lies this share of the way from one to another."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def sky(*colours: Colour) -> Image.Image:
    """Return a gradient from the top down through these colours."""
    column = Image.new("RGB", (1, len(colours)))
    column.putdata(colours)
    return column.resize(PAINTED, Image.Resampling.BICUBIC)


def noise(rng: random.Random, across: int, down: int) -> Image.Image:
    """Return a soft grey noise with so many cells over the picture."""
    cells = Image.frombytes("L", (across, down), rng.randbytes(across * down))
    return cells.resize(PAINTED, Image.Resampling.BICUBIC)


def clouds(rng: random.Random, stretch: int = 1) -> Image.Image:
    """Return noise with detail at every scale; C{stretch} makes it lie flat."""
    result = noise(rng, 4, 3 * stretch)
    for octave, share in enumerate((0.42, 0.3, 0.22, 0.16, 0.1), 1):
        finer = noise(rng, 4 << octave, (3 * stretch) << octave)
        result = Image.blend(result, finer, share)
    return ImageOps.autocontrast(result)


def ridge(rng: random.Random, height: float, rough: float) -> list[float]:
    """Return the outline of mountains: its y for each x, by displacing midpoints."""
    line = [height + rng.uniform(-rough, rough) for _ in range(3)]
    while len(line) < PAINTED[0]:
        rough *= 0.56
        finer = []
        for left, right in pairwise(line):
            finer += [left, (left + right) / 2 + rng.uniform(-rough, rough)]
        line = [*finer, line[-1]]
    return line[: PAINTED[0]]


def below(line: list[float]) -> Image.Image:
    """Return the mask of all that lies below an outline."""
    mask = Image.new("L", PAINTED, 0)
    points = [(float(x), y) for x, y in enumerate(line)]
    corners = [(float(PAINTED[0]), float(PAINTED[1])), (0.0, float(PAINTED[1]))]
    ImageDraw.Draw(mask).polygon([*points, *corners], fill=255)
    return mask


def paint_ridge(
    picture: Image.Image, rng: random.Random, line: list[float], colour: Colour, texture: float
) -> None:
    """Paint ground below an outline, mottled by so much."""
    grey = clouds(rng, 3).point(lambda level: round(255 - (255 - level) * texture))
    ground = Image.new("RGB", PAINTED, colour)
    ground = ImageChops.multiply(ground, Image.merge("RGB", (grey, grey, grey)))
    # Mist lies in the valleys: the further below its crest, the paler the ground.
    mask = below(line)
    mist = mask.filter(ImageFilter.BoxBlur(60)).point(lambda level: max(0, level - 150) // 2)
    ground.paste(Image.new("RGB", PAINTED, mix(colour, (226, 228, 232), 0.3)), mask=mist)
    picture.paste(ground, mask=mask)


def glow(picture: Image.Image, x: int, y: int, radius: int, colour: Colour) -> Image.Image:
    """Return the picture with a sun or a moon in it, and its light around it."""
    light = Image.new("RGB", PAINTED)
    draw = ImageDraw.Draw(light)
    for share in (1.0, 0.55, 0.3):
        reach = radius * (1 + 5 * share)
        shade = mix((0, 0, 0), colour, 0.5 - 0.4 * share)
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=shade)
    light = light.filter(ImageFilter.GaussianBlur(radius))
    ImageDraw.Draw(light).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return ImageChops.screen(picture, light.filter(ImageFilter.GaussianBlur(2)))


def add_clouds(picture: Image.Image, rng: random.Random, colour: Colour, amount: float) -> None:
    """Lay clouds over the picture; C{amount} from 0 to 1."""
    threshold = round(255 * (1 - amount))
    cover = clouds(rng, 2).point(lambda level: max(0, min(250, (level - threshold) * 4)))
    fade = Image.linear_gradient("L").resize(PAINTED)
    cover = ImageChops.multiply(cover, ImageOps.invert(fade))
    picture.paste(Image.new("RGB", PAINTED, colour), mask=cover)


def developed(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Return the picture as a camera would have taken it: grain, dark corners, right size."""
    small = picture.resize(SIZE, Image.Resampling.LANCZOS)
    corners = Image.radial_gradient("L").resize(SIZE)
    shade = corners.point(lambda level: 255 - max(0, level - 110) // 3)
    small = ImageChops.multiply(small, Image.merge("RGB", (shade, shade, shade)))
    grain = Image.frombytes("L", SIZE, rng.randbytes(SIZE[0] * SIZE[1]))
    grain = grain.filter(ImageFilter.GaussianBlur(0.8))
    return Image.blend(small, Image.merge("RGB", (grain, grain, grain)), 0.025)


def mountains(rng: random.Random, far: Colour, near: Colour, picture: Image.Image) -> Image.Image:
    """Paint five ranges, each nearer and darker than the one behind it."""
    for depth in range(5):
        line = ridge(rng, 270 + 75 * depth, 90 - 8 * depth)
        paint_ridge(picture, rng, line, mix(far, near, depth / 4), 0.1 + 0.1 * depth)
    return picture


def dawn(rng: random.Random) -> Image.Image:
    """Mountains before a rising sun."""
    picture = glow(
        sky((58, 74, 128), (196, 138, 148), (252, 214, 160)), 690, 196, 34, (255, 244, 214)
    )
    return mountains(rng, (188, 142, 150), (30, 28, 48), picture)


def lake(rng: random.Random) -> Image.Image:
    """A lake that mirrors the mountains behind it."""
    picture = sky((52, 116, 190), (150, 196, 230), (226, 236, 240))
    add_clouds(picture, rng, (250, 250, 252), 0.52)
    for depth in range(3):
        line = [y * 0.62 for y in ridge(rng, 330 + 70 * depth, 120 - 22 * depth)]
        paint_ridge(picture, rng, line, mix((128, 156, 184), (36, 66, 52), depth / 2), 0.45)
    shore = 340
    mirror = ImageOps.flip(picture.crop((0, 0, PAINTED[0], shore))).resize((PAINTED[0], 300))
    waves = clouds(rng, 14).crop((0, 0, PAINTED[0], 300)).point(lambda level: 176 + level // 5)
    mirror = ImageChops.multiply(mirror, Image.merge("RGB", (waves, waves, waves)))
    picture.paste(mirror.filter(ImageFilter.GaussianBlur(1.6)), (0, shore))
    return picture


def dunes(rng: random.Random) -> Image.Image:
    """Sand as far as one sees."""
    picture = sky((84, 152, 210), (170, 204, 222), (242, 226, 192))
    for depth in range(5):
        swing, start = 34 + 12 * depth, rng.uniform(0, 6)
        height = 290 + 68 * depth
        line = [
            height + swing * math.sin(start + x / (150 + 40 * depth)) for x in range(PAINTED[0])
        ]
        paint_ridge(picture, rng, line, mix((232, 196, 142), (178, 104, 52), depth / 4), 0.22)
    return picture


def night(rng: random.Random) -> Image.Image:
    """A moon over dark hills."""
    picture = sky((6, 10, 34), (18, 30, 74), (52, 66, 112))
    draw = ImageDraw.Draw(picture)
    for _ in range(420):
        x, y, bright = rng.randrange(960), rng.randrange(420), rng.randrange(90, 255)
        size = rng.choice((1, 1, 1, 2))
        draw.ellipse((x, y, x + size, y + size), fill=(bright, bright, min(255, bright + 20)))
    picture = glow(picture, 250, 140, 42, (238, 236, 220))
    return mountains(rng, (44, 56, 96), (4, 6, 14), picture)


def meadow(rng: random.Random) -> Image.Image:
    """Green hills under summer clouds."""
    picture = sky((38, 104, 196), (112, 170, 226), (214, 232, 242))
    add_clouds(picture, rng, (255, 255, 255), 0.56)
    for depth in range(4):
        line = ridge(rng, 330 + 80 * depth, 46)
        colour = mix((120, 164, 132), (58, 128, 34), depth / 3)
        paint_ridge(picture, rng, line, colour, 0.3 + 0.12 * depth)
    return picture


def sea(rng: random.Random) -> Image.Image:
    """The sun going down over water."""
    picture = glow(sky((40, 30, 84), (206, 84, 72), (255, 184, 92)), 480, 318, 46, (255, 236, 170))
    water = ImageOps.flip(picture.crop((0, 0, 960, 340))).resize((960, 300))
    water = ImageChops.multiply(water, Image.new("RGB", water.size, (150, 128, 150)))
    draw = ImageDraw.Draw(water)
    for _ in range(900):
        y = rng.randrange(300)
        x = 480 + rng.gauss(0, 30 + y * 0.42)
        length = rng.uniform(4, 10 + y / 9)
        draw.line(
            (x, y, x + length, y), fill=mix((255, 150, 80), (255, 232, 176), rng.random()), width=2
        )
    picture.paste(water, (0, 340))
    return picture


def winter(rng: random.Random) -> Image.Image:
    """Snow on high mountains."""
    picture = sky((96, 150, 208), (176, 208, 236), (232, 240, 248))
    for depth in range(4):
        line = ridge(rng, 250 + 95 * depth, 120 - 20 * depth)
        paint_ridge(picture, rng, line, mix((180, 200, 226), (244, 248, 255), depth / 3), 0.5)
    return picture


def fog(rng: random.Random) -> Image.Image:
    """Firs, row behind row, in fog."""
    picture = sky((236, 236, 236), (214, 214, 214), (196, 196, 196))
    for depth in range(5):
        line = ridge(rng, 230 + 80 * depth, 40)
        shade = 206 - 40 * depth
        paint_ridge(picture, rng, line, (shade, shade, shade), 0.1)
        draw, x = ImageDraw.Draw(picture), 0.0
        while x < PAINTED[0]:
            tall = rng.uniform(30, 60) * (0.6 + depth * 0.45)
            foot = line[int(x)] + 10
            for part in (0.0, 0.25, 0.5):
                wide = tall * (0.1 + part * 0.3)
                top, bottom = foot - tall * (1 - part), foot - tall * (0.5 - part)
                draw.polygon([(x, top), (x - wide, bottom), (x + wide, bottom)], fill=(shade,) * 3)
            x += rng.uniform(8, 30) * (0.7 + depth * 0.4)
    return picture


def moon(rng: random.Random) -> Image.Image:
    """The moon alone, on nothing: a picture with transparency."""
    grey = clouds(rng).resize((640, 640)).point(lambda level: 120 + level // 3)
    draw = ImageDraw.Draw(grey)
    for _ in range(60):
        x, y, r = rng.randrange(640), rng.randrange(640), min(70, rng.paretovariate(1.3) * 5)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=rng.randrange(118, 150))
        draw.arc((x - r, y - r, x + r, y + r), 200, 340, fill=212, width=3)
    grey = grey.filter(ImageFilter.GaussianBlur(2.4))
    light = ImageOps.invert(Image.radial_gradient("L").resize((900, 900)).crop((60, 90, 700, 730)))
    grey = ImageChops.multiply(grey, light.point(lambda level: min(255, level + 60)))
    disc = Image.new("L", (640, 640), 0)
    ImageDraw.Draw(disc).ellipse((30, 30, 610, 610), fill=255)
    whole = Image.merge("LA", (grey, disc)).resize((240, 240), Image.Resampling.LANCZOS)
    return whole.convert("RGBA")


def main() -> None:
    """Paint them all."""
    FOLDER.mkdir(exist_ok=True)
    for scene in (dawn, lake, dunes, night, meadow, sea):
        rng = random.Random(scene.__name__)
        picture = developed(scene(rng), rng)
        picture.save(FOLDER / f"{scene.__name__}.jpg", quality=78, optimize=True)
    # Pictures come in other kinds: with a palette, grey, transparent.
    rng = random.Random("winter")
    small = developed(winter(rng), rng).resize((300, 200), Image.Resampling.LANCZOS)
    small.quantize(48).save(FOLDER / "winter.png", optimize=True)
    grey = fog(random.Random("fog")).convert("L").resize((300, 200), Image.Resampling.LANCZOS)
    grey.save(FOLDER / "fog.png", optimize=True)
    moon(random.Random("moon")).quantize(64).save(FOLDER / "moon.png", optimize=True)


if __name__ == "__main__":
    main()
