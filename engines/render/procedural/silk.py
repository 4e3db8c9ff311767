"""What is shown when no place is named: folds of silk in the colours of the prompt's hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from engines.render.procedural import fields
from engines.render.procedural.fields import Array
from engines.render.procedural.palette import Palette, mix

_TERMS: Final = 5
_STEPS_PER_FOLD: Final = 46  # of 256: one fold in five and a half is a whole round of colours


@dataclass(frozen=True)
class Silk:
    """Travelling sines, bent by noise, read out as colour.

    Attributes:
        across: Radians per pixel across, one per sine.
        down: Radians per pixel down.
        rate: Radians per second.
        phase: Radians.
        bend: Noise that bends the folds, shape of the canvas.
        colours: Colour by height of the fold, shape (3, 256).
    """

    across: Array
    down: Array
    rate: Array
    phase: Array
    bend: Array
    colours: Array

    def paint(self, canvas: Array, t_s: float) -> None:
        """Covers the canvas."""
        height, width = canvas.shape[1:]
        x = np.arange(width, dtype=np.float32)
        y = np.arange(height, dtype=np.float32)
        fold = self.bend.copy()
        for across, down, rate, phase in zip(self.across, self.down, self.rate, self.phase, strict=True):
            # sin(a + b) = sin a cos b + cos a sin b: two outer products instead of a sine per pixel.
            a, b = x * across, y * down + phase + rate * np.float32(t_s)
            fold += np.outer(np.cos(b), np.sin(a))
            fold += np.outer(np.sin(b), np.cos(a))
        shade = (fold * np.float32(_STEPS_PER_FOLD)).astype(np.int32) & 255  # the colours go round
        for channel in range(3):
            canvas[channel] = self.colours[channel][shade]


def make_silk(palette: Palette, height: int, width: int, *, pace: float, rng: np.random.Generator) -> Silk:
    """Silk with long folds that lean one way."""
    lean = float(rng.uniform(0.5, 1.3)) * float(rng.choice([-1, 1]))
    long_side = max(height, width)
    folds = rng.uniform(0.5, 2.6, _TERMS) * 2 * np.pi / long_side
    turn = lean + rng.normal(0, 0.5, _TERMS)
    bend = (fields.fractal_noise(rng, height, width, cell=long_side / 2.2, octaves=2) - 0.5) * 3.4
    top, middle, horizon = palette.sky
    # Slow up, fast down: that is what makes it cloth.
    stops = (
        top,
        mix(top, middle, 0.5),
        middle,
        mix(middle, horizon, 0.5),
        horizon,
        mix(horizon, palette.mist, 0.5),
        middle,
        top,
    )
    return Silk(
        across=(folds * np.cos(turn)).astype(np.float32),
        down=(folds * np.sin(turn)).astype(np.float32),
        rate=(rng.uniform(0.25, 0.7, _TERMS) * rng.choice([-1, 1], _TERMS) * pace).astype(np.float32),
        phase=rng.uniform(0, 2 * np.pi, _TERMS).astype(np.float32),
        bend=bend.astype(np.float32),
        colours=fields.vertical_gradient(256, stops)[:, :, 0],
    )
