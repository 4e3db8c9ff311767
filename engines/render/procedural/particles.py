"""Many small things at once: stars, snow, rain, embers, leaves, petals, fireflies, bubbles, dust, bokeh, a star flight.

Every swarm is one array per property and one vectorised splat per frame; where a particle is, is a formula of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.render.procedural.fields import Array
from engines.render.procedural.palette import Colour, Palette, mix

_Floats = NDArray[np.floating[Any]]

_REFERENCE_PX: Final = 512.0  # particle sizes below are for a canvas whose longer side is this


@dataclass(frozen=True)
class Swarm:
    """Particles that drift, sway and twinkle, and come back in at the other side.

    Attributes:
        start: Places at t = 0, shape (count, 2), x and y in pixels.
        velocity: Pixels per second, the same shape.
        sway: Width of the sideways swing in pixels, shape (count,).
        phase: Of swing and twinkling, shape (count,).
        rate: Of swing and twinkling, radians per second, shape (count,).
        twinkle: How far the brightness falls, 0..1.
        strength: Opacity at the brightest, 0..1, shape (count,).
        colours: Shape (count, 3).
        across: Spread of the soft spot across, pixels, shape (count,).
        along: Spread along its own direction (upright, bent by `slant`), pixels, shape (count,).
        slant: Sideways pixels per pixel down.
        edge: Power of the spot's profile: 1 is a soft spot, 4 and more a disc with an edge.
    """

    start: Array
    velocity: Array
    sway: Array
    phase: Array
    rate: Array
    twinkle: float
    strength: Array
    colours: Array
    across: Array
    along: Array
    slant: float = 0.0
    edge: int = 1

    def paint(self, canvas: Array, t_s: float) -> None:
        """Splats all particles; where two meet, both add their share."""
        swing = np.sin(self.phase + self.rate * t_s)
        place = self.start + self.velocity * np.float32(t_s)
        x, y = place[:, 0] + self.sway * swing, place[:, 1]
        glow = self.strength * (1 - self.twinkle * (0.5 + 0.5 * np.sin(self.phase * 3 + self.rate * 1.7 * t_s)))
        _splat(canvas, x, y, glow, self)


@dataclass(frozen=True)
class StarFlight:
    """Stars that fly out of the vanishing point towards the viewer.

    Attributes:
        direction: Unit vectors scaled by each star's distance from the axis, shape (count, 2).
        depth: Depth at t = 0, 0..1, shape (count,).
        speed: Depth per second.
        centre: Vanishing point, pixels.
        swarm: Looks of the stars (its places are not used).
    """

    direction: Array
    depth: Array
    speed: float
    centre: tuple[float, float]
    swarm: Swarm

    def paint(self, canvas: Array, t_s: float) -> None:
        """Splats the stars; the near ones are bright, the far ones fade in."""
        depth = 1 - (self.depth + self.speed * t_s) % 1
        reach = 0.3 / (depth + 0.12)
        x = self.centre[0] + self.direction[:, 0] * reach
        y = self.centre[1] + self.direction[:, 1] * reach
        _splat(canvas, x, y, self.swarm.strength * np.clip((1 - depth) * 1.6, 0, 1), self.swarm)


def _splat(canvas: Array, x: _Floats, y: _Floats, strength: _Floats, looks: Swarm) -> None:
    height, width = canvas.shape[1:]
    margin = float(np.ceil(looks.along.max() * 2.5))
    reach_x = int(np.ceil(looks.across.max() * 2.5 + abs(looks.slant) * looks.along.max() * 2.5))
    reach_y = int(margin)
    # Particles come back a margin outside of the picture, so none pops in or out inside of it.
    x = (x + margin) % (width + 2 * margin) - margin
    y = (y + margin) % (height + 2 * margin) - margin
    left, top = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    offset_x, offset_y = np.arange(-reach_x, reach_x + 1), np.arange(-reach_y, reach_y + 1)
    dy = (offset_y[None, :, None] - (y - top)[:, None, None]).astype(np.float32)
    dx = (offset_x[None, None, :] - (x - left)[:, None, None]).astype(np.float32) - np.float32(looks.slant) * dy
    across, along = looks.across[:, None, None], looks.along[:, None, None]
    square = (dx / across) ** 2 + (dy / along) ** 2
    alpha = np.exp(-0.5 * square**looks.edge) * strength[:, None, None]
    columns = left[:, None, None] + offset_x[None, None, :]
    rows = top[:, None, None] + offset_y[None, :, None]
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height) & (alpha > 0.004)  # noqa: PLR2004
    index = (rows * width + columns)[inside]
    alpha = alpha[inside]
    owner = np.broadcast_to(np.arange(len(x))[:, None, None], inside.shape)[inside]
    for channel in range(3):
        flat = canvas[channel].reshape(-1)
        np.add.at(flat, index, alpha * (looks.colours[owner, channel] - flat[index]))


@dataclass(frozen=True)
class _Kind:
    """How one kind of swarm looks on the reference canvas: spans are (low, high), speeds in pixels per second."""

    count: int
    fall: tuple[float, float]
    drift: tuple[float, float]
    sway: tuple[float, float]
    rate: tuple[float, float]
    across: tuple[float, float]
    along: float
    strength: tuple[float, float]
    twinkle: float = 0.0
    slant: float = 0.0
    edge: int = 1


_KINDS: Final = {
    "stars": _Kind(130, (0, 0), (-1.2, -0.6), (0, 0), (0.8, 2.6), (0.45, 0.85), 1.0, (0.3, 1.0), twinkle=0.7),
    "snow": _Kind(150, (22, 55), (-9, 4), (2, 9), (0.6, 1.6), (0.7, 1.9), 1.0, (0.45, 0.95)),
    "rain": _Kind(130, (420, 560), (-62, -62), (0, 0), (1, 1), (0.35, 0.55), 16.0, (0.16, 0.42), slant=-0.13),
    "embers": _Kind(90, (-70, -22), (-7, 10), (3, 12), (1.0, 3.2), (0.6, 1.3), 1.0, (0.5, 1.0), twinkle=0.7),
    "leaves": _Kind(34, (22, 46), (-34, -12), (6, 18), (0.9, 2.0), (1.7, 3.0), 0.62, (0.75, 0.95), edge=3),
    "petals": _Kind(42, (15, 34), (-26, -8), (5, 15), (0.8, 1.8), (1.4, 2.4), 0.7, (0.7, 0.92), edge=3),
    "fireflies": _Kind(46, (-6, 5), (-6, 6), (6, 18), (0.5, 1.3), (1.1, 2.2), 1.0, (0.5, 0.95), twinkle=0.95),
    "bubbles": _Kind(54, (-60, -20), (-3, 3), (2, 7), (0.9, 2.2), (1.2, 3.6), 1.0, (0.16, 0.42), edge=4),
    "dust": _Kind(80, (-5, 7), (6, 20), (2, 8), (0.4, 1.2), (0.5, 1.2), 1.0, (0.18, 0.5), twinkle=0.5),
    "bokeh": _Kind(16, (-7, 7), (-8, 8), (4, 14), (0.2, 0.6), (8.0, 17.0), 1.0, (0.06, 0.20), twinkle=0.5, edge=5),
}


def make_swarm(
    kind: str, palette: Palette, height: int, width: int, *, pace: float, rng: np.random.Generator, below: float = 1.0
) -> Swarm:
    """A swarm of one kind.

    Args:
        kind: One of the names of `_KINDS`.
        palette: Colours of the scene.
        height: Rows of the canvas.
        width: Columns of the canvas.
        pace: Factor on all speeds.
        rng: Chance.
        below: Share of the height, from the top, in which the particles start.
    """
    looks = _KINDS[kind]
    scale = max(height, width) / _REFERENCE_PX
    count = looks.count

    def draw(span: tuple[float, float], factor: float = 1.0) -> Array:
        return (rng.uniform(span[0], span[1], count) * factor).astype(np.float32)

    start = np.stack([draw((0, width)), draw((0, height * below))], axis=-1)
    across = draw(looks.across, max(scale, 0.6))
    # Larger ones are nearer, and so move faster.
    nearness = across / across.mean()
    drift, fall = draw(looks.drift, pace * scale) * nearness, draw(looks.fall, pace * scale) * nearness
    return Swarm(
        start=start,
        velocity=np.stack([drift, fall], axis=-1),
        sway=draw(looks.sway, scale),
        phase=draw((0, 2 * np.pi)),
        rate=draw(looks.rate, pace),
        twinkle=looks.twinkle,
        strength=draw(looks.strength),
        colours=_colours(kind, palette, count, rng),
        across=across,
        along=across * np.float32(looks.along),
        slant=looks.slant,
        edge=looks.edge,
    )


def make_star_flight(palette: Palette, height: int, width: int, *, pace: float, rng: np.random.Generator) -> StarFlight:
    """A flight through stars, its vanishing point near the middle."""
    looks = make_swarm("stars", palette, height, width, pace=pace, rng=rng)
    count = len(looks.strength)
    turn = rng.uniform(0, 2 * np.pi, count)
    distance = np.sqrt(rng.uniform(0.02, 1, count)) * max(height, width) * 0.5
    direction = np.stack([np.cos(turn), np.sin(turn)], axis=-1) * distance[:, None]
    centre = (width * float(rng.uniform(0.4, 0.6)), height * float(rng.uniform(0.4, 0.6)))
    depth = rng.uniform(0, 1, count).astype(np.float32)
    return StarFlight(direction.astype(np.float32), depth, 0.07 * pace, centre, looks)


def _colours(kind: str, palette: Palette, count: int, rng: np.random.Generator) -> Array:
    white: Colour = (255.0, 255.0, 255.0)
    choices: dict[str, tuple[Colour, ...]] = {
        "stars": (white, palette.light, (205.0, 220.0, 255.0)),
        "snow": (white, mix(white, palette.mist, 0.3)),
        "rain": (mix(white, palette.sky[2], 0.35),),
        "embers": ((255.0, 190.0, 80.0), (255.0, 120.0, 40.0), (255.0, 226.0, 150.0)),
        "leaves": ((214.0, 92.0, 28.0), (232.0, 150.0, 40.0), (160.0, 48.0, 26.0), (236.0, 190.0, 70.0)),
        "petals": ((255.0, 200.0, 214.0), (255.0, 226.0, 232.0), (247.0, 160.0, 186.0)),
        "fireflies": ((236.0, 255.0, 150.0), (255.0, 232.0, 130.0)),
        "bubbles": (white, palette.mist),
        "dust": (palette.light, palette.mist),
        "bokeh": (palette.light, palette.accent, palette.mist, palette.sky[2]),
    }
    table = np.asarray(choices[kind], np.float32)
    return table[rng.integers(len(table), size=count)]
