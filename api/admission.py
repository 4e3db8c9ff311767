"""Admission: a job that would be refused a moment later is rejected before it is accepted.

A job that only Modal can run (it asks for that, or no in-house slot lives) and that a cap, the breaker or an operator
keeps off Modal is held or shed at once, depending on the hold time of its tenant and kind. A job that would be shed is
rejected here: 429 where a budget is spent, 503 where there is no room or Modal is unavailable, each with a Retry-After.
This module asks what a dispatcher would ask, of the same limits by the same script library. The script that places
re-checks every limit for the jobs that pass.
"""

from api.errors import ApiError, Overloaded, QuotaExhausted
from api.submission import as_submitted
from infra.settings import Settings
from ledger import Ledger
from ledger.decisions import RunOnModal
from ledger.models import JobRecord, RenderJob
from ledger.refusals import Refusal, is_about_dollars, public_code
from workers.dispatch import policy_from
from workers.overflow.breaker import Phase, breaker_from_json

#: Messages for the caller. Only the caller's own budget is named; which other cap applied stays internal.
_WORDS = {
    Refusal.TENANT_BUDGET: "Your budget for this month is spent or set aside.",
    Refusal.TENANT_DRAIN: "What is left of your budget for this month is kept for jobs of higher priority.",
    Refusal.BREAKER_OPEN: "The GPU cloud cannot be used at the moment.",
    Refusal.SPILL_OFF: "The GPU cloud is not in use at the moment.",
}


class Admission:
    """Compares a job that is about to be accepted with the limits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policy = policy_from(settings)

    def check(self, ledger: Ledger, job: RenderJob, *, idempotency_key: str | None, is_retry: bool) -> None:
        """Accept a job, or reject it.

        Args:
            ledger: the ledger.
            job: what is asked for.
            idempotency_key: the caller's; a job that was accepted under it before is accepted.
            is_retry: the caller has sent this request before; if that was accepted, this is.

        Raises:
            QuotaExhausted: a budget is spent.
            Overloaded: there is no room, or Modal cannot be used.
            LedgerUnavailable: the ledger did not answer.
        """
        if self._settings.placement.hold_timeout_of(job.kind, job.tenant) > 0:
            return  # it would be held: it is accepted, and its record names the reason
        view = ledger.placement.view()
        # As the ledger will accept it: its tenant may have ceilings.
        capped = self._settings.ledger.quotas.of(job.tenant).capped(job)
        decision = self._policy.decide(_imagined(capped, view.now_ms), view).decision
        if not isinstance(decision, RunOnModal):
            return
        reason = ledger.placement.would_refuse(decision, tenant=job.tenant, kind=job.kind, priority=capped.priority)
        if reason is None or ledger.jobs.was_accepted(job, idempotency_key=idempotency_key, is_retry=is_retry):
            return
        ledger.tally("rejected_total", f"kind={job.kind}|reason={reason}")
        breaker = breaker_from_json(ledger.modal_calls.breaker().memory)
        probe_in_s = max(0, breaker.probe_at_ms - view.now_ms) / 1000 if breaker.phase is Phase.OPEN else None
        retry_after_s = ledger.money.retry_after_s(reason, tenant=job.tenant, kind=str(job.kind), probe_in_s=probe_in_s)
        raise rejection(reason, retry_after_s)


def rejection(reason: Refusal, retry_after_s: int) -> ApiError:
    """The error response for a reason."""
    about_dollars = is_about_dollars(reason)
    what = _WORDS.get(
        reason,
        "The budget for GPUs in the cloud is spent or set aside." if about_dollars else "All GPUs are in use.",
    )
    message = f"{what} The job was not accepted. Try again in {retry_after_s} s."
    answer = QuotaExhausted if about_dollars else Overloaded
    return answer(message, code=public_code(reason), retry_after_s=retry_after_s, reason=reason)


def _imagined(job: RenderJob, now_ms: int) -> JobRecord:
    """The record that the job would have."""
    return as_submitted("imagined", job, now_ms)
