"""The one catalogue of Modal GPU classes: what fits, what is requested beside the GPUs, and what it costs.

Prices are Modal's published ones (dollars per second, read 2026-08-19); settings or the workspace's own rates may
replace them. A class with a count is spelt as Modal spells it: `A100-80GB:4`. docs/gpu-classes.md is made from here.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

#: Dollars are counted in micros; prices per second are finer, so they are kept in nanos.
NANOS_PER_MICRO = 1_000

#: One physical core for one second, nano-dollars.
CPU_USD_NANOS_PER_CORE_S = 13_100
#: One GiB of memory for one second, nano-dollars.
MEMORY_USD_NANOS_PER_GIB_S = 2_220

#: The most that one container requests, whatever its GPUs: the largest figures that we have seen at work
#: (beside an H100); a larger request waits long for a host that has it.
MOST_CPU_CORES, MOST_MEMORY_GIB = 64.0, 256.0


class Profile(StrEnum):
    """What a container is for, and so how much it wants beside its GPUs."""

    #: One render at a time: the work is on the GPU.
    RENDER = "render"
    #: Training: cores feed the GPU with batches, memory holds the prepared data.
    TRAIN = "train"


@dataclass(frozen=True)
class GpuClass:
    """One GPU shape that Modal rents out, with what a container of one profile requests beside it."""

    #: Modal's name of the type, without a count.
    type: str
    #: Memory of one GPU, GiB.
    vram_gib: int
    #: Whether it computes in FP8 (Ada, Hopper, Blackwell).
    fp8: bool
    #: Price of one GPU for one second, nano-dollars.
    usd_nanos_per_s: int
    count: int = 1
    #: Most GPUs of this type in one container.
    max_count: int = 8
    #: What is requested beside the GPUs, per container (a render's; `for_profile` makes others).
    cpu_cores: float = 2.0
    memory_gib: float = 8.0
    #: What training requests beside one GPU: cores and GiB. 32 and 128 beside an A100-80GB, 64 and 256 beside an H100
    #: are figures of runs that starved with less; the others follow from them by the GPU's speed.
    train_cpu_cores: float = 8.0
    train_memory_gib: float = 32.0
    #: When to take it, in a few words; for docs/gpu-classes.md.
    good_for: str = ""

    @property
    def name(self) -> str:
        """As `gpu=` wants it."""
        return self.type if self.count == 1 else f"{self.type}:{self.count}"

    @property
    def alias(self) -> str:
        """The name of its training class on Modal: `TrainingSession_A100_80GB_4`, without a count for one GPU."""
        words = ["TrainingSession", *self.type.split("-"), *([str(self.count)] if self.count > 1 else [])]
        return "_".join(words)

    @property
    def total_vram_gib(self) -> int:
        """Memory of all its GPUs, GiB."""
        return self.vram_gib * self.count

    @property
    def memory_mib(self) -> int:
        """The memory requested beside the GPUs, as Modal wants it."""
        return round(self.memory_gib * 1024)

    def for_profile(self, profile: Profile, resources: "Resources | None" = None) -> "GpuClass":
        """The same class, with what a container of a profile requests: so much for each GPU, up to the most.

        Args:
            profile: what the container is for.
            resources: cores and GiB beside one GPU of a type, where they differ from the catalogue's.
        """
        match profile:
            case Profile.RENDER:
                listed = _listed(self.type)
                return replace(self, cpu_cores=listed.cpu_cores, memory_gib=listed.memory_gib)
            case Profile.TRAIN:
                cores, gib = (resources or {}).get(self.type, (self.train_cpu_cores, self.train_memory_gib))
                return replace(
                    self,
                    cpu_cores=min(MOST_CPU_CORES, cores * self.count),
                    memory_gib=min(MOST_MEMORY_GIB, gib * self.count),
                )

    def price_usd_nanos_per_s(self) -> int:
        """What a container of this class costs each second: GPUs, cores and memory, nano-dollars."""
        return round(
            self.usd_nanos_per_s * self.count
            + CPU_USD_NANOS_PER_CORE_S * self.cpu_cores
            + MEMORY_USD_NANOS_PER_GIB_S * self.memory_gib
        )

    def cost_usd_micros(self, seconds: float) -> int:
        """What `seconds` of a container cost, micro-dollars, rounded up."""
        nanos = self.price_usd_nanos_per_s() * max(0.0, seconds)
        return int(-(-nanos // NANOS_PER_MICRO))


CATALOGUE: tuple[GpuClass, ...] = (
    GpuClass(
        "T4", 16, fp8=False, usd_nanos_per_s=164_000, train_cpu_cores=8, train_memory_gib=32,
        good_for="smoke tests, debugging, models of a few million parameters; no bf16",
    ),
    GpuClass(
        "L4", 24, fp8=True, usd_nanos_per_s=222_000, train_cpu_cores=8, train_memory_gib=32,
        good_for="small runs where dollars count more than hours; the cheapest with bf16 and FP8",
    ),
    GpuClass(
        "A10", 24, fp8=False, usd_nanos_per_s=306_000, max_count=4, train_cpu_cores=8, train_memory_gib=32,
        good_for="small models, about twice as fast as an L4 where memory bandwidth counts",
    ),
    GpuClass(
        "L40S", 48, fp8=True, usd_nanos_per_s=542_000, train_cpu_cores=16, train_memory_gib=64,
        good_for="the first choice between 24 and 48 GiB; FP8; no NVLink, so better alone than in eights",
    ),
    GpuClass(
        "A100-40GB", 40, fp8=False, usd_nanos_per_s=583_000, train_cpu_cores=32, train_memory_gib=128,
        good_for="several GPUs with NVLink when 40 GiB each are enough",
    ),
    GpuClass(
        "A100-80GB", 80, fp8=False, usd_nanos_per_s=694_000, train_cpu_cores=32, train_memory_gib=128,
        good_for="the workhorse of long training: 80 GiB, NVLink, and a good third less than an H100",
    ),
    GpuClass(
        "RTX-PRO-6000", 96, fp8=True, usd_nanos_per_s=842_000, train_cpu_cores=32, train_memory_gib=128,
        good_for="one model of up to 96 GiB on one card; FP8; no NVLink",
    ),
    GpuClass(
        "H100", 80, fp8=True, usd_nanos_per_s=1_097_000, train_cpu_cores=64, train_memory_gib=256,
        good_for="when the end matters more than the bill, and for FP8; in eights for the largest runs",
    ),
    GpuClass(
        "H200", 141, fp8=True, usd_nanos_per_s=1_261_000, train_cpu_cores=64, train_memory_gib=256,
        good_for="H100 speed with 141 GiB: large batches, long sequences",
    ),
    GpuClass(
        "B200", 180, fp8=True, usd_nanos_per_s=1_736_000, train_cpu_cores=64, train_memory_gib=256,
        good_for="the fastest per GPU; for models that fill 180 GiB",
    ),
    GpuClass(
        "B300", 288, fp8=True, usd_nanos_per_s=1_972_000, train_cpu_cores=64, train_memory_gib=256,
        good_for="what fits nowhere else on one card",
    ),
)  # fmt: skip

#: How many GPUs a training container may have.
TRAIN_COUNTS = (1, 2, 4, 8)

#: Cores and GiB beside one GPU of a type.
Resources = Mapping[str, tuple[float, float]]


class WrongResources(ValueError):
    """The setting that replaces what training requests beside a GPU makes no sense."""

    def __init__(self, text: str, reason: str) -> None:
        self.text = text
        super().__init__(
            f'expected OVERSPILL_MODAL_TRAIN_RESOURCES as {{"A100-80GB": [cores, GiB]}}, got {text[:200]!r}: {reason}.'
        )


def parse_resources(text: str) -> Resources:
    """Reads the setting that replaces what training requests beside a GPU; empty: nothing is replaced.

    Raises:
        WrongResources: it is no such table, or names a type that is not in the catalogue.
    """
    if not text.strip():
        return {}
    try:
        table = {str(kind): (float(cores), float(gib)) for kind, (cores, gib) in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise WrongResources(text, str(error)) from error
    unknown = sorted(set(table) - {gpu.type for gpu in CATALOGUE})
    if unknown or not all(cores > 0 and gib > 0 for cores, gib in table.values()):
        raise WrongResources(text, f"unknown types {unknown}" if unknown else "cores and GiB must be above 0")
    return table


def training_classes(resources: Resources | None = None) -> tuple[GpuClass, ...]:
    """Every class that training can be had on, each with its cores and memory: the types in every count."""
    return tuple(
        replace(gpu, count=count).for_profile(Profile.TRAIN, resources)
        for gpu in CATALOGUE
        for count in TRAIN_COUNTS
        if count <= gpu.max_count
    )


def _listed(kind: str) -> GpuClass:
    return next(gpu for gpu in CATALOGUE if gpu.type == kind)


class UnknownGpuClass(ValueError):
    """A GPU class that is not in the catalogue."""

    def __init__(self, name: str) -> None:
        self.name = name
        known = ", ".join(gpu.type for gpu in CATALOGUE)
        super().__init__(f"expected a GPU class such as H100 or A100-80GB:4 out of {known}; got {name!r}.")


def parse(name: str, profile: Profile = Profile.RENDER, resources: Resources | None = None) -> GpuClass:
    """The class that a name such as `H100` or `A100-80GB:4` stands for, with what a profile requests beside it.

    Raises:
        UnknownGpuClass: the type is not in the catalogue, or the count is not one that Modal offers.
    """
    kind, _, count_text = name.partition(":")
    found = next((gpu for gpu in CATALOGUE if gpu.type == kind), None)
    count = int(count_text) if count_text.isascii() and count_text.isdigit() else (1 if not count_text else 0)
    if found is None or not 1 <= count <= found.max_count:
        raise UnknownGpuClass(name)
    return replace(found, count=count).for_profile(profile, resources)


def cheapest(
    allowed: Iterable[str], *, vram_gib: float, headroom_ratio: float, needs_fp8: bool, count: int = 1
) -> GpuClass | None:
    """The cheapest allowed class on which a job fits; None if it fits on none.

    Args:
        allowed: types that have been validated for the job.
        vram_gib: memory that the job needs on each GPU, GiB.
        headroom_ratio: spare memory on top, as a share of the need.
        needs_fp8: the weights are FP8.
        count: GPUs in one container.
    """
    needed_gib = vram_gib * (1 + headroom_ratio)
    fitting = [
        replace(gpu, count=count)
        for gpu in map(parse, allowed)
        if gpu.vram_gib >= needed_gib and (gpu.fp8 or not needs_fp8) and count <= gpu.max_count
    ]
    return min(fitting, key=lambda gpu: (gpu.price_usd_nanos_per_s(), gpu.name), default=None)
