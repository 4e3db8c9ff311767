"""Which GPU class holds a training run: the allocator's estimate of its memory against the catalogue."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from engines.train.contract import TrainConfig
from engines.train.errors import DoesNotFit, InvalidTrainConfig
from modal_apps.gpus import CATALOGUE, TRAIN_COUNTS, GpuClass, Profile, Resources, parse

#: Spare memory on top of the estimate, as a share of it: the estimate is within 15 % of the measured peak.
HEADROOM_RATIO = 0.2
#: Every type of the catalogue.
ALL_TYPES = tuple(gpu.type for gpu in CATALOGUE)


def vram_gib(config: TrainConfig) -> float:
    """Memory that a run needs on each of its GPUs, GiB."""
    from engines.train.allocator import estimate_vram_gib  # noqa: PLC0415

    return estimate_vram_gib(config)


def choose_class(
    config: TrainConfig,
    *,
    allowed: Sequence[str] = ALL_TYPES,
    any_count: bool = False,
    headroom_ratio: float = HEADROOM_RATIO,
    above_gib: float = 0.0,
    without: Collection[str] = (),
    resources: Resources | None = None,
) -> GpuClass:
    """The cheapest class that holds a run, with what training requests beside it.

    Args:
        config: the run; its `gpus` are the count.
        allowed: types that may be taken.
        any_count: the job left the count open: more GPUs are taken where one cannot hold its share of the batch.
        headroom_ratio: spare memory on top of the estimate, as a share of it.
        above_gib: each GPU must have more than this: memory ran out on one that had so much.
        without: classes, by name, of which none came for a long time.
        resources: cores and GiB beside one GPU, where they are not the catalogue's.

    Raises:
        DoesNotFit: no class holds it.
    """
    needed_gib = vram_gib(config)
    for count in TRAIN_COUNTS if any_count else (config.gpus,):
        share = _on(config, count)
        if share is None:
            continue
        needed_gib = vram_gib(share)
        classes = [gpu for gpu in map(parse, allowed) if count <= gpu.max_count]
        fitting = [
            replace(gpu, count=count).for_profile(Profile.TRAIN, resources)
            for gpu in classes
            if gpu.vram_gib >= needed_gib * (1 + headroom_ratio) and gpu.vram_gib > above_gib
        ]
        found = [gpu for gpu in fitting if gpu.name not in without] or fitting
        if found:
            return min(found, key=lambda gpu: (gpu.price_usd_nanos_per_s(), gpu.name))
    largest = max(map(parse, allowed), key=lambda gpu: gpu.vram_gib, default=None)
    raise DoesNotFit(needed_gib, largest.name if largest else "", largest.vram_gib if largest else 0.0)


def check_fits(config: TrainConfig, gpu: GpuClass, *, headroom_ratio: float = HEADROOM_RATIO) -> None:
    """That a class which somebody named holds a run.

    Raises:
        DoesNotFit: it does not.
    """
    needed_gib = vram_gib(config)
    if gpu.vram_gib < needed_gib * (1 + headroom_ratio):
        raise DoesNotFit(needed_gib, gpu.name, gpu.vram_gib)


def _on(config: TrainConfig, count: int) -> TrainConfig | None:
    """The same run on so many GPUs; None: its batch cannot be cut so."""
    try:
        return replace(config, gpus=count)
    except InvalidTrainConfig:
        return None
