"""What a policy is: a job and a picture of the cluster in, a verdict with its receipt out."""

from dataclasses import dataclass
from typing import Protocol

from ledger.decisions import Decision, Receipt, SpillState
from ledger.models import JobRecord, Kind
from ledger.view import ClusterView


@dataclass(frozen=True)
class Verdict:
    """A decision about one job, why, the policy's memory afterwards (None: unchanged), and what it is `otherwise`.

    If a hard limit refuses the decision, the job gets that one; None: it is held, or shed.
    """

    job_id: str
    decision: Decision
    receipt: Receipt
    spill: SpillState | None = None
    otherwise: Decision | None = None


class Policy(Protocol):
    """One way to place jobs."""

    @property
    def name(self) -> str:
        """As settings and receipts call it."""

    def decide(self, job: JobRecord, view: ClusterView) -> Verdict:
        """Where a job that has just arrived (or failed an attempt, or was held) runs."""

    def spill_state(self, kind: Kind, view: ClusterView) -> SpillState:
        """The policy's memory as of now: a tick may change it although no job arrives."""
