"""A small residual network (He et al. 2015, arXiv:1512.03385) with group norm in the place of batch norm."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

_CHANNELS_PER_GROUP: Final = 8


class Classifier(nn.Module):
    """Scores of each class for RGB images in -1..1.

    Args:
        classes: Number of classes.
        width: Channels of the first stage; each later one has twice as many at half the resolution.
        depth: Stages, of one residual block each.
    """

    def __init__(self, *, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        widths = [width * 2**stage for stage in range(depth)]
        before = [width, *widths[:-1]]
        self.blocks = nn.ModuleList(
            _Block(inner, outer, stride=1 if stage == 0 else 2)
            for stage, (inner, outer) in enumerate(zip(before, widths, strict=True))
        )
        self.norm = _norm(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Scores (n, classes) of images (n, 3, side, side)."""
        hidden: Tensor = self.stem(images)
        for block in self.blocks:
            hidden = block(hidden)
        # The maximum over places: their mean says little after a norm that has just fixed the mean of each group.
        pooled = functional.relu(self.norm(hidden)).amax(dim=(2, 3))
        scores: Tensor = self.head(pooled)
        return scores


class _Block(nn.Module):
    """Pre-activation residual block (He et al. 2016, arXiv:1603.05027)."""

    def __init__(self, inner: int, outer: int, *, stride: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = _norm(inner), _norm(outer)
        self.conv_1 = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
        self.conv_2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.shortcut = None if inner == outer else nn.Conv2d(inner, outer, 1, stride=stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        active = functional.relu(self.norm_1(images))
        kept = images if self.shortcut is None else self.shortcut(active)
        added: Tensor = self.conv_2(functional.relu(self.norm_2(self.conv_1(active))))
        return torch.add(kept, added)


def _norm(channels: int) -> nn.GroupNorm:
    groups = channels // _CHANNELS_PER_GROUP if channels % _CHANNELS_PER_GROUP == 0 else 1
    return nn.GroupNorm(groups, channels)
