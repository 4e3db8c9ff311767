"""Flow matching (Lipman et al. 2022, arXiv:2210.02747): straight paths from noise (time 0) to images (time 1)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of points (n, 3, side, side), times (n) and the features (n, width) of the wanted class."""


def between(noise: Tensor, images: Tensor, times: Tensor) -> Tensor:
    """The points at `times` (n) on the straight paths."""
    share = times[:, None, None, None]
    return (1 - share) * noise + share * images


def denoise(
    velocity: Velocity, noise: Tensor, wanted: Tensor, nothing: Tensor, *, guidance: float, steps: int
) -> Iterator[Tensor]:
    """Carries `noise` to images in `steps` Euler steps; yields each state, the last one being the images.

    Args:
        velocity: The network's.
        noise: Where to begin.
        wanted: Features of the wanted class, per image.
        nothing: Features of "no class", per image, which guidance leads away from.
        guidance: 1 is none.
        steps: How many.
    """
    points = noise
    features = torch.cat((wanted, nothing))
    times = torch.linspace(0, 1, steps + 1, device=noise.device)
    for now, after in itertools.pairwise(times):
        guided, plain = velocity(torch.cat((points, points)), now.expand(len(features)), features).chunk(2)
        points = points + (after - now) * (plain + guidance * (guided - plain))
        yield points
