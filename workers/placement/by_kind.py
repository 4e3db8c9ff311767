"""A policy for each kind of job, behind the one interface."""

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.decisions import Receipt, RunInhouse, SpillState
from ledger.models import TRAINED_MODEL, JobRecord, Kind, RenderJob
from ledger.view import ClusterView
from workers.placement.policy import Policy, Verdict


@dataclass(frozen=True)
class PolicyByKind:
    """Asks the policy of a job's kind.

    Attributes:
        usual: the policy of every kind that has none of its own.
        special: the others.
    """

    usual: Policy
    special: Mapping[Kind, Policy]

    @property
    def name(self) -> str:
        """The usual policy's: receipts carry the name of the one that spoke."""
        return self.usual.name

    def decide(self, job: JobRecord, view: ClusterView) -> Verdict:
        """As the policy of its kind says. A render with a trained model stays in-house, where PyTorch is."""
        if isinstance(job.job, RenderJob) and job.job.model.startswith(TRAINED_MODEL):
            return Verdict(
                job.id, RunInhouse(), Receipt("model", "trained_model", "RunInhouse", {"model": job.job.model})
            )
        return self._of(job.kind).decide(job, view)

    def spill_state(self, kind: Kind, view: ClusterView) -> SpillState:
        """The memory of the policy of a kind."""
        return self._of(kind).spill_state(kind, view)

    def _of(self, kind: Kind) -> Policy:
        return self.special.get(kind, self.usual)
