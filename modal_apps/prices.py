"""What a GPU class costs: the catalogue's prices, with the deployment's own over them, times the region's factor. Pure.

A class that costs nothing would make every budget meaningless, so a price of 0 is refused wherever it comes from.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from modal_apps.gpus import NANOS_PER_MICRO, GpuClass, parse

NANOS_PER_USD = 1_000_000_000
SECONDS_PER_HOUR = 3600


class NoPrice(ValueError):
    """A class has no price, or one that cannot be."""

    def __init__(self, name: str, usd_per_hour: float) -> None:
        self.name = name
        self.usd_per_hour = usd_per_hour
        super().__init__(
            f"expected a price above 0 dollars an hour for the GPU class {name}, got {usd_per_hour:g}. With a free "
            "class no budget means anything; set its price in OVERSPILL_MODAL_PRICES_USD_PER_HOUR."
        )


@dataclass(frozen=True)
class PriceList:
    """Prices of containers.

    Attributes:
        usd_per_hour: of one GPU by its type (`H100`), or of all GPUs of a class with a count (`A100-80GB:4`), dollars
            an hour; what is missing has the catalogue's price.
        region_factor: what Modal multiplies by for the region that was chosen (1.5 to 1.75 in the US, say).
    """

    usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    region_factor: float = 1.0

    def priced(self, gpu: GpuClass) -> GpuClass:
        """The class with this list's price of one GPU."""
        if gpu.name in self.usd_per_hour:
            return replace(gpu, usd_nanos_per_s=_nanos_per_s(self.usd_per_hour[gpu.name] / gpu.count))
        if gpu.type in self.usd_per_hour:
            return replace(gpu, usd_nanos_per_s=_nanos_per_s(self.usd_per_hour[gpu.type]))
        return gpu

    def usd_nanos_per_s(self, gpu: GpuClass | str) -> int:
        """What a container costs each second, cores and memory included, nano-dollars.

        Raises:
            UnknownGpuClass: the name stands for no class.
        """
        known = parse(gpu) if isinstance(gpu, str) else gpu
        return round(self.priced(known).price_usd_nanos_per_s() * self.region_factor)

    def cost_usd_micros(self, gpu: GpuClass, seconds: float) -> int:
        """What a number of seconds of a container costs, micro-dollars, rounded up."""
        return math.ceil(self.usd_nanos_per_s(gpu) * max(0.0, seconds) / NANOS_PER_MICRO)

    def check(self, names: list[str]) -> None:
        """Refuse a list by which one of the classes, or one that it names itself, would be free.

        Raises:
            NoPrice: a price is 0, negative, or no number.
            UnknownGpuClass: a name stands for no class.
        """
        for name, usd_per_hour in self.usd_per_hour.items():
            parse(name)
            if not (math.isfinite(usd_per_hour) and usd_per_hour > 0):
                raise NoPrice(name, usd_per_hour)
        for name in names:
            gpu = self.priced(parse(name))
            if gpu.usd_nanos_per_s <= 0:
                raise NoPrice(name, gpu.usd_nanos_per_s * SECONDS_PER_HOUR / NANOS_PER_USD)


def _nanos_per_s(usd_per_hour: float) -> int:
    return round(usd_per_hour * NANOS_PER_USD / SECONDS_PER_HOUR)
