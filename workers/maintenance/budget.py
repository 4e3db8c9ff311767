"""The last staged action, off by default: when a budget is spent, running calls of low priority are cancelled.

Newest first, and only as many as bring the budget back to where it drains, so that priority jobs can go on. Their jobs
are not lost: they are decided about again, and held or run in-house.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from infra.settings import Settings
from ledger import Ledger
from ledger.budget import BudgetView, ScopeView
from ledger.nudges import Nudge
from ledger.outcomes import LiveCall, Requeued
from ledger.retries import Cause
from ledger.stages import Stage, stage_of
from modal_apps.gpus import parse
from workers.maintenance.duties import BATCH
from workers.placement.stages import to_cancel

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SpentScope:
    """A budget in which nothing fits any more, and whose calls are its own."""

    name: str
    #: What should come back, micro-dollars.
    over_usd_micros: int
    owns: Callable[[LiveCall], bool]


def spent_scopes(view: BudgetView, settings: Settings) -> Iterator[SpentScope]:
    """The budgets that are spent: not even the cheapest render's reservation fits."""
    least = min(
        settings.modal.prices.cost_usd_micros(parse(name), settings.modal.render_call_estimate_s)
        for name in settings.modal.render_classes
    )

    def spent(name: str, scope: ScopeView, owns: Callable[[LiveCall], bool]) -> Iterator[SpentScope]:
        committed = max(0, scope.spent_usd_micros) + scope.reserved_usd_micros
        cap = scope.cap_usd_micros
        if cap is not None and stage_of(committed, cap, least_usd_micros=least) is Stage.STOP:
            yield SpentScope(name, committed - int(view.limits.drain_ratio * cap), owns)

    def each(label: str, scopes: Mapping[str, ScopeView]) -> Iterator[SpentScope]:
        for name, scope in scopes.items():
            yield from spent(f"{label}:{name}", scope, lambda call, name=name: str(getattr(call, label)) == name)  # type: ignore[misc]  # mypy cannot infer a lambda with a default

    yield from spent("month", view.month, lambda _: True)
    yield from spent("day", view.day, lambda _: True)
    yield from each("tenant", view.tenants)
    yield from each("kind", view.kinds)


def cancel_at_stop(ledger: Ledger, settings: Settings, *, send: Callable[[Nudge], object]) -> int:
    """Cancel what has to go, if the setting says so; returns how many calls.

    Args:
        ledger: the ledger.
        settings: whether this is wanted at all, and what the cheapest render costs.
        send: sends a nudge for a job that waits again.
    """
    if not settings.budget.cancel_at_stop:
        return 0
    view = ledger.money.view()
    scopes = list(spent_scopes(view, settings))
    if not scopes:
        return 0
    live, coming_back = ledger.money.live_calls(limit=BATCH)
    chosen: dict[str, tuple[LiveCall, str]] = {}
    for scope in scopes:
        # (What is being stopped for another scope's sake may be another tenant's: then less comes back, and the next
        # round takes more.)
        for call in to_cancel(
            filter(scope.owns, live),
            below_priority=view.limits.drain_priority,
            over_usd_micros=scope.over_usd_micros - coming_back,
        ):
            chosen.setdefault(call.job_id, (call, scope.name))
    for call, name in chosen.values():
        log.warning("call.cancelled_at_stop", job_id=call.job_id, attempt=call.attempt, scope=name)
        outcome = ledger.attempts.fail(
            call.job_id,
            call.attempt,
            cause=Cause.BUDGET,
            message=f"the budget of {name} is spent, and calls of low priority are cancelled",
            max_attempts=settings.attempts.max_attempts_of(call.kind),
            jitter=random.random(),
            call_may_run=True,
        )
        if isinstance(outcome, Requeued):
            send(outcome.nudge)
    return len(chosen)
