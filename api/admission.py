"""Admission: a job that would be refused a moment later is rejected before it is accepted.

A job that only Modal can run (it asks for that, or no in-house slot lives) and that a cap, the breaker or an operator
keeps off Modal is held or shed at once, depending on the hold time of its tenant and kind. A job that would be shed is
rejected here: 429 where a budget is spent, 503 where there is no room or Modal is unavailable, each with a Retry-After.
This module asks what a dispatcher would ask. The ledger's script re-checks every limit for the jobs that pass.
"""

from api.errors import ApiError, Overloaded, QuotaExhausted
from api.submission import as_submitted
from infra.settings import Settings
from ledger import Ledger
from ledger.budget import BudgetView, ScopeView
from ledger.decisions import Limits, RunOnModal
from ledger.models import JobRecord, RenderJob
from ledger.refusals import Refusal, is_about_dollars, public_code
from ledger.stages import Stage
from workers.dispatch import policy_from
from workers.overflow.breaker import Breaker, Phase, breaker_from_json

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
        if self._settings.hold_timeout_of(job.kind, job.tenant) > 0:
            return  # it would be held: it is accepted, and its record names the reason
        view = ledger.placing.view()
        decision = self._policy.decide(_imagined(job, view.now_ms), view).decision
        if not isinstance(decision, RunOnModal):
            return
        breaker = breaker_from_json(ledger.following.breaker().memory)
        reason = refusal(
            decision,
            ledger.budget.view(self._settings.limits),
            self._settings.limits,
            tenant=job.tenant,
            kind=str(job.kind),
            priority=job.priority,
            override=view.override,
            breaker=breaker,
        )
        if reason is None or ledger.desk.was_accepted(job, idempotency_key=idempotency_key, is_retry=is_retry):
            return
        ledger.tally("rejected_total", f"kind={job.kind}|reason={reason}")
        probe_in_s = max(0, breaker.probe_at_ms - view.now_ms) / 1000 if breaker.phase is Phase.OPEN else None
        retry_after_s = ledger.budget.retry_after_s(
            reason, tenant=job.tenant, kind=str(job.kind), probe_in_s=probe_in_s
        )
        raise rejection(reason, retry_after_s)


def refusal(
    decision: RunOnModal,
    budget: BudgetView,
    limits: Limits,
    *,
    tenant: str,
    kind: str,
    priority: int,
    override: str,
    breaker: Breaker,
) -> Refusal | None:
    """The limit that would refuse this placement now, in the order of the ledger's script; None: no limit would."""
    if override == "off":
        return Refusal.SPILL_OFF
    if breaker.phase is Phase.OPEN:
        return Refusal.BREAKER_OPEN
    return _dollars(decision, budget, limits, tenant=tenant, kind=kind, priority=priority) or _room(decision, budget)


def _dollars(
    decision: RunOnModal, budget: BudgetView, limits: Limits, *, tenant: str, kind: str, priority: int
) -> Refusal | None:
    nothing = ScopeView(None, 0, 0, Stage.OK)
    # A tenant of whom nothing was ever booked is not in the view, but has a cap nevertheless.
    fresh = ScopeView(limits.tenant_cap(tenant), 0, 0, Stage.OK)
    scopes = (
        (budget.month, Refusal.MONTH_BUDGET, Refusal.MONTH_DRAIN),
        (budget.day, Refusal.DAY_BUDGET, Refusal.DAY_DRAIN),
        (budget.tenants.get(tenant, fresh), Refusal.TENANT_BUDGET, Refusal.TENANT_DRAIN),
        (budget.kinds.get(kind, nothing), Refusal.KIND_BUDGET, Refusal.KIND_DRAIN),
    )
    for scope, spent, _ in scopes:
        left = scope.left_usd_micros
        if left is not None and decision.reserve_usd_micros > left:
            return spent
    if priority < limits.drain_priority:
        for scope, _, drains in scopes:
            if scope.stage >= Stage.DRAIN:
                return drains
    return None


def _room(decision: RunOnModal, budget: BudgetView) -> Refusal | None:
    """Caps on what is alive at once. While a container idles, which the job might take, they are left to the script."""
    if budget.calls.cap is not None and budget.calls.used >= budget.calls.cap:
        return Refusal.MODAL_CALLS_AT_CAP
    if budget.containers.used > budget.calls.used:
        return None
    rate = budget.hour_rate.used + decision.usd_nanos_per_s * 3600 // 1000
    for used, cap, reason in (
        (rate, budget.hour_rate.cap, Refusal.HOUR_RATE),
        (budget.gpus.used + decision.gpus, budget.gpus.cap, Refusal.GPUS_AT_CAP),
        (budget.containers.used + 1, budget.containers.cap, Refusal.CONTAINERS_AT_CAP),
    ):
        if cap is not None and used > cap:
            return reason
    return None


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
