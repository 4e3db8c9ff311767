"""Which GPU class holds a training run: the engine's allocator, asked with the catalogue of Modal's classes."""

from collections.abc import Collection, Sequence

from engines.train.allocator import GpuOffer, check_fits, suggest
from engines.train.contract import TrainConfig
from modal_apps.gpus import CATALOGUE, TRAIN_COUNTS, GpuClass, Profile, Resources, UnknownGpuClass, parse

#: Every type of the catalogue.
ALL_TYPES = tuple(gpu.type for gpu in CATALOGUE)


class CountNotOffered(UnknownGpuClass):
    """A number of GPUs for which the trainer has no class; `name` is what was asked for: `L4:3`, or `gpus = 3`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        counts = f"{', '.join(map(str, TRAIN_COUNTS[:-1]))} or {TRAIN_COUNTS[-1]}"
        self.args = (f"expected {counts} GPUs, as the trainer's classes have them; got {name!r}. Take one of these.",)


def training_class(name: str, resources: Resources | None = None) -> GpuClass:
    """The class that the trainer has deployed under a name such as `H100:4`.

    Raises:
        UnknownGpuClass: it is not in the catalogue; `CountNotOffered`: not with so many GPUs.
    """
    return _offered(parse(name, Profile.TRAIN, resources))


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
        CountNotOffered: the trainer has no class with any of these counts.
    """
    if not set(counts) & set(TRAIN_COUNTS):
        raise CountNotOffered(f"gpus = {', '.join(map(str, counts))}")
    classes = [
        parse(f"{kind}:{count}", Profile.TRAIN, resources)
        for kind in allowed
        for count in counts
        if count in TRAIN_COUNTS and count <= parse(kind).max_count
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
        CountNotOffered: the trainer has no class with so many GPUs.
    """
    check_fits(config, _offer(_offered(gpu)))


def _offered(gpu: GpuClass) -> GpuClass:
    if gpu.count not in TRAIN_COUNTS:
        raise CountNotOffered(gpu.name)
    return gpu


def _offer(gpu: GpuClass) -> GpuOffer:
    # (Flash attention needs a card of NVIDIA's Ampere generation or a newer one; of the catalogue the T4 is older.)
    return GpuOffer(gpu.name, gpu.vram_gib, gpu.count, gpu.price_usd_nanos_per_s(), has_flash=gpu.type != "T4")
