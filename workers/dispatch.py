"""Dispatch: claim the queued jobs that come next, ask the policy about each, commit each decision with its receipt."""

from collections import Counter
from collections.abc import Mapping
from functools import partial

import structlog

from infra.logs import bound
from infra.nudging import CeleryNudger
from infra.settings import Settings
from infra.tracing import of_job, tracing
from ledger import Kind, Ledger
from ledger.decisions import Receipt
from ledger.outcomes import ClaimedJob, Held, Placed, PlaceOutcome, Refused, Stale, WasShed
from workers.isolation import isolated
from workers.placement.by_kind import PolicyByKind
from workers.placement.gpu import GpuNeed
from workers.placement.holding import instead_of_modal
from workers.placement.policy import Policy, Verdict
from workers.placement.watermark import WatermarkPolicy
from workers.training.needs import train_policy

#: Jobs that a dispatcher claims at a time.
CLAIM_BATCH = 100
#: Life of a dispatcher's claim, seconds.
CLAIM_S = 10.0

log = structlog.get_logger(__name__)


def policy_from(settings: Settings, speeds: Mapping[str, float] | None = None) -> Policy:
    """The policies that the settings name: one for renders, and the one of train jobs.

    Args:
        settings: the settings.
        speeds: what the ledger has learnt of training (`ledger.placement.training_speeds()`); None: nothing.
    """
    return PolicyByKind(_usual_policy(settings), {Kind.TRAIN: train_policy(settings, speeds or {})})


def render_need(settings: Settings) -> GpuNeed:
    """What renders need on Modal."""
    return GpuNeed(
        allowed=settings.modal.render_classes,
        vram_gib=settings.modal.render_vram_gib,
        headroom_ratio=settings.modal.vram_headroom_ratio,
        needs_fp8=settings.modal.render_needs_fp8,
        # Cold start and execution, until it is certainly stopped, and the container's idle tail.
        call_estimate_s=settings.modal.render_call_estimate_s
        + settings.modal.stop_margin_s
        + settings.modal.scaledown_window_s,
        prices=settings.modal.prices,
        fallbacks=settings.modal.render_fallbacks,
    )


def _usual_policy(settings: Settings) -> Policy:
    match settings.placement.policy:
        case "watermark":
            return WatermarkPolicy(
                high=settings.placement.high_watermark,
                low=settings.placement.low_watermark,
                min_dwell_s=settings.placement.min_dwell_s,
                needs={Kind.RENDER: render_need(settings)},
            )


class Dispatcher:
    """Decides about queued jobs. Any number of them may run at once."""

    def __init__(self, ledger: Ledger, nudger: CeleryNudger, settings: Settings) -> None:
        self._ledger = ledger
        self._nudger = nudger
        self._settings = settings
        self._policy = policy_from(settings)

    def run(self, kind: Kind) -> dict[str, int]:
        """Decide about everything that is queued of a kind. Returns how often each decision was taken."""
        tally: Counter[str] = Counter()
        if kind is Kind.TRAIN:
            self._policy = policy_from(self._settings, self._ledger.placement.training_speeds())
        while claimed := self._ledger.placement.claim_queued(kind, limit=CLAIM_BATCH, lease_s=CLAIM_S):
            for job in claimed:
                parent = of_job(job.record.id, job.record.traceparent)
                with bound(**job.record.log_context()), tracing().span("decide", parent=parent, kind=kind) as span:
                    decided = str(isolated(self._ledger, job.record, partial(self._decide, job)))
                    span.note(job_id=job.record.id, decided=decided)
                tally[decided] += 1
        return dict(tally)

    def _decide(self, claimed: ClaimedJob) -> str:
        verdict = self._policy.decide(claimed.record, self._ledger.placement.view())
        outcome = self._commit(claimed, verdict)
        if isinstance(outcome, Refused):
            # The policy wanted Modal and a hard limit said no: the job waits, for our own GPUs or in the control plane.
            verdict = self._instead(claimed, verdict, outcome.reason)
            outcome = self._commit(claimed, verdict)
        match outcome:
            case Placed(attempt, nudge):
                log.info("job.placed", attempt=attempt, queue=nudge.queue, rule=verdict.receipt.rule)
                self._nudger.send(nudge)
                return "placed_" + ("modal" if nudge.queue == "overflow" else "inhouse")
            case Held():
                log.info("job.held", rule=verdict.receipt.rule)
                return "held"
            case WasShed():
                log.info("job.shed", rule=verdict.receipt.rule)
                return "shed"
            case Refused(reason):
                log.warning("job.refused_twice", reason=reason)
                return "refused"
            case Stale():
                return "stale"

    def _commit(self, claimed: ClaimedJob, verdict: Verdict) -> PlaceOutcome:
        return self._ledger.placement.place(
            claimed,
            verdict.decision,
            receipt=verdict.receipt,
            spill=verdict.spill,
        )

    def _instead(self, claimed: ClaimedJob, verdict: Verdict, reason: str) -> Verdict:
        """Modal was wanted and a limit said no: what the policy says then, or the job is held, or shed at once."""
        record, settings = claimed.record, self._settings
        decision = verdict.otherwise or instead_of_modal(
            reason,
            timeout_s=settings.placement.hold_timeout_of(record.kind, record.tenant),
            again_in_s=settings.placement.hold_again_s,
        )
        receipt = Receipt(
            policy=verdict.receipt.policy,
            rule=reason,
            decision=type(decision).__name__,
            signals={**verdict.receipt.signals, "wanted": verdict.receipt.rule},
        )
        return Verdict(verdict.job_id, decision, receipt, verdict.spill)
