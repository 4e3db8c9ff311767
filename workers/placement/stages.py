"""What the stage of a budget means: who may still spill, and which calls are cancelled when nothing is left. Pure.

The stages themselves are in ledger/stages.py: warnings at 50 and 80 %, draining from 90 % (a limit), stop when what is
asked for does not fit any more. The ledger says at which stage it is, and its script enforces draining and stopping;
here a job that would be refused is advised not to ask.
"""

from collections.abc import Iterable, Sequence

from ledger.outcomes import LiveCall
from ledger.stages import Stage
from ledger.view import MoneyView


def may_spill(money: MoneyView, priority: int) -> bool:
    """Whether a job of a priority may still be placed on Modal. At `stop` the cap itself decides."""
    return money.stage < Stage.DRAIN or priority >= money.drain_priority


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
