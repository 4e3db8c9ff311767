"""The one catalogue of Modal GPU classes: what fits, and what it costs.

Prices are Modal's published ones (dollars per second, read 2026-08-19); settings or the workspace's own rates may
replace them. A class with a count is spelt as Modal spells it: `A100-80GB:4`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

#: Dollars are counted in micros; prices per second are finer, so they are kept in nanos.
NANOS_PER_MICRO = 1_000

#: One physical core for one second, nano-dollars.
CPU_USD_NANOS_PER_CORE_S = 13_100
#: One GiB of memory for one second, nano-dollars.
MEMORY_USD_NANOS_PER_GIB_S = 2_220


@dataclass(frozen=True)
class GpuClass:
    """One GPU shape that Modal rents out."""

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
    #: What is requested beside the GPUs, per container.
    cpu_cores: float = 2.0
    memory_gib: float = 8.0

    @property
    def name(self) -> str:
        """As `gpu=` wants it."""
        return self.type if self.count == 1 else f"{self.type}:{self.count}"

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
    GpuClass("T4", 16, fp8=False, usd_nanos_per_s=164_000),
    GpuClass("L4", 24, fp8=True, usd_nanos_per_s=222_000),
    GpuClass("A10", 24, fp8=False, usd_nanos_per_s=306_000, max_count=4),
    GpuClass("L40S", 48, fp8=True, usd_nanos_per_s=542_000),
    GpuClass("A100-40GB", 40, fp8=False, usd_nanos_per_s=583_000),
    GpuClass("A100-80GB", 80, fp8=False, usd_nanos_per_s=694_000),
    GpuClass("RTX-PRO-6000", 96, fp8=True, usd_nanos_per_s=842_000),
    GpuClass("H100", 80, fp8=True, usd_nanos_per_s=1_097_000),
    GpuClass("H200", 141, fp8=True, usd_nanos_per_s=1_261_000),
    GpuClass("B200", 180, fp8=True, usd_nanos_per_s=1_736_000),
    GpuClass("B300", 288, fp8=True, usd_nanos_per_s=1_972_000),
)


class UnknownGpuClass(ValueError):
    """A GPU class that is not in the catalogue."""

    def __init__(self, name: str) -> None:
        self.name = name
        known = ", ".join(gpu.type for gpu in CATALOGUE)
        super().__init__(f"expected a GPU class such as H100 or A100-80GB:4 out of {known}; got {name!r}.")


def parse(name: str) -> GpuClass:
    """The class that a name such as `H100` or `A100-80GB:4` stands for.

    Raises:
        UnknownGpuClass: the type is not in the catalogue, or the count is not one that Modal offers.
    """
    kind, _, count_text = name.partition(":")
    found = next((gpu for gpu in CATALOGUE if gpu.type == kind), None)
    count = int(count_text) if count_text.isascii() and count_text.isdigit() else (1 if not count_text else 0)
    if found is None or not 1 <= count <= found.max_count:
        raise UnknownGpuClass(name)
    return replace(found, count=count)


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
