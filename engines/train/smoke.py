"""`smoke`: imports, device, one step of the config's own model on random data. Cheap, and needs no data set."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass

import torch

from engines.memory import peak_memory_bytes
from engines.train import device
from engines.train.allocator import estimate
from engines.train.contract import TrainConfig
from engines.train.data.batches import Batch
from engines.train.errors import OutOfMemory, TrainingDiverged
from engines.train.learner import Learner
from engines.train.ranks import ALONE
from engines.train.recipes.catalogue import recipe_for
from engines.train.recipes.recipe import Recipe
from engines.train.seeding import generator

_CLASSES = ("first", "second")
_STEPS = 2  # the first one pays for kernels and handles, the second shows the pace


@dataclass(frozen=True)
class SmokeReport:
    """What a machine has shown.

    Attributes:
        python: Version.
        torch: Version.
        device: The card's name, or the CPU's capability.
        arithmetic: What the forward pass computed in.
        parameters: Of the model.
        loss: Of the last step; finite.
        step_s: Wall-clock seconds of the last step.
        start_s: Wall-clock seconds before it: model, device, first step.
        peak_memory_bytes: Peak resident memory of the process.
        peak_gpu_memory_bytes: Peak memory of tensors on the GPU; None on a CPU.
        estimated_gpu_memory_bytes: What the allocator says of that.
    """

    python: str
    torch: str
    device: str
    arithmetic: str
    parameters: int
    loss: float
    step_s: float
    start_s: float
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int | None
    estimated_gpu_memory_bytes: int

    def to_wire(self) -> dict[str, object]:
        """The report as a dict of JSON types."""
        return asdict(self)


def smoke(config: TrainConfig, *, device_name: str = "auto", threads: int | None = None) -> SmokeReport:
    """Does two steps of `config` on random images, on one device.

    Raises:
        InvalidTrainConfig: There is no such device here.
        OutOfMemory: The model, or the batch, is too large for it.
        TrainingDiverged: The arithmetic gives no finite loss here.
    """
    begun_s = time.perf_counter()
    where = device.choose(device_name, 0)
    try:
        with device.deterministic(threads):
            device.begin_gpu_peak(where)
            recipe = recipe_for(config, _CLASSES, None)
            arithmetic = device.arithmetic_type(config.precision, where)
            learner = Learner(recipe, config, device=where, arithmetic=arithmetic, ranks=ALONE)
            for step in range(_STEPS - 1):
                float(learner.learn(step, _parts(config, recipe, step)))
            last_s = time.perf_counter()
            loss = float(learner.learn(_STEPS - 1, _parts(config, recipe, _STEPS - 1)))
    except (MemoryError, RuntimeError) as error:
        memory = device.ran_out_of(error)
        if memory is None:
            raise
        raise OutOfMemory(memory, 0, None) from error
    if not loss < float("inf"):
        raise TrainingDiverged(_STEPS, None)
    return SmokeReport(
        python=platform.python_version(),
        torch=torch.__version__,
        device=device.describe(where),
        arithmetic=str(arithmetic).removeprefix("torch."),
        parameters=sum(weights.numel() for weights in learner.model.parameters()),
        loss=loss,
        step_s=time.perf_counter() - last_s,
        start_s=last_s - begun_s,
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_memory_bytes=device.peak_gpu_memory_bytes(where),
        estimated_gpu_memory_bytes=estimate(
            config, gpus=config.gpus, is_16_bit=arithmetic is not torch.float32
        ).peak_bytes,
    )


def _parts(config: TrainConfig, recipe: Recipe, step: int) -> list[Batch]:
    """One GPU's share of a batch of noise, in parts."""
    chance = generator(config.seed, "smoke", step)
    side, count = config.image_size, config.batch_size // config.gpus
    images = torch.randn(count, 3, side, side, generator=chance).clamp(-1, 1)
    labels = torch.randint(0, len(_CLASSES), (count,), generator=chance)
    whole = {"images": images, "labels": labels} | {name: drawn[:count] for name, drawn in recipe.draws(step).items()}
    pieces = {name: tensor.chunk(config.grad_accumulation) for name, tensor in whole.items()}
    return [{name: cut[number] for name, cut in pieces.items()} for number in range(config.grad_accumulation)]
