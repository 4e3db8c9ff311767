"""Parameters and activations of the two models, counted without torch. A test holds them against the real modules.

Activations are what autograd keeps for the backward pass. They were counted operation by operation, for fp32 and for
what CUDA's autocast does in 16 bits: norms compute in fp32 and their inputs are kept so, matrices and convolutions keep
16-bit copies. On a CPU the counts agree with torch's saved-tensor hooks within 3 %.

Attention keeps a matrix of tokens by tokens for each head unless it is torch's flash attention, the other one that is
deterministic (`device.deterministic`): that computes in 16 bits only, on GPUs since Ampere (not a T4), with heads of at
most 256 features. What it keeps else was measured on a CPU under `SDPBackend.MATH`; see the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engines.train.contract import DIFFUSION_TRANSFORMER, TrainConfig

_FP32_BYTES: Final = 4
_TIME_FEATURES: Final = 64
# Bytes per token and feature that a transformer block keeps: two norms' inputs and outputs, four matrices' inputs,
# queries, keys and values, attention's and the MLP's outputs, and the MLP's inside (four times as wide) twice.
_BLOCK_FP32: Final = 80
_BLOCK_16_BIT: Final = 48
_ENDS: Final = 13
#: Attention without flash computes in fp32 always, and of 16-bit queries, keys and values keeps copies: 6 bytes more.
_PLAIN_16_BIT: Final = 6
#: Beside the kept ones, a block's backward pass holds two of its matrices: the gradients before and after the softmax.
_MATRICES_AT_WORK: Final = 2
_WIDEST_FLASH_HEAD: Final = 256
# Buffers of the size of the batch's images that a step holds beside that: noise, points, two velocities, their errors.
_IMAGE_BUFFERS: Final = 8


@dataclass(frozen=True)
class ModelSize:
    """What decides the memory of a model.

    Attributes:
        parameters: Trained numbers.
        activation_bytes: What one example keeps for the backward pass, with the matrices of one attention at work.
        widest_bytes: The largest single tensor of one example: what a forward pass without gradients needs at once.
    """

    parameters: int
    activation_bytes: int
    widest_bytes: int


def model_size(config: TrainConfig, *, classes: int, is_16_bit: bool, has_flash: bool = True) -> ModelSize:
    """The size of the model of `config`.

    Args:
        config: Names recipe and dimensions.
        classes: Of its data.
        is_16_bit: Whether the forward pass computes in bf16 or fp16.
        has_flash: Whether the GPU has flash attention, for what computes in 16 bits: all of the catalogue but the T4.
    """
    if config.recipe == DIFFUSION_TRANSFORMER:
        flash = has_flash and is_16_bit and config.width // config.heads <= _WIDEST_FLASH_HEAD
        return _transformer(config, classes, is_16_bit=is_16_bit, flash=flash)
    return _classifier(config, classes, is_16_bit=is_16_bit)


def attention_matrix_bytes(config: TrainConfig) -> int:
    """What one block's attention without flash makes of one example: tokens by tokens for each head, in fp32."""
    return _FP32_BYTES * config.heads * (config.image_size // config.patch_size) ** 4


def _transformer(config: TrainConfig, classes: int, *, is_16_bit: bool, flash: bool) -> ModelSize:
    width, patch = config.width, 3 * config.patch_size**2
    block = 18 * width**2 + 15 * width
    ends = (patch + 1) * width + (width + 1) * patch + 2 * width * (width + 1)
    condition = (_TIME_FEATURES + 1) * width + (width + 1) * width + (classes + 1) * width
    tokens = (config.image_size // config.patch_size) ** 2
    each = _BLOCK_16_BIT if is_16_bit else _BLOCK_FP32
    images = _IMAGE_BUFFERS * _FP32_BYTES * 3 * config.image_size**2
    matrix = 0 if flash else attention_matrix_bytes(config)
    if is_16_bit and not flash:
        each += _PLAIN_16_BIT
    kept = tokens * width * (each * config.depth + _ENDS) + images + matrix * config.depth
    return ModelSize(
        parameters=config.depth * block + ends + condition,
        activation_bytes=kept + matrix * _MATRICES_AT_WORK,
        widest_bytes=max(tokens * width * 4 * _FP32_BYTES * 2, matrix * _MATRICES_AT_WORK),
    )


def _classifier(config: TrainConfig, classes: int, *, is_16_bit: bool) -> ModelSize:
    widths = [config.width * 2**stage for stage in range(config.depth)]
    parameters = 27 * config.width + 2 * widths[-1] + (widths[-1] + 1) * classes
    for inner, outer in zip([config.width, *widths[:-1]], widths, strict=True):
        shortcut = inner * outer if inner != outer else 0
        parameters += 2 * (inner + outer) + 9 * outer * (inner + outer) + shortcut
    # Half of a block keeps its norm's input and output, and in 16 bits one more copy per convolution that reads it.
    copy = 2 if is_16_bit else 0
    kept = 2.0 * (2 * _FP32_BYTES + copy) + 2 * _FP32_BYTES * 0.5 ** (config.depth - 1)
    for stage in range(1, config.depth):
        before = 0.5 ** (stage - 1)  # twice the channels on a quarter of the places
        kept += before * (2 * _FP32_BYTES + 2 * copy) + before / 2 * (2 * _FP32_BYTES + copy)
    places = config.width * config.image_size**2
    return ModelSize(parameters, round(places * kept), places * _FP32_BYTES * 3)
