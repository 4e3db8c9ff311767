"""A small diffusion transformer (Peebles and Xie 2022, arXiv:2212.09748): adaLN-Zero blocks over pixel patches."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

_TIME_FEATURES: Final = 64
_LONGEST_PERIOD: Final = 10_000.0
_TIME_SCALE: Final = 1_000.0
_MLP_RATIO: Final = 4
_LABEL_STD: Final = 0.7
_POSITION_PERIOD: Final = 100.0


class DiffusionTransformer(nn.Module):
    """The velocity that carries noise to images, for a time and a class.

    Args:
        classes: Number of classes; the class of this very number means "none", for guidance.
        image_size: Side of the images, pixels.
        patch_size: Side of a token, pixels.
        width: Features of a token.
        depth: Blocks.
        heads: Attention heads.
    """

    def __init__(self, *, classes: int, image_size: int, patch_size: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.classes = classes
        self.inward = nn.Linear(3 * patch_size**2, width)
        self.time = nn.Sequential(nn.Linear(_TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.outward = nn.Linear(width, 3 * patch_size**2)
        self.positions: Tensor
        self.register_buffer("positions", _positions(image_size // patch_size, width), persistent=False)
        # As strong as the features of time: with the paper's 0.02 a short run is over before it heeds the class.
        nn.init.normal_(self.label.weight, std=_LABEL_STD)
        # As in the paper: each block begins as the identity, the whole network as zero.
        for layer in (self.modulation, self.outward):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """Velocities (n, 3, side, side) at images (n, 3, side, side), times (n) in 0..1 and labels (n)."""
        return self.velocity(images, times, self.label(labels))

    def velocity(self, images: Tensor, times: Tensor, wanted: Tensor) -> Tensor:
        """As `forward`, with the class as its features (n, width), which may lie between two classes."""
        side = images.shape[-1]
        tokens = functional.pixel_unshuffle(images, self.patch_size).flatten(2).transpose(1, 2)
        hidden = self.inward(tokens) + self.positions
        condition = functional.silu(self.time(_time_features(times)) + wanted)
        for block in self.blocks:
            hidden = block(hidden, condition)
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=-1)
        out = self.outward(_modulated(hidden, shift, scale)).transpose(1, 2)
        grid = side // self.patch_size
        return functional.pixel_shuffle(out.unflatten(2, (grid, grid)), self.patch_size)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_in = nn.Linear(width, _MLP_RATIO * width)
        self.mlp_out = nn.Linear(_MLP_RATIO * width, width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        parts = self.modulation(condition)[:, None].chunk(6, dim=-1)
        attention_shift, attention_scale, attention_gate, mlp_shift, mlp_scale, mlp_gate = parts
        tokens = tokens + attention_gate * self._attention(_modulated(tokens, attention_shift, attention_scale))
        hidden = functional.gelu(self.mlp_in(_modulated(tokens, mlp_shift, mlp_scale)), approximate="tanh")
        result: Tensor = tokens + mlp_gate * self.mlp_out(hidden)
        return result

    def _attention(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.attention_in(tokens).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.attention_out(mixed.transpose(1, 2).flatten(2))
        return result


def _modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return functional.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale) + shift


def _time_features(times: Tensor) -> Tensor:
    half = _TIME_FEATURES // 2
    frequencies = torch.exp(torch.arange(half, device=times.device) * (-math.log(_LONGEST_PERIOD) / half))
    angles = times[:, None].float() * _TIME_SCALE * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def _positions(grid: int, width: int) -> Tensor:
    """Fixed sine and cosine features (grid x grid, width) of row and column; what does not divide by 4 stays 0."""
    quarter = width // 4
    frequencies = torch.exp(torch.arange(quarter) * (-math.log(_POSITION_PERIOD) / max(1, quarter)))
    angles = torch.arange(grid)[:, None] * frequencies
    line = torch.cat((angles.sin(), angles.cos()), dim=-1)
    rows, columns = line[:, None].expand(grid, grid, -1), line[None].expand(grid, grid, -1)
    return functional.pad(torch.cat((rows, columns), dim=-1).flatten(0, 1), (0, width - 4 * quarter))
