"""The recipes by name."""

from __future__ import annotations

from pathlib import Path

from engines.train.contract import DIFFUSION_TRANSFORMER, TrainConfig
from engines.train.recipes.recipe import Recipe


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
