"""What the loop asks of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from engines.train.contract import TrainConfig
from engines.train.data.batches import Batch, Draws
from engines.train.data.prepared import Part


class Recipe(Protocol):
    """One kind of training."""

    @property
    def averages(self) -> bool:
        """Whether a moving average of the weights is kept, and evaluated in the place of the weights."""
        ...

    def build(self) -> nn.Module:
        """The model, with seeded first weights, on the CPU."""
        ...

    @property
    def draws(self) -> Draws:
        """The chance that a step needs. It is sent to the processes that read ahead: nothing heavy may hang on it."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean loss over the examples of `batch`."""
        ...

    def evaluate(self, model: nn.Module, held_out: Part) -> Mapping[str, float]:
        """Measurements of `model` (in evaluation mode, on its device) by name.

        It computes in what the caller has set, and takes no more memory than a part of a training batch does.
        """
        ...

    def score(self, metrics: Mapping[str, float]) -> float:
        """How good that is, higher is better: by it the best checkpoint is kept."""
        ...


def part_examples(config: TrainConfig) -> int:
    """Examples in one forward pass of a training step, on one GPU: what its memory was estimated for."""
    return max(1, config.batch_size // (config.gpus * config.grad_accumulation))
