"""The watermark policy: spill above a depth of the in-house queue, stop below a lower one, with a least dwell.

The founding documents' own rule (002, section 16): two thresholds, not one, so that it does not flap. It knows no
deadlines; replayed traces show that a depth that is right for one trace is wrong for the next. It is the simple mode
and the reference.
"""

from dataclasses import dataclass, field

from ledger.decisions import Decision, Receipt, RunInhouse, SpillState
from ledger.models import BurstMode, JobRecord, Kind
from ledger.view import ClusterView, KindView
from workers.placement.gpu import GpuNeeds
from workers.placement.policy import Verdict
from workers.placement.stages import may_spill


@dataclass(frozen=True)
class WatermarkPolicy:
    """Spill while the in-house queue is deep.

    Attributes:
        high: begin to spill when at least so many jobs wait in-house.
        low: stop when no more than so many wait.
        min_dwell_s: shortest time between two changes of mind, seconds.
        needs: which kinds can run on Modal, and on what.
    """

    high: int
    low: int
    min_dwell_s: float
    needs: GpuNeeds = field(default_factory=dict)
    name: str = "watermark"

    def decide(self, job: JobRecord, view: ClusterView) -> Verdict:
        """In-house or Modal, by the depth of the in-house queue of the job's kind."""
        here = view.of(job.kind)
        spill = self.spill_state(job.kind, view)
        rule, decision = self._rule(job, view, spill)
        receipt = Receipt(
            policy=self.name,
            rule=rule,
            decision=type(decision).__name__,
            signals={
                "waiting_inhouse": here.waiting_inhouse,
                "active_inhouse": here.active_inhouse,
                "live_slots": here.live_slots,
                "spilling": spill.active,
                "high_watermark": self.high,
                "low_watermark": self.low,
                "modal_attempts": view.modal_attempts,
                "spent_usd_micros": view.money.spent_usd_micros,
                "reserved_usd_micros": view.money.reserved_usd_micros,
                "budget_stage": view.money.stage.word,
                "override": view.override,
            },
        )
        return Verdict(job.id, decision, receipt, spill if spill != here.spill else None)

    def spill_state(self, kind: Kind, view: ClusterView) -> SpillState:
        """Whether to spill from now on: the queue may have run short since the last job came."""
        return next_spill_state(
            view.of(kind), now_ms=view.now_ms, high=self.high, low=self.low, min_dwell_s=self.min_dwell_s
        )

    def _rule(self, job: JobRecord, view: ClusterView, spill: SpillState) -> tuple[str, Decision]:
        if job.burst is BurstMode.NEVER:
            return "burst_never", RunInhouse()
        need = self.needs.get(job.kind)
        on_modal = need.on_modal(job) if need is not None else None
        if on_modal is None:
            return "no_modal_class", RunInhouse()
        if job.burst is BurstMode.ALWAYS:
            return "burst_always", on_modal
        rule, spills = self._auto_rule(job, view, spill)
        return rule, on_modal if spills else RunInhouse()

    def _auto_rule(self, job: JobRecord, view: ClusterView, spill: SpillState) -> tuple[str, bool]:
        """Whether a job that left the choice to us spills."""
        if view.override == "off":
            return "spill_off", False
        if view.of(job.kind).live_slots == 0:
            return "no_live_slot", True
        if not may_spill(view.money, job.priority):
            return "budget_drains", False
        if view.override == "on":
            return "spill_on", True
        return ("above_watermark", True) if spill.active else ("below_watermark", False)


def next_spill_state(here: KindView, *, now_ms: int, high: int, low: int, min_dwell_s: float) -> SpillState:
    """Whether to spill from now on. The first change of mind needs no dwell."""
    was = here.spill
    dwelt = was.since_ms == 0 or now_ms - was.since_ms >= min_dwell_s * 1000
    if not dwelt:
        return was
    if not was.active and here.waiting_inhouse >= high:
        return SpillState(active=True, since_ms=now_ms)
    if was.active and here.waiting_inhouse <= low:
        return SpillState(active=False, since_ms=now_ms)
    return was
