"""How much GPU memory a run needs, and which GPU class to take: arithmetic on sizes and a catalogue, nothing else.

The catalogue is an argument: engines do not know where GPUs are rented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engines.train.contract import DIFFUSION_TRANSFORMER, TrainConfig
from engines.train.errors import DoesNotFit
from engines.train.sizes import ModelSize, model_size

Mode = Literal["train", "finetune", "inference"]
"""`train`: AdamW, and the recipe's moving average; `finetune`: AdamW alone; `inference`: a forward pass."""

_FP32_BYTES: Final = 4
_MOMENTS: Final = 2
_GIB: Final = 1024**3
#: cuBLAS's workspace, in the size that its deterministic mode asks for (`CUBLAS_WORKSPACE_CONFIG=:4096:8`).
WORKSPACE_BYTES: Final = 8 * 4_096 * 1_024
#: What CUDA, cuDNN and NCCL hold on a card beside the tensors.
CONTEXT_BYTES: Final = 768 * 1_024**2
#: Share on top for the holes between tensors in the allocator's pool.
FRAGMENTATION_RATIO: Final = 0.10
#: The number of classes if it is unknown; it moves the result by less than a thousandth.
ASSUMED_CLASSES: Final = 100


@dataclass(frozen=True)
class GpuOffer:
    """One line of a catalogue.

    Attributes:
        name: As the catalogue spells it, `A100-80GB:4`.
        vram_gib: Memory of one GPU.
        count: GPUs.
        price: Of all of them, in the unit of the catalogue.
        has_flash: Whether the card has flash attention; without it, attention keeps its matrices.
    """

    name: str
    vram_gib: float
    count: int
    price: float
    has_flash: bool = True


@dataclass(frozen=True)
class VramEstimate:
    """Memory on one GPU, bytes.

    Attributes:
        weights_bytes: fp32 weights, and their 16-bit copies during a pass.
        gradients_bytes: fp32.
        optimizer_bytes: AdamW's two moments.
        average_bytes: The moving average.
        activations_bytes: Kept for the backward pass of one part of the batch.
        peak_bytes: Most that tensors take at once: what `torch.cuda.max_memory_allocated` would say. Less than the sum,
            because gradients come as activations go.
    """

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    average_bytes: int
    activations_bytes: int
    peak_bytes: int

    @property
    def needed_gib(self) -> float:
        """What the card must have: the peak, the holes in the pool, and CUDA itself."""
        return (self.peak_bytes * (1 + FRAGMENTATION_RATIO) + CONTEXT_BYTES) / _GIB


def estimate(
    config: TrainConfig,
    *,
    mode: Mode = "train",
    gpus: int | None = None,
    is_16_bit: bool = True,
    has_flash: bool = True,
) -> VramEstimate:
    """The memory that a run of `config` takes on each GPU.

    Args:
        config: The run.
        mode: What is done with the model.
        gpus: GPUs that share a batch; None: the config's own number.
        is_16_bit: Whether the card computes in bf16 or fp16, which the config's precision may forbid.
        has_flash: Whether the card has flash attention.
    """
    halves = is_16_bit and config.precision != "fp32"
    size = model_size(config, classes=ASSUMED_CLASSES, is_16_bit=halves, has_flash=has_flash)
    parts = config.grad_accumulation * (gpus or config.gpus)
    return estimate_of(
        size,
        examples=-(-config.batch_size // parts),
        mode=mode,
        is_16_bit=halves,
        averages=config.recipe == DIFFUSION_TRANSFORMER,
        accumulates=config.grad_accumulation > 1,
    )


def estimate_of(
    size: ModelSize, *, examples: int, mode: Mode, is_16_bit: bool, averages: bool, accumulates: bool = False
) -> VramEstimate:
    """The memory of any model, by its size.

    Args:
        size: The model.
        examples: In one forward pass on one GPU.
        mode: What is done with it.
        is_16_bit: Whether the pass computes in 16 bits.
        averages: Whether the recipe keeps a moving average.
        accumulates: Whether gradients are summed over several passes, and so are there during the next one.
    """
    fp32 = _FP32_BYTES * size.parameters
    copies = fp32 // 2 if is_16_bit else 0
    if mode == "inference":
        activations = examples * size.widest_bytes
        return VramEstimate(fp32 + copies, 0, 0, 0, activations, fp32 + copies + activations + WORKSPACE_BYTES)
    moments, average = _MOMENTS * fp32, fp32 if averages and mode == "train" else 0
    activations = examples * size.activation_bytes
    # At the end of the forward pass all activations are there and (unless they accumulate) no gradient yet; in the
    # optimizer's step all gradients, and a temporary copy of the second moments' roots.
    in_pass = activations + copies + (fp32 if accumulates else 0)
    in_step = 2 * fp32
    peak = fp32 + moments + average + max(in_pass, in_step) + WORKSPACE_BYTES
    return VramEstimate(fp32 + copies, fp32, moments, average, activations, peak)


def suggest(config: TrainConfig, catalogue: Sequence[GpuOffer], *, mode: Mode = "train") -> GpuOffer:
    """The cheapest line of the catalogue that holds the run; of equals the one with more memory.

    Every GPU holds the whole model (data parallel), so more of them only divide the activations. A count that does not
    divide the batch is left out.

    Raises:
        DoesNotFit: None of them holds it.
    """
    fitting = [offer for offer in catalogue if _holds(offer, config, mode)]
    if not fitting:
        largest = max(catalogue, key=lambda offer: (offer.vram_gib, offer.count), default=GpuOffer("", 0, 1, 0))
        needed_gib = estimate(config, mode=mode, gpus=largest.count, has_flash=largest.has_flash).needed_gib
        raise DoesNotFit(needed_gib, largest.name, largest.vram_gib)
    return min(fitting, key=lambda offer: (offer.price, -offer.vram_gib, offer.name))


def check_fits(config: TrainConfig, offer: GpuOffer, *, mode: Mode = "train") -> VramEstimate:
    """The estimate for a class that the job named.

    Raises:
        DoesNotFit: It is too small.
    """
    found = estimate(config, mode=mode, gpus=offer.count, has_flash=offer.has_flash)
    if found.needed_gib > offer.vram_gib:
        raise DoesNotFit(found.needed_gib, offer.name, offer.vram_gib)
    return found


def _holds(offer: GpuOffer, config: TrainConfig, mode: Mode) -> bool:
    divides = config.batch_size % (offer.count * config.grad_accumulation) == 0
    return divides and (
        estimate(config, mode=mode, gpus=offer.count, has_flash=offer.has_flash).needed_gib <= offer.vram_gib
    )
