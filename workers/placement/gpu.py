"""Which Modal GPU class a job needs, and how many dollars are set aside for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ledger.decisions import RunOnModal
from ledger.models import Kind
from modal_apps.gpus import GpuClass, cheapest
from workers.placement.prices import PriceList


@dataclass(frozen=True)
class GpuNeed:
    """What jobs of one kind need on Modal."""

    #: Types that have been validated for this kind.
    allowed: Sequence[str]
    vram_gib: float
    headroom_ratio: float
    needs_fp8: bool
    #: Upper estimate of one call's seconds, cold start included; sizes the reservation.
    call_estimate_s: float
    #: What the classes cost here.
    prices: PriceList = field(default_factory=PriceList)

    def choose(self) -> GpuClass | None:
        """The cheapest class that fits; None if none does."""
        return cheapest(
            self.allowed, vram_gib=self.vram_gib, headroom_ratio=self.headroom_ratio, needs_fp8=self.needs_fp8
        )

    def on_modal(self) -> RunOnModal | None:
        """The decision to run on the class that fits, with its reservation; None if none does."""
        chosen = self.choose()
        if chosen is None:
            return None
        return RunOnModal(
            gpu=chosen.name,
            reserve_usd_micros=self.prices.cost_usd_micros(chosen, self.call_estimate_s),
            usd_nanos_per_s=self.prices.usd_nanos_per_s(chosen),
            gpus=chosen.count,
        )


#: Kinds that can run on Modal, each with its need. A kind that is missing stays in-house.
GpuNeeds = dict[Kind, GpuNeed]
