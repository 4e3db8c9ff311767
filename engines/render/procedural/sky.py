"""What stands and drifts above the horizon: sky, sun or moon, stars, clouds, aurora, nebulae, beams of light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.render.procedural import fields
from engines.render.procedural.fields import Array
from engines.render.procedural.palette import Colour, Palette


@dataclass(frozen=True)
class Backdrop:
    """The still picture under everything; painting it starts each frame."""

    picture: Array

    def paint(self, canvas: Array, t_s: float) -> None:
        """Covers the canvas."""
        canvas[:] = self.picture


@dataclass(frozen=True)
class Disc:
    """A sun or a moon that climbs slowly, in a halo.

    Attributes:
        x: Centre, pixels.
        y: Centre at t = 0, pixels.
        radius: Pixels.
        climb: Pixels per second, upwards.
        colour: Of the disc.
        halo: Strength of the halo, 0..1.
    """

    x: float
    y: float
    radius: float
    climb: float
    colour: Colour
    halo: float

    def paint(self, canvas: Array, t_s: float) -> None:
        """Paints halo, then disc, inside the window that they can reach."""
        height, width = canvas.shape[1:]
        centre_y = self.y - self.climb * t_s
        reach = self.radius * 5
        top, bottom = (int(np.clip(centre_y + side * reach, 0, height)) for side in (-1, 1))
        left, right = (int(np.clip(self.x + side * reach, 0, width)) for side in (-1, 1))
        if top >= bottom or left >= right:
            return
        distance = fields.radial(bottom - top, right - left, self.x - left, centre_y - top)
        fade = np.clip(1 - distance / reach, 0, 1)
        alpha = np.maximum(self.halo * fade * fade * fade, np.clip(self.radius - distance + 0.5, 0, 1))
        fields.blend(canvas[:, top:bottom, left:right], self.colour, alpha)


@dataclass(frozen=True)
class Clouds:
    """Two sheets of noise that drift at different speeds; where both are thick there is cloud.

    Attributes:
        near: Noise, wider than the picture by the way it drifts.
        far: The same, slower.
        fade: How much of it shows in each row, shape (rows, 1).
        speed: Pixels per second of the nearer sheet; the farther one has half of it.
        colour: Of the cloud.
        cover: Strength at its thickest, 0..1.
    """

    near: Array
    far: Array
    fade: Array
    speed: float
    colour: Colour
    cover: float

    def paint(self, canvas: Array, t_s: float) -> None:
        """Paints the rows that the fade covers, from the top."""
        rows = self.fade.shape[0]
        width = canvas.shape[2]
        thick = fields.window_x(self.near, self.speed * t_s, width)
        thick = thick * fields.window_x(self.far, self.speed * t_s / 2, width)
        alpha = np.clip((thick - 0.16) * 3.2, 0, 1) * self.fade * np.float32(self.cover)
        fields.blend(canvas[:, :rows], self.colour, alpha)


@dataclass(frozen=True)
class Aurora:
    """Curtains of light: noise stretched downwards from a wandering edge.

    Attributes:
        strands: Noise along the sky, shape (1, columns).
        folds: Slower noise along the sky, the same shape, that bends the lower edge.
        speed: Pixels per second.
        colours: Lower and upper colour.
        rows: Height of the painted band.
    """

    strands: Array
    folds: Array
    speed: float
    colours: tuple[Colour, Colour]
    rows: int

    def paint(self, canvas: Array, t_s: float) -> None:
        """Paints the band at the top."""
        width = canvas.shape[2]
        strand = fields.window_x(self.strands, self.speed * t_s, width)
        edge = self.rows * (0.45 + 0.5 * fields.window_x(self.folds, self.speed * 0.4 * t_s, width))
        y = np.arange(self.rows, dtype=np.float32)[:, None]
        above = (edge - y) / np.float32(self.rows * 0.55)
        # Bright at the lower edge, thinning out upwards, nothing below it but a quick fall.
        body = np.where(above >= 0, np.clip(1 - above, 0, 1) ** 1.5, np.clip(1 + above * 9, 0, 1))
        lower, upper = (np.asarray(colour, np.float32)[:, None, None] for colour in self.colours)
        colour = lower + (upper - lower) * np.clip(above, 0, 1)
        fields.blend(canvas[:, : self.rows], colour, np.asarray(body * strand * 0.75, np.float32))


@dataclass(frozen=True)
class Beams:
    """Light that falls in from above in slow fans.

    Attributes:
        angle: For every pixel the index into the noise, shape (rows, columns).
        falloff: How much light reaches a pixel, 0..1, the same shape.
        noise: Brightness along the fan, longer than the largest index by the way it turns.
        speed: Steps of the noise per second.
        colour: Of the light.
    """

    angle: NDArray[np.int32]
    falloff: Array
    noise: Array
    speed: float
    colour: Colour

    def paint(self, canvas: Array, t_s: float) -> None:
        """Brightens the canvas along the beams."""
        offset = self.speed * t_s
        start, share = int(offset), np.float32(offset % 1)
        forwards = self.noise[start:-1] * (1 - share) + self.noise[start + 1 :] * share
        light = forwards[self.angle] * self.falloff
        fields.blend(canvas, self.colour, light)


def make_backdrop(palette: Palette, height: int, width: int, horizon: float, rng: np.random.Generator) -> Backdrop:
    """A sky down to the horizon (a share of the height), with soft uneven light so that no gradient shows bands."""
    rows = max(2, round(height * horizon))
    sky = fields.vertical_gradient(rows, palette.sky)
    below = np.repeat(sky[:, -1:], height - rows, axis=1)
    picture = np.repeat(np.concatenate([sky, below], axis=1), width, axis=2)
    uneven = fields.fractal_noise(rng, height, width, cell=max(height, width) / 2, octaves=3) - 0.5
    grain = rng.random((height, width), np.float32) - 0.5
    picture += uneven * 14 + grain * 2.0
    return Backdrop(np.clip(picture, 0, 255).astype(np.float32))


def make_clouds(
    palette: Palette,
    height: int,
    width: int,
    *,
    duration_s: float,
    speed: float,
    cover: float,
    rng: np.random.Generator,
) -> Clouds:
    """Clouds over the upper `height` rows, thinning out towards the lowest of them."""
    columns = width + int(speed * duration_s) + 2
    near = fields.fractal_noise(rng, height, columns, cell=width / 3, octaves=5)
    far = fields.fractal_noise(rng, height, columns, cell=width / 5, octaves=4)
    fade = np.sin(np.linspace(0.35, np.pi, height, dtype=np.float32))[:, None]
    return Clouds(near, far, fade, speed, palette.mist, cover)


def make_aurora(
    palette: Palette, height: int, width: int, *, duration_s: float, speed: float, rng: np.random.Generator
) -> Aurora:
    """An aurora over the upper `height` rows."""
    columns = width + int(speed * duration_s) + 2
    strands = fields.fractal_noise(rng, 1, columns, cell=width / 7, octaves=4)
    folds = fields.fractal_noise(rng, 1, columns, cell=width / 2.5, octaves=3)
    return Aurora(strands, folds, speed, (palette.mist, (150.0, 90.0, 230.0)), height)


def make_beams(
    palette: Palette, height: int, width: int, *, duration_s: float, speed: float, rng: np.random.Generator
) -> Beams:
    """Beams that fan out from a point above the picture."""
    steps = 360
    source_x, source_y = width * float(rng.uniform(0.25, 0.75)), -height * 0.45
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(source_x)
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(source_y)
    turn = np.arctan2(x, y)
    low, high = float(turn.min()), float(turn.max())
    angle = ((turn - low) / (high - low) * (steps - 1)).astype(np.int32)
    noise = fields.fractal_noise(rng, 1, steps + int(speed * duration_s) + 3, cell=46, octaves=3)[0]
    falloff = np.clip(1 - np.arange(height, dtype=np.float32) / (height * 0.95), 0, 1)[:, None] ** 1.4
    falloff = np.repeat(falloff, width, axis=1) * np.float32(0.62)
    return Beams(angle, falloff.astype(np.float32), np.clip((noise - 0.35) * 1.8, 0, 1), speed, palette.light)
