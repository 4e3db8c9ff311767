"""One consistent picture of the cluster, as a policy sees it: read by one script, frozen, with no clock of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.decisions import SpillState
from ledger.models import Kind
from ledger.stages import Stage


@dataclass(frozen=True)
class KindView:
    """One kind of job. What runs on Modal never counts into the in-house depth, or one spill would cause the next."""

    #: Accepted, no decision yet.
    queued: int = 0
    #: Placed in-house and waiting for a slot.
    waiting_inhouse: int = 0
    #: Running or being delivered in-house.
    active_inhouse: int = 0
    #: In-house slots with a live lease.
    live_slots: int = 0
    #: Age of the job that has waited longest for an in-house slot, milliseconds.
    oldest_waiting_ms: int = 0
    #: The watermark policy's memory.
    spill: SpillState = SpillState()

    @property
    def free_slots(self) -> int:
        """Live slots that neither run nor are about to take a waiting attempt."""
        return max(0, self.live_slots - self.active_inhouse - self.waiting_inhouse)


@dataclass(frozen=True)
class MoneyView:
    """Dollars on Modal, micro-dollars: spent this month (UTC), set aside now, and spent today; and what limits say."""

    spent_usd_micros: int = 0
    reserved_usd_micros: int = 0
    day_spent_usd_micros: int = 0
    #: The nearer stage of the month's and the day's budgets.
    stage: Stage = Stage.OK
    #: The least priority that still spills while a budget drains.
    drain_priority: int = 0
    #: Modal attempts that may be alive at once; 0: nothing may go there.
    max_modal_attempts: int = 1


@dataclass(frozen=True)
class ClusterView:
    """Everything that a decision may look at."""

    now_ms: int
    kinds: Mapping[Kind, KindView]
    #: Modal attempts alive: waiting for their spawn, running, or being delivered.
    modal_attempts: int = 0
    held: int = 0
    money: MoneyView = MoneyView()
    #: The operator's hand on spilling: `auto`, `on` (spill whatever fits) or `off` (nothing).
    override: str = "auto"

    def of(self, kind: Kind) -> KindView:
        """The picture of one kind."""
        return self.kinds.get(kind, KindView())
