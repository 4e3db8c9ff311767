"""Whether a job that is asked for now would be refused a moment later; then it is refused at the door, honestly.

A job that only Modal can run (it says so, or no in-house slot lives) and that a cap, the breaker or an operator keeps
off Modal is held, or shed at once, as the hold time of its tenant and kind says. Where it would be shed at once, the
caller is told so now: 429 where a budget is spent, 503 where there is no room or Modal is away, each with the time
after which it makes sense to come back. What is asked here is what a dispatcher would ask, of the same script, so the
answer is its own; the script that places stays the law, for whoever slips through.
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

#: Why, in words for whoever asks. Which cap it was is ours to know, but for the caller's own.
_WORDS = {
    Refusal.TENANT_BUDGET: "Your budget for this month is spent or set aside.",
    Refusal.TENANT_DRAIN: "What is left of your budget for this month is kept for jobs of higher priority.",
    Refusal.BREAKER_OPEN: "The GPU cloud cannot be used at the moment.",
    Refusal.SPILL_OFF: "The GPU cloud is not in use at the moment.",
}


class Admission:
    """The door's own look at the limits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policy = policy_from(settings)

    def check(self, ledger: Ledger, job: RenderJob, *, idempotency_key: str | None, is_retry: bool) -> None:
        """Let a job pass, or refuse it.

        Args:
            ledger: whom to ask.
            job: what is asked for.
            idempotency_key: the caller's; a job that was accepted under it passes.
            is_retry: the caller says that it has sent this request before; if it was accepted then, it passes.

        Raises:
            QuotaExhausted: a budget is spent.
            Overloaded: there is no room, or Modal cannot be used.
            LedgerUnavailable: the ledger did not answer.
        """
        if self._settings.hold_timeout_of(job.kind, job.tenant) > 0:
            return  # it would be held: it is accepted, and says why it waits
        view = ledger.placing.view()
        decision = self._policy.decide(_imagined(job, view.now_ms), view).decision
        if not isinstance(decision, RunOnModal):
            return
        reason = ledger.placing.would_refuse(decision, tenant=job.tenant, kind=job.kind, priority=job.priority)
        if reason is None or ledger.desk.was_accepted(job, idempotency_key=idempotency_key, is_retry=is_retry):
            return
        ledger.tally("turned_away_total", f"kind={job.kind}|reason={reason}")
        breaker = breaker_from_json(ledger.following.breaker().memory)
        probe_in_s = max(0, breaker.probe_at_ms - view.now_ms) / 1000 if breaker.phase is Phase.OPEN else None
        retry_after_s = ledger.budget.retry_after_s(
            reason, tenant=job.tenant, kind=str(job.kind), probe_in_s=probe_in_s
        )
        raise turned_away(reason, retry_after_s)


def turned_away(reason: Refusal, retry_after_s: int) -> ApiError:
    """The answer to a request that is refused for this reason."""
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
