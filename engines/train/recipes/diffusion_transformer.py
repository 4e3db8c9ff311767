"""`diffusion_transformer`: flow matching with hidden classes, and the share of samples that a classifier recognises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.train.contract import IMAGE_CLASSIFIER, TrainConfig
from engines.train.data.batches import Batch, read
from engines.train.data.prepared import Part
from engines.train.errors import CheckpointProblem
from engines.train.models.transformer import DiffusionTransformer
from engines.train.recipes import flow
from engines.train.recipes.recipe import part_examples
from engines.train.seeding import generator, seeded
from engines.train.trained import Trained, bare_model, load

#: Examples that random numbers are drawn for at a time, on the host, even if the GPU takes fewer at once.
_DRAWN_AT_ONCE: Final = 96


@dataclass(frozen=True)
class FlowDraws:
    """Noise, times and which classes are hidden, for a step's whole batch."""

    seed: int
    batch_size: int
    side_px: int
    label_dropout: float

    def __call__(self, step: int) -> Batch:
        """What step `step` draws."""
        return self.of(generator(self.seed, "flow", step), self.batch_size)

    def of(self, chance: torch.Generator, count: int) -> Batch:
        """What `count` examples draw from `chance`."""
        return {
            "noise": torch.randn(count, 3, self.side_px, self.side_px, generator=chance),
            "times": torch.rand(count, generator=chance),
            "hidden": torch.rand(count, generator=chance) < self.label_dropout,
        }


class DiffusionRecipe:
    """See `recipe.Recipe`."""

    averages = True

    def __init__(self, config: TrainConfig, classes: tuple[str, ...], classifier: Path | None) -> None:
        self._config = config
        self.draws = FlowDraws(config.seed, config.batch_size, config.image_size, config.label_dropout)
        self._classes = classes
        self._judge = judge(classifier, classes) if classifier else None

    def build(self) -> nn.Module:
        """The model, with seeded first weights."""
        with seeded(generator(self._config.seed, "weights")):
            return bare_model(self._config, self._classes)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean square of the velocity's error."""
        labels = batch["labels"].masked_fill(batch["hidden"], len(self._classes))
        times, images = batch["times"], batch["images"]
        points = flow.between(batch["noise"], images, times)
        return functional.mse_loss(model(points, times, labels).float(), images - batch["noise"])

    def evaluate(self, model: nn.Module, held_out: Part) -> Mapping[str, float]:
        """`eval_loss`, on held-out images with fixed noise; with a classifier, `recognised`."""
        count = min(len(held_out), self._config.eval_examples)
        chosen = np.linspace(0, len(held_out) - 1, count).astype(np.int64)
        device = next(model.parameters()).device
        chance = generator(self._config.seed, "evaluation")
        loss = 0.0
        with torch.no_grad():
            for start in range(0, count, _DRAWN_AT_ONCE):
                batch = read(held_out, chosen[start : start + _DRAWN_AT_ONCE])
                batch |= self.draws.of(chance, len(batch["labels"]))
                for piece in _pieces(batch, part_examples(self._config)):
                    moved = {name: tensor.to(device) for name, tensor in piece.items()}
                    loss += float(self.loss(model, moved)) * len(piece["labels"])
        metrics = {"eval_loss": loss / count}
        if self._judge is not None:
            metrics["recognised"] = recognised_share(model, self._config, self._judge, self._classes)
        return metrics

    def score(self, metrics: Mapping[str, float]) -> float:
        """The share of samples recognised, else how small the loss is."""
        return metrics.get("recognised", -metrics["eval_loss"])


def judge(checkpoint: Path, classes: tuple[str, ...]) -> Trained:
    """The classifier that says what a sample shows.

    Raises:
        CheckpointProblem: It is none, or does not know all of `classes`.
    """
    trained = load(checkpoint, device="cpu")
    unknown = sorted(set(classes) - set(trained.classes))
    if trained.config.recipe != IMAGE_CLASSIFIER or unknown:
        cause = f"expected an {IMAGE_CLASSIFIER} that knows {', '.join(classes[:3])}..., got {trained.config.recipe}"
        raise CheckpointProblem("other_model", str(checkpoint), f"{cause} without {', '.join(unknown) or 'them'}")
    return trained


def recognised_share(model: nn.Module, config: TrainConfig, referee: Trained, classes: tuple[str, ...]) -> float:
    """Samples every class in turn, `eval_examples` in all, and asks the referee; the share that it names rightly."""
    device = next(model.parameters()).device
    referee.model.to(device)
    names = torch.tensor([referee.classes.index(name) for name in classes])
    wanted = torch.arange(config.eval_examples) % len(classes)
    chance = generator(config.seed, "samples")
    right = 0
    at_once = max(1, part_examples(config) // 2)  # guidance asks about each image twice
    with torch.no_grad():
        for start in range(0, len(wanted), _DRAWN_AT_ONCE):
            batch = {"labels": wanted[start : start + _DRAWN_AT_ONCE]}
            batch["noise"] = _noise(len(batch["labels"]), config, chance)
            for piece in _pieces(batch, at_once):
                pictures = _denoised(model, config, piece["labels"].to(device), piece["noise"].to(device))
                if config.image_size != referee.config.image_size:
                    size = [referee.config.image_size] * 2
                    pictures = functional.interpolate(pictures, size, mode="bilinear", antialias=True)
                right += int((referee.model(pictures).argmax(1).cpu() == names[piece["labels"]]).sum())
    return right / len(wanted)


def sample(model: nn.Module, config: TrainConfig, labels: Tensor, chance: torch.Generator) -> Tensor:
    """Images (n, 3, side, side) in -1..1 of the classes `labels`, from noise out of `chance`."""
    return _denoised(model, config, labels, _noise(len(labels), config, chance).to(labels.device))


def _noise(count: int, config: TrainConfig, chance: torch.Generator) -> Tensor:
    return torch.randn(count, 3, config.image_size, config.image_size, generator=chance)


def _pieces(batch: Batch, at_once: int) -> Iterator[Batch]:
    for start in range(0, len(batch["labels"]), at_once):
        yield {name: tensor[start : start + at_once] for name, tensor in batch.items()}


def _denoised(model: nn.Module, config: TrainConfig, labels: Tensor, noise: Tensor) -> Tensor:
    if not isinstance(model, DiffusionTransformer):
        raise TypeError(f"expected a DiffusionTransformer, got {type(model).__name__}")
    nothing = torch.full_like(labels, model.classes)
    *_, images = flow.denoise(
        model.velocity,
        noise,
        model.label(labels),
        model.label(nothing),
        guidance=config.guidance,
        steps=config.sample_steps,
    )
    return images.clamp(-1, 1)
