"""What the stage of a budget means: who may still spill, and which calls are cancelled when nothing is left. Pure.

The stages themselves are in ledger/stages.py: warnings at 50 and 80 %, draining from 90 % (a setting), stop when what
is asked for does not fit any more. The ledger's script enforces draining and stopping; here it is advised, so that a
job that would be refused does not ask.
"""

from collections.abc import Iterable, Sequence

from ledger.decisions import Limits
from ledger.outcomes import LiveCall
from ledger.stages import Stage, stage_of
from ledger.view import MoneyView


def stage_of_view(money: MoneyView, limits: Limits) -> Stage:
    """The nearer stage of the month's and the day's budgets."""
    month = money.spent_usd_micros, limits.month_cap_usd_micros
    day = money.day_spent_usd_micros, limits.day_cap_usd_micros
    return max(
        stage_of(max(0, spent) + money.reserved_usd_micros, cap, drain_ratio=limits.drain_ratio)
        for spent, cap in (month, day)
    )


def may_spill(stage: Stage, priority: int, *, drain_priority: int) -> bool:
    """Whether a job of a priority may still be placed on Modal at a stage. At `stop` the cap itself decides."""
    return stage < Stage.DRAIN or priority >= drain_priority


def to_cancel(calls: Iterable[LiveCall], *, below_priority: int, over_usd_micros: int) -> Sequence[LiveCall]:
    """Which calls go when a budget is spent: those of low priority, newest first, until enough comes back.

    The newest have the least work in them to lose. What an attempt has used by now is spent either way, so what comes
    back is somewhat less than its reservation; the next sweep takes more if that was not enough.

    Args:
        calls: the live attempts.
        below_priority: only jobs below it go.
        over_usd_micros: how much should come back, micro-dollars; 0 or less: nothing goes.
    """
    chosen: list[LiveCall] = []
    left = over_usd_micros
    candidates = [call for call in calls if call.priority < below_priority]
    for call in sorted(candidates, key=lambda call: (call.placed_ms, call.job_id), reverse=True):
        if left <= 0:
            break
        chosen.append(call)
        left -= call.reserved_usd_micros
    return chosen
