"""What the loop asks of a recipe, and how it gets one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from engines.train.contract import DIFFUSION_TRANSFORMER, TrainConfig
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


def recipe_for(config: TrainConfig, classes: tuple[str, ...], classifier: Path | None) -> Recipe:
    """The recipe that `config` names.

    Args:
        config: The run.
        classes: Names of the classes of its data.
        classifier: Checkpoint of the judge of a transformer's samples.
    """
    # Each recipe is imported when it is asked for: one process trains one.
    if config.recipe == DIFFUSION_TRANSFORMER:
        from engines.train.recipes.diffusion_transformer import DiffusionRecipe  # noqa: PLC0415

        return DiffusionRecipe(config, classes, classifier)
    from engines.train.recipes.image_classifier import ClassifierRecipe  # noqa: PLC0415

    return ClassifierRecipe(config, classes)
