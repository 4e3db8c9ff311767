"""What stands and moves below the horizon: hills, trees, towers, dunes that pass by, waves that roll, fire that climbs.

Still things are drawn once as a long strip, and a window slides along it; nearer strips slide faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from engines.render.procedural import fields
from engines.render.procedural.fields import Array
from engines.render.procedural.palette import Colour, Palette, mix, scaled

_OVERSAMPLE: Final = 2


@dataclass(frozen=True)
class Strip:
    """A long picture that slides by.

    Attributes:
        colours: Premultiplied RGB, shape (3, rows, columns), columns enough for the whole way.
        keep: How much of what lies behind shows through, 0..1, shape (rows, columns).
        top: Row of the canvas where the strip begins.
        speed: Pixels per second.
    """

    colours: Array
    keep: Array
    top: int
    speed: float

    def paint(self, canvas: Array, t_s: float) -> None:
        """Lays the window of this moment over the canvas."""
        width = canvas.shape[2]
        region = canvas[:, self.top : self.top + self.keep.shape[0]]
        region *= fields.window_x(self.keep, self.speed * t_s, width)
        region += fields.window_x(self.colours, self.speed * t_s, width)


@dataclass(frozen=True)
class Wave:
    """One rolling sheet of water, with a bright crest.

    Attributes:
        top: Row around which the crest swings.
        swing: Pixels, up and down.
        phases: Of its three sines.
        length: Pixels of the longest sine.
        speed: Pixels per second.
        body: Rows of colour from the crest down, shape (3, rows, 1).
        crest: Colour of the crest.
        thickness: Pixels of the crest.
    """

    top: float
    swing: float
    phases: tuple[float, float, float]
    length: float
    speed: float
    body: Array
    crest: Colour
    thickness: float

    def paint(self, canvas: Array, t_s: float) -> None:
        """Paints from the crest down to where the next sheet will cover it."""
        height, width = canvas.shape[1:]
        x = np.arange(width, dtype=np.float32)
        line = np.full(width, self.top, np.float32)
        for order, phase in enumerate(self.phases):
            length = self.length / (1 + order * 0.83)
            way = self.speed * t_s * (1 + 0.35 * order) * (-1 if order == 1 else 1)
            line += np.float32(self.swing / (1 + order)) * np.sin(
                x * np.float32(2 * np.pi / length) + phase + way / length
            )
        first = max(0, int(self.top - self.swing * 2))
        last = min(height, first + self.body.shape[1])
        depth = np.arange(first, last, dtype=np.float32)[:, None] - line
        region = canvas[:, first:last]
        fields.blend(region, self.body[:, : last - first], np.clip(depth + 0.5, 0, 1))
        rim = np.clip(1 - np.abs(depth - self.thickness) / self.thickness, 0, 1) * np.float32(0.5)
        reach = min(last - first, int(self.swing * 4 + self.thickness * 3))
        fields.blend(region[:, :reach], self.crest, rim[:reach])


@dataclass(frozen=True)
class Glitter:
    """The path of light that a sun or moon lays on water.

    Attributes:
        noise: Rows of the water, columns enough for the whole way.
        shape: Where the path lies, 0..1, shape (rows, columns of the picture).
        top: First row.
        speed: Pixels per second.
        colour: Of the light.
    """

    noise: Array
    shape: Array
    top: int
    speed: float
    colour: Colour

    def paint(self, canvas: Array, t_s: float) -> None:
        """Lights the sparkles that stand high at this moment."""
        width = canvas.shape[2]
        here = fields.window_x(self.noise, self.speed * t_s, width)
        there = fields.window_x(self.noise, self.noise.shape[1] - width - 2 - self.speed * t_s, width)
        sparkle = np.clip((here + there - 1.02) * 5, 0, 1) * self.shape
        fields.blend(canvas[:, self.top : self.top + self.shape.shape[0]], self.colour, sparkle)


@dataclass(frozen=True)
class Flames:
    """Fire: two sheets of noise rise at different speeds, hot below and thin above.

    Attributes:
        fast: Noise, taller than the band by the way it rises.
        slow: The same.
        heat: How hot a pixel can get, shape (rows, columns).
        top: First row.
        speed: Pixels per second of the faster sheet.
        colours: Colour by heat, shape (3, 256).
    """

    fast: Array
    slow: Array
    heat: Array
    top: int
    speed: float
    colours: Array

    def paint(self, canvas: Array, t_s: float) -> None:
        """Paints the band."""
        rows = self.heat.shape[0]
        noise = fields.window_y(self.fast, self.speed * t_s, rows) + fields.window_y(
            self.slow, self.speed * t_s * 0.6, rows
        )
        heat = np.clip(noise * 0.9 + self.heat - 1.0, 0, 1)
        alpha = np.clip(heat * 2.6, 0, 1)
        fields.blend(canvas[:, self.top :], self.colours[:, (heat * 255).astype(np.uint8)], alpha)


def make_ridges(
    palette: Palette, height: int, width: int, *, kind: str, horizon: float, duration_s: float, speed: float,
    rng: np.random.Generator,
) -> list[Strip]:  # fmt: skip
    """Three or four strips, far to near, of one kind: `mountains`, `hills`, `forest`, `dunes` or `city`."""
    count = 4 if kind == "forest" else 3
    outline = _OUTLINES[kind]
    strips = []
    for index in range(count):
        nearness = index / (count - 1)
        strip_speed = speed * (0.25 + 0.9 * nearness)
        columns = width + int(strip_speed * duration_s) + 2
        top = round(height * (horizon - 0.13 + 0.24 * nearness))
        colour = mix(palette.far, palette.near, nearness**0.8)
        haze = mix(colour, palette.sky[2], 0.42 * (1 - nearness))
        picture = outline(height - top, columns, nearness, haze, palette, rng)
        strips.append(_strip(picture, top, strip_speed))
    return strips


def make_waves(
    palette: Palette, height: int, width: int, *, horizon: float, speed: float, rng: np.random.Generator
) -> list[Wave]:
    """Sheets of water from the horizon down to the viewer, larger and faster as they come near."""
    count = 6
    waves = []
    for index in range(count):
        nearness = index / (count - 1)
        top = height * (horizon + (1 - horizon) * (nearness * 0.86) ** 1.35)
        colour = mix(mix(palette.far, palette.sky[2], 0.3 * (1 - nearness)), palette.near, nearness**0.9 * 0.9)
        # The next sheet covers what lies more than this far below the crest.
        next_top = height * (horizon + (1 - horizon) * ((index + 1) / (count - 1) * 0.86) ** 1.35)
        rows = round(next_top - top + height * (0.07 + 0.12 * nearness)) if index < count - 1 else height
        body = fields.vertical_gradient(max(2, rows), (scaled(colour, 1.15), scaled(colour, 0.72)))
        phases = tuple(float(phase) for phase in rng.uniform(0, 2 * np.pi, 3))
        waves.append(
            Wave(
                top=top,
                swing=height * (0.002 + 0.02 * nearness),
                phases=(phases[0], phases[1], phases[2]),
                length=width * (0.10 + 0.42 * nearness),
                speed=speed * (2.5 + 9 * nearness),
                body=body,
                crest=mix(colour, palette.mist, 0.55),
                thickness=0.8 + 1.6 * nearness,
            )
        )
    return waves


def make_glitter(
    palette: Palette, height: int, width: int, *, x: float, horizon: float, duration_s: float, rng: np.random.Generator
) -> Glitter:
    """Sparkles under a light that stands at column `x`."""
    top = round(height * horizon) + 1
    rows = height - top
    columns = width + int(7 * duration_s) + 4
    flat = fields.fractal_noise(rng, rows, columns // 3 + 1, cell=7, octaves=2)
    noise = np.asarray(Image.fromarray(flat).resize((columns, rows), Image.Resampling.BICUBIC))
    depth = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    reach = width * (0.05 + 0.16 * depth)
    across = np.abs(np.arange(width, dtype=np.float32)[None, :] - np.float32(x)) / reach
    shape = np.clip(1 - across, 0, 1) * (1 - depth * 0.75) * np.float32(0.9)
    return Glitter(np.asarray(noise, np.float32), np.asarray(shape, np.float32), top, 7.0, palette.light)


def make_flames(
    palette: Palette, height: int, width: int, *, duration_s: float, speed: float, rng: np.random.Generator
) -> Flames:
    """Fire over the lower three quarters of the picture."""
    top = round(height * 0.22)
    rows = height - top
    tall = rows + int(speed * duration_s) + 3
    sheets = [
        _stretched(fields.fractal_noise(rng, tall // 2 + 2, width, cell=width / 7, octaves=5), tall) for _ in range(2)
    ]
    depth = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    sway = fields.fractal_noise(rng, 1, width, cell=width / 3, octaves=3)
    heat = depth * 0.9 + (sway - 0.5) * 0.4 - 0.1 - np.clip(1 - depth * 4, 0, 1)
    stops = (palette.near, (120.0, 18.0, 8.0), (226.0, 72.0, 14.0), (252.0, 160.0, 44.0), palette.light)
    colours = fields.vertical_gradient(256, stops)[:, :, 0]
    return Flames(sheets[0], sheets[1], np.asarray(heat, np.float32), top, speed, colours)


def _stretched(noise: Array, rows: int) -> Array:
    picture = Image.fromarray(noise).resize((noise.shape[1], rows), Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float32)


def _strip(picture: Image.Image, top: int, speed: float) -> Strip:
    size = (picture.width // _OVERSAMPLE, picture.height // _OVERSAMPLE)
    pixels = np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32)
    alpha = pixels[..., 3:] / np.float32(255)
    colours = np.ascontiguousarray(np.moveaxis(pixels[..., :3] * alpha, -1, 0))
    return Strip(colours, 1 - alpha[..., 0], top, speed)


# --- outlines: each draws one strip at twice its size -----------------------------------------------------------------


def _canvas(rows: int, columns: int, colour: Colour) -> Image.Image:
    # The colour is there where nothing is drawn, with no opacity: scaling down then leaves no dark rim.
    return Image.new("RGBA", (columns * _OVERSAMPLE, rows * _OVERSAMPLE), (*_ints(colour), 0))


def _ints(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(channel) for channel in colour)
    return (red, green, blue)


def _fill_below(picture: Image.Image, line: Array, colour: Colour, lower: Colour) -> None:
    """Fills what lies below a line (y per column), from `colour` at its highest point to `lower` at the bottom."""
    pixels = np.asarray(picture).copy()
    rows = pixels.shape[0]
    mask = np.arange(rows, dtype=np.float32)[:, None] >= line[None, :]
    shade = np.moveaxis(fields.vertical_gradient(rows, (colour, lower)), 0, -1)
    shade = np.broadcast_to(shade, (*mask.shape, 3))
    pixels[mask, :3] = shade[mask].astype(np.uint8)
    pixels[mask, 3] = 255
    picture.paste(Image.fromarray(pixels))


def _hills(
    rows: int, columns: int, nearness: float, colour: Colour, palette: Palette, rng: np.random.Generator
) -> Image.Image:
    picture = _canvas(rows, columns, colour)
    span = picture.width
    noise = fields.fractal_noise(rng, 1, span, cell=min(span, 900 * (0.5 + nearness)) / 2.2, octaves=2)[0]
    line = (1 - noise) * min(rows * _OVERSAMPLE * 0.55, 130)
    _fill_below(picture, line, scaled(colour, 1.12), mix(colour, palette.near, 0.6))
    return picture


def _mountains(
    rows: int, columns: int, nearness: float, colour: Colour, palette: Palette, rng: np.random.Generator
) -> Image.Image:
    picture = _canvas(rows, columns, colour)
    noise = fields.fractal_noise(rng, 1, picture.width, cell=260 + 180 * nearness, octaves=7)[0]
    ridged = 1 - np.abs(noise * 2 - 1)
    peaks = ridged * 0.75 + noise * 0.25
    line = (1 - peaks) * min(rows * _OVERSAMPLE * 0.8, 210)
    _fill_below(picture, line, scaled(colour, 1.18), mix(colour, palette.sky[2], 0.35 * (1 - nearness)))
    return picture


def _dunes(
    rows: int, columns: int, nearness: float, colour: Colour, palette: Palette, rng: np.random.Generator
) -> Image.Image:
    picture = _canvas(rows, columns, colour)
    x = np.arange(picture.width, dtype=np.float32)
    length = 330 + 260 * nearness
    bend = fields.fractal_noise(rng, 1, picture.width, cell=400, octaves=2)[0]
    phase = (x / length + bend * 0.7 + float(rng.uniform())) % 1
    # A dune climbs slowly to windward and falls fast to leeward.
    profile = np.where(phase < 0.72, phase / 0.72, (1 - phase) / 0.28)  # noqa: PLR2004
    profile = np.asarray(np.sin(profile * np.pi / 2) ** 2, np.float32)
    line = (1 - profile * 0.5 * (0.4 + 0.6 * bend) - 0.5 * bend) * min(rows * _OVERSAMPLE * 0.5, 120)
    _fill_below(picture, np.asarray(line, np.float32), scaled(colour, 1.3), mix(colour, palette.near, 0.7))
    return picture


def _forest(
    rows: int, columns: int, nearness: float, colour: Colour, palette: Palette, rng: np.random.Generator
) -> Image.Image:
    picture = _hills(rows, columns, nearness, colour, palette, rng)
    draw = ImageDraw.Draw(picture)
    floor = picture.height
    tall = min(60 + 130 * nearness, floor * 0.7)
    x = -20.0
    while x < picture.width + 20:
        size = tall * float(rng.uniform(0.55, 1.15))
        base = min(floor, tall * 1.2 + 46 * float(rng.uniform()))
        shade = (*_ints(scaled(colour, float(rng.uniform(0.72, 1.02)))), 255)
        for tier in range(4):
            half = size * (0.10 + 0.055 * tier)
            tip = base - size + size * 0.21 * tier
            draw.polygon([(x, tip), (x - half, tip + size * 0.34), (x + half, tip + size * 0.34)], fill=shade)
        draw.rectangle([x - size * 0.02, base - size * 0.1, x + size * 0.02, base + size * 0.3], fill=shade)
        x += size * float(rng.uniform(0.16, 0.5))
    return picture


def _city(
    rows: int, columns: int, nearness: float, colour: Colour, palette: Palette, rng: np.random.Generator
) -> Image.Image:
    picture = _canvas(rows, columns, colour)
    draw = ImageDraw.Draw(picture)
    pane = 3 + round(3 * nearness)
    x = 0
    while x < picture.width:
        broad = int(rng.integers(26, 64) * (0.7 + 0.7 * nearness))
        roof = int(float(rng.beta(1.6, 1.8)) * min(picture.height * 0.6, 190))
        draw.rectangle([x, roof, x + broad, picture.height], fill=(*_ints(colour), 255))
        if rng.random() < 0.25:  # noqa: PLR2004  # a quarter of the towers carry a mast
            draw.rectangle([x + broad // 2 - 1, roof - 26, x + broad // 2 + 1, roof], fill=(*_ints(colour), 255))
        _light_windows(draw, x, roof, broad, picture.height, pane, nearness, colour, palette, rng)
        x += broad + int(rng.integers(0, 7))
    return picture


def _light_windows(
    draw: ImageDraw.ImageDraw, x: int, roof: int, broad: int, floor: int, pane: int, nearness: float, colour: Colour,
    palette: Palette, rng: np.random.Generator,
) -> None:  # fmt: skip
    lit = palette.light if palette.is_dark else mix(palette.light, palette.sky[2], 0.4)
    share = 0.34 if palette.is_dark else 0.16
    for top in range(roof + pane * 2, floor, pane * 3):
        for left in range(x + pane, x + broad - pane * 2, pane * 2 + 1):
            if rng.random() < share:
                glow = mix(colour, lit, float(rng.uniform(0.35, 0.6 + 0.3 * nearness)))
                draw.rectangle([left, top, left + pane - 1, top + pane], fill=(*_ints(glow), 255))


_Outline = Callable[[int, int, float, Colour, Palette, np.random.Generator], Image.Image]
_OUTLINES: Final[dict[str, _Outline]] = {
    "mountains": _mountains,
    "hills": _hills,
    "forest": _forest,
    "dunes": _dunes,
    "city": _city,
}
