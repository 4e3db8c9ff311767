"""Small numeric tools for painting: noise, gradients, scrolling by sub-pixel steps, blending. Functions on arrays.

A canvas is a float32 array of shape (3, height, width), RGB in 0..255: colour first, so that numpy's inner loops run
along whole rows (three times as fast as with colour last). Only `blend` and the layers' `paint` write into one.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.render.procedural.palette import Colour

Array = NDArray[np.float32]


def generator(prompt: str, seed: int, purpose: str) -> np.random.Generator:
    """A generator that depends on prompt, seed and purpose alone, so one layer's draws never move another's."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{prompt}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def fractal_noise(rng: np.random.Generator, height: int, width: int, *, cell: float, octaves: int = 4) -> Array:
    """Soft cloud-like noise in 0..1.

    Args:
        rng: Chance.
        height: Rows.
        width: Columns.
        cell: Size in pixels of the largest blobs; each octave halves it.
        octaves: Layers of detail.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1.0)
        rows, columns = math.ceil(height / size) + 3, math.ceil(width / size) + 3
        coarse = Image.fromarray(rng.random((rows, columns), np.float32))
        box = (1.0, 1.0, 1.0 + width / size, 1.0 + height / size)
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC, box=box)) / 2**octave
    total -= total.min()
    return np.asarray(total / max(float(total.max()), 1e-6), np.float32)


def vertical_gradient(height: int, stops: tuple[Colour, ...]) -> Array:
    """Rows of colour, shape (3, height, 1), through evenly spaced stops."""
    at = np.linspace(0.0, len(stops) - 1.0, height)
    table = np.asarray(stops)
    rows = np.stack([np.interp(at, np.arange(len(stops)), table[:, channel]) for channel in range(3)])
    return np.asarray(rows[..., None], np.float32)


def window_x(texture: Array, offset: float, width: int) -> Array:
    """`width` columns (last axis) of a texture from a fractional offset on; columns between pixels are mixed."""
    start = int(offset)
    share = np.float32(offset - start)
    here, there = texture[..., start : start + width], texture[..., start + 1 : start + 1 + width]
    return np.asarray(here + (there - here) * share, np.float32)


def window_y(texture: Array, offset: float, height: int) -> Array:
    """`height` rows (last axis but one) of a texture from a fractional offset on; rows between pixels are mixed."""
    start = int(offset)
    share = np.float32(offset - start)
    here, there = texture[..., start : start + height, :], texture[..., start + 1 : start + 1 + height, :]
    return np.asarray(here + (there - here) * share, np.float32)


def blend(region: Array, colour: Colour | Array, alpha: Array) -> None:
    """Mixes a colour, or an array that broadcasts to the region, into a region of a canvas, in place.

    `alpha` (0..1) has the region's shape without the channels.
    """
    paint = colour if isinstance(colour, np.ndarray) else np.asarray(colour, np.float32)[:, None, None]
    change = paint - region
    change *= alpha
    region += change


def radial(height: int, width: int, centre_x: float, centre_y: float) -> Array:
    """Distance of every pixel from a centre, in pixels."""
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(centre_y)
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(centre_x)
    return np.asarray(np.sqrt(x * x + y * y), np.float32)
