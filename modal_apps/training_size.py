"""Which GPU class holds a training run: the engine's allocator, asked with the catalogue of Modal's classes."""

from collections.abc import Collection, Sequence

from engines.train.allocator import GpuOffer, check_fits, suggest
from engines.train.contract import TrainConfig
from modal_apps.gpus import CATALOGUE, TRAIN_COUNTS, GpuClass, Profile, Resources, parse

#: Every type of the catalogue.
ALL_TYPES = tuple(gpu.type for gpu in CATALOGUE)


def choose_class(
    config: TrainConfig,
    *,
    allowed: Sequence[str] = ALL_TYPES,
    counts: Sequence[int] = TRAIN_COUNTS,
    above_gib: float = 0.0,
    without: Collection[str] = (),
    resources: Resources | None = None,
) -> GpuClass:
    """The cheapest class that holds a run, with what training requests beside it.

    Args:
        config: the run.
        allowed: types that may be taken.
        counts: GPUs that it may have; more of them divide the batch, and each holds the whole model.
        above_gib: each GPU must have more than this: memory ran out on one that had so much.
        without: classes, by name, of which none came for a long time; taken only where nothing else holds the run.
        resources: cores and GiB beside one GPU, where they are not the catalogue's.

    Raises:
        DoesNotFit: no class holds it.
    """
    classes = [
        parse(f"{kind}:{count}", Profile.TRAIN, resources)
        for kind in allowed
        for count in counts
        if count <= parse(kind).max_count
    ]
    larger = [gpu for gpu in classes if gpu.vram_gib > above_gib]
    offers = {gpu.name: _offer(gpu) for gpu in larger}
    others = [offer for name, offer in offers.items() if name not in without]
    name = suggest(config, others or list(offers.values())).name
    return parse(name, Profile.TRAIN, resources)


def check_class(config: TrainConfig, gpu: GpuClass) -> None:
    """That a class which somebody named holds a run.

    Raises:
        DoesNotFit: it does not.
    """
    check_fits(config, _offer(gpu))


def _offer(gpu: GpuClass) -> GpuOffer:
    return GpuOffer(gpu.name, gpu.vram_gib, gpu.count, gpu.price_usd_nanos_per_s())
