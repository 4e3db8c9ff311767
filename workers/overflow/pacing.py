"""When to look at a call again: pure, from what is known of it.

A look costs a follower one to two milliseconds, so ten thousand calls cannot each be looked at every second. While a
call's hints come, its end will be said, and looks are rare; where none come, they follow the call's age. Whatever the
calls, one follower makes no more than about so many looks a second.
"""

from dataclasses import dataclass

from ledger.outcomes import DueCall

#: A call that said that it ended is looked at after this share of the time since, within these bounds, seconds.
_ENDED_SHARE, _ENDED_MIN_S, _ENDED_MAX_S = 0.5, 0.25, 5.0
#: A call without hints is looked at after this share of its age.
_AGE_SHARE = 0.1
#: Look so long after the predicted end of a call, seconds, and this much of what remains: its hint should have come.
_AFTER_THE_END_S, _LATE_RATIO = 2.0, 1.25
#: However far the predicted end is, a call whose hints come is looked at after so many of its usual intervals.
_HINTED_TIMES = 6
#: Calls whose hints come get this much rarer a part of a follower's looks.
_HINTED_PART = 2.0
#: Longest time between two looks, whatever the load, seconds.
LONGEST_S = 300.0


@dataclass(frozen=True)
class Pace:
    """The bounds. Seconds, and looks a second of one follower."""

    first_s: float
    unhinted_max_s: float
    hinted_s: float
    looks_per_s: float


def next_look_s(call: DueCall, pace: Pace, *, in_flight_each: float) -> float:
    """Seconds until the next look at a call that was just found running.

    Args:
        call: what is known of it.
        pace: the bounds.
        in_flight_each: calls in flight for each follower: what this one has to share its looks among.
    """
    age_s = (call.now_ms - call.spawned_ms) / 1000
    left_s = max(0.1, (call.call_deadline_ms - call.now_ms) / 1000)
    if call.said_ended_ms is not None:
        since_s = (call.now_ms - call.said_ended_ms) / 1000
        return min(left_s, max(_ENDED_MIN_S, min(_ENDED_MAX_S, since_s * _ENDED_SHARE)))
    share_s = in_flight_each / pace.looks_per_s
    if call.hinted_ms is None:
        wanted_s = max(share_s, min(pace.unhinted_max_s, max(pace.first_s, age_s * _AGE_SHARE)))
    elif hints_vouch(call, pace):
        # Until then it costs no look, so it need not be rarer because calls are many: its last hint may be lost.
        wanted_s = _hinted_s(call, pace)
    else:
        wanted_s = max(share_s * _HINTED_PART, _hinted_s(call, pace))
    return min(left_s, LONGEST_S, wanted_s)


def hints_vouch(call: DueCall, pace: Pace) -> bool:
    """Whether a due call's hints say as much as a look would: it spoke a moment ago, and has a while to go.

    One whose hints have stopped, which should have ended, said that it ended, or is past its deadline, is looked at.
    """
    if call.hinted_ms is None or call.said_ended_ms is not None or call.now_ms >= call.call_deadline_ms:
        return False
    remaining_s = predicted_remaining_s(call)
    silent_s = (call.now_ms - call.hinted_ms) / 1000
    return remaining_s is not None and remaining_s > 0 and silent_s <= pace.hinted_s


def _hinted_s(call: DueCall, pace: Pace) -> float:
    """Its hints come: look after its predicted end, in case that the last one should be lost."""
    remaining_s = predicted_remaining_s(call)
    if remaining_s is None:
        return pace.hinted_s
    if remaining_s == 0:
        # It should have ended, and did not say so.
        return pace.hinted_s / 4
    return min(_HINTED_TIMES * pace.hinted_s, remaining_s * _LATE_RATIO + _AFTER_THE_END_S)


def predicted_remaining_s(call: DueCall) -> float | None:
    """Seconds until a call should end, by how far it is; None: it has not said."""
    if call.begun_ms is None or call.hinted_ms is None or call.progress <= 0:
        return None
    ran_s = (call.hinted_ms - call.begun_ms) / 1000
    whole_s = ran_s / min(1.0, call.progress / 100)
    return max(0.0, whole_s - (call.now_ms - call.begun_ms) / 1000)
