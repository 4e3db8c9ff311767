"""A trained model from a checkpoint, to evaluate, judge or render with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load as load_tensors
from torch import nn

from engines.train.checkpoints import Checkpoint, find
from engines.train.contract import DIFFUSION_TRANSFORMER, TrainConfig
from engines.train.errors import CheckpointProblem, InvalidTrainConfig
from engines.train.models.classifier import Classifier
from engines.train.models.transformer import DiffusionTransformer
from engines.train.state import AVERAGE_FILE, WEIGHTS_FILE


@dataclass(frozen=True)
class Trained:
    """A model ready for use, in evaluation mode; a transformer has its averaged weights.

    Attributes:
        model: The module.
        config: What it was trained with.
        classes: Names of its classes; a label is a position in here.
        checkpoint: Where it came from.
    """

    model: nn.Module
    config: TrainConfig
    classes: tuple[str, ...]
    checkpoint: Checkpoint


def load(path: Path, *, device: str) -> Trained:
    """Loads the checkpoint at `path`: a `step-N` folder, or a job's (its best, else its newest).

    Raises:
        CheckpointProblem: There is none, it is torn, or its config is not one that this version knows.
    """
    checkpoint = find(path)
    config, classes = described(checkpoint)
    model = bare_model(config, classes)
    averaged = checkpoint.path / AVERAGE_FILE
    weights = averaged if averaged.name in checkpoint.metadata["files"] else checkpoint.path / WEIGHTS_FILE
    try:
        model.load_state_dict(load_tensors(weights.read_bytes()))
    except RuntimeError as error:
        raise CheckpointProblem("other_model", str(checkpoint.path), str(error)) from error
    return Trained(model.to(device).eval().requires_grad_(requires_grad=False), config, classes, checkpoint)


def described(checkpoint: Checkpoint) -> tuple[TrainConfig, tuple[str, ...]]:
    """The config and the classes in a checkpoint's metadata.

    Raises:
        CheckpointProblem: `other_model`, where they are none that this version knows.
    """
    try:
        config = TrainConfig.from_wire(checkpoint.metadata["config"])
        return config, tuple(checkpoint.metadata["classes"])
    except (InvalidTrainConfig, KeyError) as error:
        raise CheckpointProblem("other_model", str(checkpoint.path), str(error)) from error


def bare_model(config: TrainConfig, classes: tuple[str, ...]) -> nn.Module:
    """The model of `config`, with arbitrary weights."""
    if config.recipe == DIFFUSION_TRANSFORMER:
        return DiffusionTransformer(
            classes=len(classes),
            image_size=config.image_size,
            patch_size=config.patch_size,
            width=config.width,
            depth=config.depth,
            heads=config.heads,
        )
    return Classifier(classes=len(classes), width=config.width, depth=config.depth)
