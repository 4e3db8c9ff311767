"""What Modal charges: the price table, and the cost of a time span. All pure.

Prices are micro-dollars for an hour of one unit, which are whole numbers: an hour is the unit in which
`modal billing rates` answers, and the seconds' prices on modal.com/pricing are these, rounded. They are those
published on 2026-07-01 and unchanged on 2026-08-19. A real workspace's own are had by
`modal.Workspace.from_context().billing.rates()`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import Final

GPU_USD_MICROS_PER_HOUR: Final[Mapping[str, int]] = MappingProxyType(
    {
        "T4": 590_000,
        "L4": 800_000,
        "A10": 1_100_000,
        "L40S": 1_950_000,
        "A100-40GB": 2_100_000,
        "A100-80GB": 2_500_000,
        "RTX-PRO-6000": 3_030_000,
        "H100": 3_950_000,
        "H200": 4_540_000,
        "B200": 6_250_000,
        "B300": 7_100_000,
    }
)
# Other ways in which a request may name the same price. "!" forbids an upgrade; "B200+" allows one at B200's price.
# "any" may be any card; the stand-in, which has none, bills the cheapest.
_ALIASES: Final = {"A10G": "A10", "A100": "A100-40GB", "H100!": "H100", "B200+": "B200", "ANY": "T4"}
# The keys of `billing.rates()`, as a workspace answered them on 2026-09-20.
_RATE_KEYS: Final = {
    "A10": "gpu_hour_cost_a10g",
    "A100-40GB": "gpu_hour_cost_a100_40gb",
    "A100-80GB": "gpu_hour_cost_a100_80gb",
    "RTX-PRO-6000": "gpu_hour_cost_rtx6000",
}
CPU_KEY: Final = "cpu_hour_cost"
MEMORY_KEY: Final = "mem_gib_hour_cost"

MIN_CPU_CORES: Final = 0.125
MIN_MEMORY_MIB: Final = 128
# modal.com/pricing: a region costs more, a narrow one (`us-west`) more than a broad one (`us`).
BROAD_REGION_FACTOR: Final = Decimal("1.5")
NARROW_REGION_FACTOR: Final = Decimal("1.75")
NONPREEMPTIBLE_FACTOR: Final = 3

# Modal's bills have eight places ("1.08346824").
USD_QUANTUM: Final = Decimal("0.00000001")
_MICROS_PER_USD: Final = 1_000_000
_MICROSECONDS_PER_HOUR: Final = 3_600_000_000


class UnknownGpuError(ValueError):
    """A GPU type without a price.

    Args:
        name: what was asked for.
        known: what has a price.
    """

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"Expected one of {', '.join(known)}, got {name!r}. Add its price to the table.")
        self.name = name
        self.known = known


@dataclass(frozen=True, slots=True)
class Shape:
    """What a container occupies.

    Attributes:
        gpu_type: empty for none.
        cpu_cores: physical cores; what is below the minimum is billed as the minimum.
        region: as the function asks for it; empty for anywhere.
        nonpreemptible: CPU and memory then cost three times as much.
    """

    gpu_type: str = ""
    gpu_count: int = 0
    cpu_cores: float = MIN_CPU_CORES
    memory_mib: int = MIN_MEMORY_MIB
    region: str = ""
    nonpreemptible: bool = False


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices in micro-dollars per hour, of one GPU, one physical core, one GiB of memory."""

    gpu_usd_micros_per_hour: Mapping[str, int] = field(default_factory=lambda: GPU_USD_MICROS_PER_HOUR)
    cpu_usd_micros_per_core_hour: int = 47_300
    memory_usd_micros_per_gib_hour: int = 8_000

    def gpu(self, name: str) -> int:
        """The price of one card.

        Raises:
            UnknownGpuError: it has none.
        """
        price = self.gpu_usd_micros_per_hour.get(gpu_name(name))
        if price is None:
            raise UnknownGpuError(name, sorted(self.gpu_usd_micros_per_hour))
        return price

    def usd_micros_per_hour(self, shape: Shape) -> dict[str, Decimal]:
        """What an hour of a container costs, by resource: the GPU's name, `CPU`, `Memory`.

        Raises:
            UnknownGpuError: the GPU has no price.
        """
        region = region_factor(shape.region)
        cores = Decimal(str(max(shape.cpu_cores, MIN_CPU_CORES)))
        gibibytes = Decimal(max(shape.memory_mib, MIN_MEMORY_MIB)) / 1024
        host = region * (NONPREEMPTIBLE_FACTOR if shape.nonpreemptible else 1)
        costs = {
            "CPU": cores * self.cpu_usd_micros_per_core_hour * host,
            "Memory": gibibytes * self.memory_usd_micros_per_gib_hour * host,
        }
        if shape.gpu_type and shape.gpu_count:
            costs = {gpu_name(shape.gpu_type): shape.gpu_count * self.gpu(shape.gpu_type) * region, **costs}
        return costs

    def rates(self) -> dict[str, Decimal]:
        """Dollars per hour by the keys of `billing.rates()`."""
        hourly = {CPU_KEY: self.cpu_usd_micros_per_core_hour, MEMORY_KEY: self.memory_usd_micros_per_gib_hour}
        for name, price in self.gpu_usd_micros_per_hour.items():
            hourly[_RATE_KEYS.get(name, f"gpu_hour_cost_{name.lower()}")] = price
        return {key: Decimal(price) / _MICROS_PER_USD for key, price in hourly.items()}


def gpu_name(name: str) -> str:
    """The name by which a card is priced: `A100-40GB` for `a100`."""
    upper = name.upper()
    return _ALIASES.get(upper, upper)


def region_factor(region: str) -> Decimal:
    """By what prices are multiplied in a region."""
    if not region:
        return Decimal(1)
    return NARROW_REGION_FACTOR if "-" in region else BROAD_REGION_FACTOR


def cost_usd(usd_micros_per_hour: Decimal, start_s: float, end_s: float, *, born_s: float) -> Decimal:
    """Dollars for the part of a life between two times, to eight places.

    The cost since birth is rounded, and the part is the difference of two such. So the parts of a life add up to the
    cost of the whole, however it is cut.

    Args:
        usd_micros_per_hour: price of what lives.
        start_s: unix seconds.
        end_s: unix seconds, not before `start_s`.
        born_s: unix seconds; nothing before it costs.
    """
    return _since_birth(usd_micros_per_hour, end_s - born_s) - _since_birth(usd_micros_per_hour, start_s - born_s)


def _since_birth(usd_micros_per_hour: Decimal, age_s: float) -> Decimal:
    microseconds = max(0, round(age_s * 1e6))
    usd = usd_micros_per_hour * microseconds / _MICROSECONDS_PER_HOUR / _MICROS_PER_USD
    return usd.quantize(USD_QUANTUM, ROUND_HALF_UP)
