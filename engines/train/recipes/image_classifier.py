"""`image_classifier`: cross-entropy, and accuracy on what was held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.train.contract import TrainConfig
from engines.train.data.batches import Batch, read
from engines.train.data.prepared import Part
from engines.train.recipes.recipe import part_examples
from engines.train.seeding import generator, seeded
from engines.train.trained import bare_model

_EVAL_BATCH: Final = 128  # at most


def no_draws(_step: int) -> Batch:
    """Nothing: the order of the data is all the chance there is."""
    return {}


class ClassifierRecipe:
    """See `recipe.Recipe`."""

    averages = False
    draws = staticmethod(no_draws)

    def __init__(self, config: TrainConfig, classes: tuple[str, ...]) -> None:
        self._config = config
        self._classes = classes

    def build(self) -> nn.Module:
        """The model, with seeded first weights."""
        with seeded(generator(self._config.seed, "weights")):
            return bare_model(self._config, self._classes)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(model(batch["images"]).float(), batch["labels"])

    def evaluate(self, model: nn.Module, held_out: Part) -> Mapping[str, float]:
        """`accuracy` and `eval_loss`, over at most `eval_examples`."""
        device = next(model.parameters()).device
        count = min(len(held_out), self._config.eval_examples)
        # Spread over the whole part, which may be sorted by class.
        chosen = np.linspace(0, len(held_out) - 1, count).astype(np.int64)
        right, loss = 0, 0.0
        at_once = min(_EVAL_BATCH, part_examples(self._config))
        with torch.no_grad():
            for start in range(0, count, at_once):
                batch = read(held_out, chosen[start : start + at_once])
                labels = batch["labels"].to(device)
                scores = model(batch["images"].to(device)).float()
                right += int((scores.argmax(1) == labels).sum())
                loss += float(functional.cross_entropy(scores, labels, reduction="sum"))
        return {"accuracy": right / count, "eval_loss": loss / count}

    def score(self, metrics: Mapping[str, float]) -> float:
        """The accuracy."""
        return metrics["accuracy"]
