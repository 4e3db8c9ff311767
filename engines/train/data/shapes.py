"""The `shapes` set: coloured shapes, moved, sized and turned a little, on a noisy ground. Drawn, never downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]

#: Raised when the drawing changes, so that a cache does not serve the old one.
VERSION: Final = 1
TRAIN_PER_CLASS: Final = 400
EVAL_PER_CLASS: Final = 40
_SEED: Final = 20_261_122
_GROUND: Final = (0.02, 0.30)
_NOISE: Final = 0.02
_RADIUS: Final = (0.60, 0.82)
_SHIFT: Final = 0.12
_TURN: Final = 0.4


def _circle(x: Field, y: Field) -> Field:
    return np.hypot(x, y) - 0.92


def _square(x: Field, y: Field) -> Field:
    return np.maximum(np.abs(x), np.abs(y)) - 0.78


def _triangle(x: Field, y: Field) -> Field:
    # The three half-planes of an equilateral triangle round its centroid.
    sides: tuple[Field, ...] = (y, np.float32(0.8660254) * x - 0.5 * y, np.float32(-0.8660254) * x - 0.5 * y)
    return np.maximum(np.maximum(sides[0], sides[1]), sides[2]) - 0.58


def _cross(x: Field, y: Field) -> Field:
    wide, narrow = np.float32(1.05), np.float32(0.30)
    lying = np.maximum(np.abs(x) - wide, np.abs(y) - narrow)
    standing = np.maximum(np.abs(x) - narrow, np.abs(y) - wide)
    return np.minimum(lying, standing)


#: Signed distances (below 0 inside) in units of the radius.
_SHAPES: Final[dict[str, Callable[[Field, Field], Field]]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}
_COLOURS: Final = {"red": (0.92, 0.20, 0.18), "green": (0.20, 0.80, 0.28), "blue": (0.24, 0.42, 0.95)}

CLASSES: Final = tuple(sorted(f"{colour} {shape}" for colour in _COLOURS for shape in _SHAPES))


def draw(*, per_class: int, side_px: int, part: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draws `per_class` pictures of every class.

    Args:
        per_class: Pictures of each class.
        side_px: Side of a picture, pixels.
        part: 0 for training, 1 for evaluation: other pictures.

    Returns:
        Pictures (n, side, side, 3), and their classes as positions in `CLASSES`; the classes take turns.
    """
    chance = np.random.Generator(np.random.Philox(key=[_SEED, part]))
    pictures = np.empty((per_class, len(CLASSES), side_px, side_px, 3), dtype=np.uint8)
    for position, name in enumerate(CLASSES):
        colour, shape = name.split()
        pictures[:, position] = _pictures(chance, per_class, side_px, _SHAPES[shape], np.array(_COLOURS[colour]))
    labels = np.tile(np.arange(len(CLASSES)), per_class)
    return pictures.reshape(-1, side_px, side_px, 3), labels


def _pictures(
    chance: np.random.Generator,
    count: int,
    side_px: int,
    shape: Callable[[Field, Field], Field],
    colour: NDArray[np.float64],
) -> NDArray[np.uint8]:
    def each(low: float, high: float, channels: int = 0) -> Field:
        extent = (count, 1, 1, channels) if channels else (count, 1, 1)
        return chance.uniform(low, high, extent).astype(np.float32)

    line = (np.arange(side_px, dtype=np.float32) + 0.5) * (2 / side_px) - 1
    radius, angle = each(*_RADIUS), each(-_TURN, _TURN)
    x, y = line[None, None, :] - each(-_SHIFT, _SHIFT), line[None, :, None] - each(-_SHIFT, _SHIFT)
    turned_x = (np.cos(angle) * x - np.sin(angle) * y) / radius
    turned_y = (np.sin(angle) * x + np.cos(angle) * y) / radius
    # Coverage of a pixel: the distance to the edge in pixels, cut to 0..1, smooths the edge.
    cover = np.clip(0.5 - shape(turned_x, turned_y) * radius * (side_px / 2), 0, 1)[..., None]
    paint = np.clip(colour.astype(np.float32) * each(0.85, 1.1)[..., None] + each(-0.04, 0.04, 3), 0, 1)
    ground = each(*_GROUND, 1) + each(-0.03, 0.03, 3)
    noise = chance.normal(0, _NOISE, (count, side_px, side_px, 3)).astype(np.float32)
    picture = ground + (paint - ground) * cover + noise
    return np.asarray(np.rint(np.clip(picture, 0, 1) * 255), dtype=np.uint8)
