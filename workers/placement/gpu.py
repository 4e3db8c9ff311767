"""Which Modal GPU class a job needs, and how many dollars are set aside for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ledger.decisions import RunOnModal
from ledger.models import JobRecord, Kind
from modal_apps.gpus import CATALOGUE, GpuClass, cheapest, parse
from modal_apps.prices import PriceList


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
    #: Types to fall back to, in this order, when none of the allowed ones comes.
    fallbacks: Sequence[str] = ()

    def choose(self, *, larger_than: str | None = None, without: Sequence[str] = ()) -> GpuClass | None:
        """The class for a job; None if none fits.

        Args:
            larger_than: the class on which the job ran out of memory; only one with more memory will do: the allowed
                types and the fallbacks first, then any of the catalogue.
            without: classes of which no GPU came; when they are all there is, they are tried again.
        """
        if larger_than is not None:
            larger = [gpu.type for gpu in CATALOGUE if gpu.vram_gib > parse(larger_than).vram_gib]
            known = [name for name in (*self.allowed, *self.fallbacks) if name in larger]
            return self._cheapest(_minus(known, without)) or self._cheapest(known) or self._cheapest(larger)
        left = _minus(self.fallbacks, without)
        return (
            self._cheapest(_minus(self.allowed, without))
            or next((found for name in left if (found := self._cheapest([name])) is not None), None)
            or self._cheapest(self.allowed)
        )

    def on_modal(self, job: JobRecord | None = None) -> RunOnModal | None:
        """The decision to run on the class that fits, with its reservation; None if none does.

        `job` tells on which class it ran out of memory before, and of which no GPU came.
        """
        chosen = self.choose() if job is None else self.choose(larger_than=job.outgrown_gpu, without=job.exhausted_gpus)
        if chosen is None:
            return None
        return RunOnModal(
            gpu=chosen.name,
            reserve_usd_micros=self.prices.cost_usd_micros(chosen, self.call_estimate_s),
            usd_nanos_per_s=self.prices.usd_nanos_per_s(chosen),
            gpus=chosen.count,
        )

    def _cheapest(self, types: Sequence[str]) -> GpuClass | None:
        return cheapest(types, vram_gib=self.vram_gib, headroom_ratio=self.headroom_ratio, needs_fp8=self.needs_fp8)


def _minus(types: Sequence[str], without: Sequence[str]) -> list[str]:
    return [name for name in types if name not in without]


#: Kinds that can run on Modal, each with its need. A kind that is missing stays in-house.
GpuNeeds = dict[Kind, GpuNeed]
