"""Silhouettes of things that the prompt names: a boat, birds, a balloon, fish, a planet. Sprites on slow paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from engines.render.procedural import fields
from engines.render.procedural.fields import Array
from engines.render.procedural.palette import Colour, Palette, mix, scaled

_OVERSAMPLE: Final = 4


@dataclass(frozen=True)
class Sprite:
    """A picture, or a cycle of pictures, on a path.

    Attributes:
        cycle: Premultiplied RGBA pictures of one size, shape (pictures, 4, rows, columns).
        start: Centre at t = 0, pixels.
        velocity: Pixels per second.
        bob: Pixels up and down.
        rate: Of the bobbing, radians per second.
        pictures_per_s: How fast the cycle runs.
        phase: Of bobbing and cycle.
    """

    cycle: Array
    start: tuple[float, float]
    velocity: tuple[float, float]
    bob: float
    rate: float
    pictures_per_s: float
    phase: float

    def paint(self, canvas: Array, t_s: float) -> None:
        """Lays the sprite over the canvas, with its place exact to a fraction of a pixel."""
        height, width = canvas.shape[1:]
        count, _, rows, columns = self.cycle.shape
        reach = width + columns
        x = (self.start[0] + self.velocity[0] * t_s + columns / 2) % reach - columns
        y = self.start[1] + self.velocity[1] * t_s + self.bob * np.sin(self.rate * t_s + self.phase) - rows / 2
        picture = self.cycle[int(self.phase * 3 + self.pictures_per_s * t_s) % count]
        left, top = int(np.floor(x)), int(np.floor(y))
        picture = fields.window_x(picture, 1 - (x - left), columns - 2)
        picture = fields.window_y(picture, 1 - (y - top), rows - 2)
        first_row, last_row = max(0, top), min(height, top + rows - 2)
        first_column, last_column = max(0, left), min(width, left + columns - 2)
        if first_row >= last_row or first_column >= last_column:
            return
        part = picture[:, first_row - top : last_row - top, first_column - left : last_column - left]
        region = canvas[:, first_row:last_row, first_column:last_column]
        region *= 1 - part[3]
        region += part[:3]


def make_boat(
    palette: Palette, height: int, width: int, *, horizon: float, pace: float, rng: np.random.Generator
) -> Sprite:
    """A small sailing boat on the water, a little below the horizon."""
    size = max(height, width) * 0.11
    picture, draw = _sheet(size, size)
    side = picture.width
    hull = scaled(palette.near, 0.8)
    sail = mix(palette.mist, palette.light, 0.5)
    draw.polygon(_at(side, (0.12, 0.76), (0.88, 0.76), (0.74, 0.92), (0.26, 0.92)), fill=_solid(hull))
    draw.line(_at(side, (0.48, 0.1), (0.48, 0.78)), fill=_solid(hull), width=max(1, side // 50))
    draw.polygon(_at(side, (0.51, 0.12), (0.51, 0.7), (0.84, 0.7)), fill=_solid(sail))
    draw.polygon(_at(side, (0.45, 0.2), (0.45, 0.7), (0.2, 0.7)), fill=_solid(scaled(sail, 0.86)))
    start = (width * float(rng.uniform(0.2, 0.4)), height * (horizon + 0.03))
    return _sprite([picture], start, (width * 0.018 * pace, 0.0), size * 0.03, 1.5 * pace, 0.0, rng)


def make_birds(palette: Palette, height: int, width: int, *, pace: float, rng: np.random.Generator) -> list[Sprite]:
    """A loose flock that beats its wings across the sky."""
    flock = []
    lead_x, lead_y = width * float(rng.uniform(0.15, 0.4)), height * float(rng.uniform(0.12, 0.24))
    colour = mix(palette.near, palette.sky[1], 0.15) if not palette.is_dark else mix(palette.mist, palette.sky[1], 0.3)
    for index in range(6):
        size = max(height, width) * float(rng.uniform(0.028, 0.045))
        cycle = [_bird(size, colour, float(np.sin(step / 8 * 2 * np.pi))) for step in range(8)]
        side = (index + 1) // 2 * (-1 if index % 2 else 1)
        place = (lead_x - abs(side) * size * 1.3, lead_y + side * size * 0.7 + float(rng.uniform(-3, 3)))
        velocity = (width * 0.05 * pace, float(rng.uniform(-1.5, 0.5)))
        flock.append(_sprite(cycle, place, velocity, size * 0.12, 2.0, 9.0 * pace, rng))
    return flock


def make_balloon(palette: Palette, height: int, width: int, *, pace: float, rng: np.random.Generator) -> Sprite:
    """A striped hot-air balloon that rises slowly."""
    size = max(height, width) * 0.16
    picture, draw = _sheet(size, size)
    side = picture.width
    bright = palette.accent
    draw.ellipse(_box(side, 0.2, 0.04, 0.8, 0.64), fill=_solid(bright))
    draw.polygon(_at(side, (0.25, 0.5), (0.75, 0.5), (0.58, 0.72), (0.42, 0.72)), fill=_solid(bright))
    for left, right, shade in ((0.3, 0.7, 0.72), (0.42, 0.58, 1.0)):
        draw.ellipse(_box(side, left, 0.04, right, 0.68), fill=_solid(scaled(bright, shade)))
    for x in (0.44, 0.56):
        draw.line(_at(side, (x, 0.7), (x, 0.84)), fill=_solid(palette.near), width=max(1, side // 90))
    draw.rectangle(_box(side, 0.43, 0.82, 0.57, 0.93), fill=_solid(scaled(palette.near, 1.4)))
    start = (width * float(rng.choice([0.16, 0.82])), height * float(rng.uniform(0.26, 0.4)))
    return _sprite([picture], start, (width * 0.008 * pace, -height * 0.006 * pace), size * 0.04, 0.9, 0.0, rng)


def make_fish(palette: Palette, height: int, width: int, *, pace: float, rng: np.random.Generator) -> list[Sprite]:
    """A shoal that passes, tails beating."""
    shoal = []
    centre = height * float(rng.uniform(0.6, 0.75))
    direction = float(rng.choice([-1, 1]))
    for _ in range(11):
        size = max(height, width) * float(rng.uniform(0.03, 0.065))
        colour = mix(palette.accent, palette.far, float(rng.uniform(0.2, 0.65)))
        cycle = [_fish(size, colour, float(np.sin(step / 6 * 2 * np.pi)), direction) for step in range(6)]
        place = (width * float(rng.uniform(0, 0.6)), centre + height * float(rng.normal(0, 0.1)))
        speed = direction * width * float(rng.uniform(0.05, 0.08)) * pace
        shoal.append(_sprite(cycle, place, (speed, 0.0), size * 0.2, float(rng.uniform(0.8, 1.6)), 8.0 * pace, rng))
    return shoal


def make_planet(palette: Palette, height: int, width: int, *, rng: np.random.Generator) -> Sprite:
    """A banded planet, lit from one side, that rises by a little."""
    size = int(min(height, width) * float(rng.uniform(0.62, 0.8)))
    distance = fields.radial(size, size, size / 2, size / 2) / (size / 2 - 2)
    x = (np.arange(size, dtype=np.float32)[None, :] / size - 0.5) * 2
    y = (np.arange(size, dtype=np.float32)[:, None] / size - 0.5) * 2
    bands = fields.fractal_noise(rng, size, 1, cell=size / 5, octaves=4)
    bands = bands * 0.75 + fields.fractal_noise(rng, size, size, cell=size / 4, octaves=5) * 0.25
    low, high = (
        np.asarray(c, np.float32)[:, None, None] for c in (palette.far, mix(palette.mist, palette.accent, 0.4))
    )
    depth = np.sqrt(np.clip(1 - distance**2, 0, 1))
    light = np.clip(-0.55 * x - 0.45 * y + 0.62 * depth, 0.02, 1.0)
    colour = (low + (high - low) * bands) * light
    alpha = np.clip((1 - distance) * size / 2 + 0.5, 0, 1)
    picture = np.concatenate([colour * alpha, alpha[None]]).astype(np.float32)
    start = (width * float(rng.choice([0.14, 0.86])), height * float(rng.uniform(0.72, 0.86)))
    return Sprite(picture[None], start, (0.0, -height * 0.008), 0.0, 0.0, 0.0, 0.0)


def _bird(size: float, colour: Colour, beat: float) -> Image.Image:
    picture, draw = _sheet(size, size)
    side = picture.width
    wing, tip = 0.5 - 0.17 * beat, 0.52 + 0.16 * beat
    line = _at(side, (0.06, tip), (0.28, wing), (0.5, 0.55), (0.72, wing), (0.94, tip))
    draw.line(line, fill=_solid(colour), width=max(2, side // 13), joint="curve")
    return picture


def _fish(size: float, colour: Colour, beat: float, direction: float) -> Image.Image:
    picture, draw = _sheet(size, size)
    side = picture.width
    draw.ellipse(_box(side, 0.25, 0.36, 0.92, 0.66), fill=_solid(colour))
    tail = 0.51 + 0.05 * beat
    draw.polygon(_at(side, (0.34, 0.51), (0.06, tail - 0.16), (0.13, tail), (0.06, tail + 0.16)), fill=_solid(colour))
    draw.polygon(_at(side, (0.5, 0.38), (0.6, 0.26), (0.7, 0.38)), fill=_solid(scaled(colour, 0.85)))
    return picture if direction > 0 else picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _sheet(columns: float, rows: float) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    size = (max(4, round(columns)) * _OVERSAMPLE, max(4, round(rows)) * _OVERSAMPLE)
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    return picture, ImageDraw.Draw(picture)


def _at(side: int, *points: tuple[float, float]) -> list[tuple[float, float]]:
    return [(x * side, y * side) for x, y in points]


def _box(side: int, left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left * side, top * side, right * side, bottom * side]


def _solid(colour: Colour) -> tuple[int, int, int, int]:
    red, green, blue = (round(min(255.0, channel)) for channel in colour)
    return (red, green, blue, 255)


def _sprite(
    pictures: list[Image.Image], start: tuple[float, float], velocity: tuple[float, float], bob: float, rate: float,
    pictures_per_s: float, rng: np.random.Generator,
) -> Sprite:  # fmt: skip
    cycle = []
    for picture in pictures:
        small = picture.resize((picture.width // _OVERSAMPLE, picture.height // _OVERSAMPLE), Image.Resampling.BOX)
        pixels = np.pad(np.asarray(small, np.float32), ((2, 2), (2, 2), (0, 0)))
        pixels[..., 3] /= 255
        pixels[..., :3] *= pixels[..., 3:]
        cycle.append(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))
    return Sprite(np.stack(cycle), start, velocity, bob, rate, pictures_per_s, float(rng.uniform(0, 2 * np.pi)))
