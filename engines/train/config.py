"""What is asked of a training run: a `TrainConfig`, within its bounds or not there. Standard library only.

Names are those of the ledger's train job where both have the field.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from engines.train.errors import InvalidTrainConfig

IMAGE_CLASSIFIER: Final = "image_classifier"
DIFFUSION_TRANSFORMER: Final = "diffusion_transformer"
RECIPES: Final = (IMAGE_CLASSIFIER, DIFFUSION_TRANSFORMER)
PRECISIONS: Final = ("auto", "fp32", "bf16", "fp16")

SHAPES: Final = "shapes"
"""The dataset that is drawn, not downloaded: see `engines.train.data.shapes`."""

MAX_STEPS: Final = 10_000_000
MAX_BATCH_SIZE: Final = 65_536
MAX_LEARNING_RATE: Final = 10.0
MAX_SEED: Final = 2**32 - 1
MAX_GPUS: Final = 8
MAX_DATASET_CHARS: Final = 1_024

# What a recipe takes when the config says 0 ("the recipe's own"). Both were tuned on `shapes` on two CPU cores.
_OWN_WIDTH: Final = {IMAGE_CLASSIFIER: 24, DIFFUSION_TRANSFORMER: 96}
_OWN_DEPTH: Final = {IMAGE_CLASSIFIER: 3, DIFFUSION_TRANSFORMER: 4}
_CLASSIFIER_STRIDE: Final = 4
# Six channels on one thread end torch 2.13.0's convolution backward on a CPU with a corrupted heap; these do not.
_CLASSIFIER_WIDTH_STEP: Final = 4
_INTEGER_BOUNDS: Final = {
    "steps": (1, MAX_STEPS),
    "batch_size": (1, MAX_BATCH_SIZE),
    "checkpoint_every_steps": (1, MAX_STEPS),
    "gpus": (1, MAX_GPUS),
    "seed": (0, MAX_SEED),
    "image_size": (8, 512),
    "width": (0, 8_192),
    "depth": (0, 128),
    "heads": (1, 128),
    "patch_size": (1, 32),
    "warmup_steps": (0, MAX_STEPS),
    "grad_accumulation": (1, 4_096),
    "eval_every_steps": (0, MAX_STEPS),
    "eval_examples": (1, 1_000_000),
    "log_every_steps": (1, MAX_STEPS),
    "sample_steps": (1, 1_000),
}
_NUMBER_BOUNDS: Final = {
    "weight_decay": (0.0, 10.0),
    "gradient_clip": (0.0, 1e6),
    "label_dropout": (0.0, 0.9),
    "guidance": (0.0, 100.0),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. An instance is always within bounds: building an invalid one raises.

    Attributes:
        recipe: `image_classifier` or `diffusion_transformer`.
        dataset: `shapes`, a folder with one folder of images per class, a tar or zip of that, or an `s3://` address
            that the caller has resolved into `TrainContext.data`.
        steps: Optimizer steps of the whole run.
        batch_size: Examples per optimizer step, over all GPUs and accumulated parts; divisible by their product.
        learning_rate: Peak rate of AdamW, above 0, at most 10.
        checkpoint_every_steps: Steps between checkpoints; the last step always leaves one.
        gpus: Processes (one per GPU) that share a batch.
        seed: Same config and seed: same weights, on the same kind of device with the same number of threads.
        image_size: Side of the square that images are scaled to, pixels; a multiple of `patch_size` (transformer).
        width: Channels of the first stage (classifier), or model width (transformer; divisible by 2 x heads).
            0 becomes the recipe's own.
        depth: Residual stages (classifier) or blocks (transformer). 0 becomes the recipe's own.
        heads: Attention heads (transformer).
        patch_size: Side of a token, pixels (transformer).
        warmup_steps: Steps over which the rate rises from 0 before its cosine falls to a hundredth of the peak.
        weight_decay: AdamW's, on matrices only.
        gradient_clip: Largest norm of the gradients; 0 leaves them as they are.
        grad_accumulation: Parts into which each GPU's share of the batch is cut, to save memory.
        ema_decay: Of the moving average of the weights that the transformer samples with; 0 to below 1.
        precision: `auto` takes bf16 where the GPU has it, else fp16, and fp32 on a CPU.
        eval_every_steps: Steps between evaluations; 0: with each checkpoint. The last step is always evaluated.
        eval_examples: Maximum number of examples (or samples) per evaluation.
        log_every_steps: Steps between progress events.
        label_dropout: Share of examples whose class is hidden, so that guidance has something to guide away from.
        guidance: Strength of classifier-free guidance when sampling; 1 is none (Ho and Salimans 2022).
        sample_steps: Denoising steps when sampling.

    Raises:
        InvalidTrainConfig: A field has the wrong type or is out of bounds; the first such field is named.
    """

    recipe: str
    dataset: str = SHAPES
    steps: int = 1_000
    batch_size: int = 32
    learning_rate: float = 1e-3
    checkpoint_every_steps: int = 200
    gpus: int = 1
    seed: int = 0
    image_size: int = 16
    width: int = 0
    depth: int = 0
    heads: int = 4
    patch_size: int = 4
    warmup_steps: int = 50
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    grad_accumulation: int = 1
    ema_decay: float = 0.995
    precision: str = "auto"
    eval_every_steps: int = 0
    eval_examples: int = 480
    log_every_steps: int = 10
    label_dropout: float = 0.1
    guidance: float = 3.0
    sample_steps: int = 16

    def __post_init__(self) -> None:
        _check_choice("recipe", self.recipe, RECIPES)
        _check_choice("precision", self.precision, PRECISIONS)
        _check_dataset(self.dataset)
        for name, (low, high) in _INTEGER_BOUNDS.items():
            _check_int(name, getattr(self, name), low, high)
        _check_rate(self.learning_rate)
        _check_decay(self.ema_decay)
        for name, (lowest, highest) in _NUMBER_BOUNDS.items():
            _check_number(name, getattr(self, name), lowest, highest)
        self._settle_size()
        self._check_together()

    def _settle_size(self) -> None:
        # A frozen dataclass can only be completed this way; afterwards no reader has to know what 0 stood for.
        object.__setattr__(self, "width", self.width or _OWN_WIDTH[self.recipe])
        object.__setattr__(self, "depth", self.depth or _OWN_DEPTH[self.recipe])

    def _check_together(self) -> None:
        parts = self.gpus * self.grad_accumulation
        if self.batch_size % parts:
            expected = f"a multiple of gpus x grad_accumulation = {parts}"
            raise InvalidTrainConfig("batch_size", self.batch_size, expected)
        if self.recipe == DIFFUSION_TRANSFORMER:
            if self.image_size % self.patch_size:
                raise InvalidTrainConfig("image_size", self.image_size, f"a multiple of patch_size = {self.patch_size}")
            if self.width % (2 * self.heads):
                raise InvalidTrainConfig("width", self.width, f"a multiple of 2 x heads = {2 * self.heads}")
        elif self.width % _CLASSIFIER_WIDTH_STEP:
            raise InvalidTrainConfig("width", self.width, f"a multiple of {_CLASSIFIER_WIDTH_STEP}")
        elif self.image_size < 2 ** (self.depth - 1) * _CLASSIFIER_STRIDE:
            most = int(math.log2(self.image_size / _CLASSIFIER_STRIDE)) + 1
            raise InvalidTrainConfig(
                "depth", self.depth, f"at most {most} stages for images of {self.image_size} pixels"
            )

    def to_wire(self) -> dict[str, object]:
        """The config as a dict of JSON types; `from_wire` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_wire(cls, wire: Mapping[str, object]) -> TrainConfig:
        """Builds a config from JSON types, trusting nothing.

        Only `recipe` must be there. A field that this version does not know is refused, not ignored: it would otherwise
        be paid for and not be honoured.

        Raises:
            InvalidTrainConfig: Not a mapping, a field is missing, unknown, of the wrong type or out of bounds.
        """
        if not isinstance(wire, Mapping):
            raise InvalidTrainConfig("config", wire, "an object with the fields of a train config")
        fields = {entry.name for entry in dataclasses.fields(cls)}
        for name in wire:
            if name not in fields:
                raise InvalidTrainConfig(str(name), wire[name], f"one of the fields {', '.join(sorted(fields))}")
        if "recipe" not in wire:
            raise InvalidTrainConfig("recipe", None, f"one of {', '.join(RECIPES)}; the field is required")
        return cls(**dict(wire))  # type: ignore[arg-type]  # the constructor checks every type itself


def _check_int(name: str, value: object, low: int, high: int) -> None:
    # bool is an int to Python, and True steps are no length.
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidTrainConfig(name, value, f"a whole number from {low} to {high}")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if not _is_number(value) or not low <= value <= high:  # type: ignore[operator]  # `_is_number` has looked
        raise InvalidTrainConfig(name, value, f"a number from {low:g} to {high:g}")


def _check_rate(value: object) -> None:
    if not _is_number(value) or not 0 < value <= MAX_LEARNING_RATE:  # type: ignore[operator]  # `_is_number` has looked
        raise InvalidTrainConfig("learning_rate", value, f"a finite number above 0, at most {MAX_LEARNING_RATE:g}")


def _check_decay(value: object) -> None:
    if not _is_number(value) or not 0 <= value < 1:  # type: ignore[operator]  # `_is_number` has looked
        raise InvalidTrainConfig("ema_decay", value, "a number from 0 to below 1")


def _is_number(value: object) -> bool:
    # A whole number beyond what a float can hold is as little a rate as infinity is.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InvalidTrainConfig(name, value, f"one of {', '.join(choices)}")


def _check_dataset(value: object) -> None:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_DATASET_CHARS or "\0" in value:
        raise InvalidTrainConfig("dataset", value, f"text of 1 to {MAX_DATASET_CHARS} characters")
