"""The schedule of polls: which calls are due, who holds them, and when each is polled again.

A poll costs a follower one to two milliseconds, so ten thousand calls cannot each be polled every second. While a call
sends hints, it will announce its own end, and polls are rare. Without hints, the interval follows the call's age.
Whatever the calls, one follower makes about `polls_per_s` polls a second at most.

`next_poll_s` and `hints_suffice` are pure. `Schedule` claims what is due from the ledger and reschedules what still
runs, a batch at a time.
"""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from ledger import Ledger, LedgerError
from ledger.outcomes import DueCall, DueCalls
from ledger.polling import Release
from workers.isolation import isolated_batch

log = structlog.get_logger(__name__)

#: A call that said that it ended is polled again after this share of the time since, within these bounds, seconds.
_ENDED_SHARE, _ENDED_MIN_S, _ENDED_MAX_S = 0.5, 0.25, 5.0
#: A call without hints is polled again after this share of its age.
_AGE_SHARE = 0.1
#: A call with hints is polled this long after its predicted end, seconds, plus this share of what remains until then:
#: its last hint should have come before.
_AFTER_THE_END_S, _LATE_RATIO = 2.0, 1.25
#: However far its predicted end is, a call with hints is polled after this many intervals of `hinted_s` at the latest.
_HINTED_TIMES = 6
#: Calls with hints get this much smaller a share of a follower's polls.
_HINTED_PART = 2.0
#: Longest time between two polls, whatever the load, seconds.
LONGEST_S = 300.0

#: Life of a follower's claim on a call, seconds. The claim is renewed while the call is completed, however long that
#: takes. So this is also the longest that a call waits for another follower when its own has died.
CLAIM_S = 10.0
#: Interval of the renewals of claims on calls that are being completed, seconds.
KEEP_EVERY_S = CLAIM_S / 4
#: A release that the ledger has not taken for this long is dropped, seconds: its claim has lapsed, and the call falls
#: due by itself.
_GIVE_UP_S = CLAIM_S / 2


@dataclass(frozen=True)
class Pace:
    """The bounds. Seconds, and polls a second of one follower."""

    first_s: float
    unhinted_max_s: float
    hinted_s: float
    polls_per_s: float


def next_poll_s(call: DueCall, pace: Pace, *, in_flight_each: float) -> float:
    """Seconds until the next poll of a call that was just found running.

    Args:
        call: what is known of it.
        pace: the bounds.
        in_flight_each: calls in flight for each follower, among which a follower shares its polls.
    """
    age_s = (call.now_ms - call.spawned_ms) / 1000
    left_s = max(0.1, (call.call_deadline_ms - call.now_ms) / 1000)
    if call.said_ended_ms is not None:
        since_s = (call.now_ms - call.said_ended_ms) / 1000
        return min(left_s, max(_ENDED_MIN_S, min(_ENDED_MAX_S, since_s * _ENDED_SHARE)))
    share_s = in_flight_each / pace.polls_per_s
    if call.hinted_ms is None:
        wanted_s = max(share_s, min(pace.unhinted_max_s, max(pace.first_s, age_s * _AGE_SHARE)))
    elif hints_suffice(call, pace):
        # Until then it costs no poll, so it need not be rarer because calls are many: its last hint may be lost.
        wanted_s = _hinted_s(call, pace)
    else:
        wanted_s = max(share_s * _HINTED_PART, _hinted_s(call, pace))
    return min(left_s, LONGEST_S, wanted_s)


def hints_suffice(call: DueCall, pace: Pace) -> bool:
    """Whether a due call's hints tell as much as a poll would: it sent one a moment ago, and has a while to go.

    False for a call whose hints have stopped, that should have ended, that said that it ended, or whose deadline is
    over.
    """
    if call.hinted_ms is None or call.said_ended_ms is not None or call.now_ms >= call.call_deadline_ms:
        return False
    remaining_s = predicted_remaining_s(call)
    silent_s = (call.now_ms - call.hinted_ms) / 1000
    return remaining_s is not None and remaining_s > 0 and silent_s <= pace.hinted_s


def _hinted_s(call: DueCall, pace: Pace) -> float:
    """The interval of a call with hints: past its predicted end, in case that the last hint is lost."""
    remaining_s = predicted_remaining_s(call)
    if remaining_s is None:
        return pace.hinted_s
    if remaining_s == 0:
        # It should have ended, and did not say so.
        return pace.hinted_s / 4
    return min(_HINTED_TIMES * pace.hinted_s, remaining_s * _LATE_RATIO + _AFTER_THE_END_S)


def predicted_remaining_s(call: DueCall) -> float | None:
    """Seconds until a call should end, by its progress; None: it has reported none."""
    if call.begun_ms is None or call.hinted_ms is None or call.progress <= 0:
        return None
    ran_s = (call.hinted_ms - call.begun_ms) / 1000
    whole_s = ran_s / min(1.0, call.progress / 100)
    return max(0.0, whole_s - (call.now_ms - call.begun_ms) / 1000)


class Schedule:
    """Claims calls that are due, and reschedules those that still run. Belongs to one event loop."""

    def __init__(self, ledger: Ledger, pace: Pace) -> None:
        self._ledger = ledger
        self.pace = pace
        self._to_reschedule: list[tuple[float, Release]] = []
        self._in_flight = 0
        self._completing: dict[tuple[str, int], int] = {}
        #: How many followers share the calls; the drain of hints keeps it current.
        self.followers = 1

    @property
    def in_flight_each(self) -> float:
        """Calls in flight for each follower, as of the last claim."""
        return self._in_flight / max(1, self.followers)

    async def claim_due(self, limit: int) -> DueCalls:
        """Claim up to `limit` calls that are due.

        Raises:
            LedgerUnavailable: none was claimed.
        """
        due = await asyncio.to_thread(self._ledger.modal_calls.claim_due, limit=limit, lease_s=CLAIM_S)
        self._in_flight = due.in_flight
        return due

    @contextmanager
    def kept(self, call: DueCall) -> Iterator[None]:
        """Within, `keep` renews the claim on the call, because completing it takes longer than a poll."""
        name = call.attempt_of
        self._completing[name] = self._completing.get(name, 0) + 1
        try:
            yield
        finally:
            self._completing[name] -= 1
            if not self._completing[name]:
                del self._completing[name]

    async def keep(self) -> None:
        """Renew the claims of calls that are being completed.

        When a claim has lapsed, another follower may complete the call too. The ledger rejects the second of the two.

        Raises:
            LedgerUnavailable: none was renewed.
        """
        if not self._completing:
            return
        answers = await asyncio.to_thread(
            isolated_batch,
            list(self._completing),
            partial(self._ledger.modal_calls.keep_claims, lease_s=CLAIM_S),
            _not_kept,
        )
        if lapsed := [job_id for answer in answers for job_id in answer]:
            log.warning("calls.claims_lapsed", job_ids=lapsed)

    def reschedule(self, call: DueCall, *, no_later_s: float = math.inf) -> None:
        """A call still runs: it is released with the next batch, and falls due at its next poll."""
        self.reschedule_in(call, min(no_later_s, next_poll_s(call, self.pace, in_flight_each=self.in_flight_each)))

    def reschedule_in(self, call: DueCall, again_in_s: float) -> None:
        """The same, at a time of the caller's choice."""
        self._to_reschedule.append((time.monotonic(), Release(call.job_id, call.attempt, again_in_s)))

    async def flush(self) -> None:
        """Write the releases that have gathered. What the ledger does not take now is kept for a while."""
        batch, self._to_reschedule = self._to_reschedule, []
        if not batch:
            return
        try:
            releases = [release for _, release in batch]
            await asyncio.to_thread(isolated_batch, releases, self._ledger.modal_calls.release_claims, _not_rescheduled)
        except LedgerError as error:
            log.warning("calls.not_rescheduled", number=len(batch), error=str(error))
            self._to_reschedule = self._fresh(batch) + self._to_reschedule

    @staticmethod
    def _fresh(batch: Sequence[tuple[float, Release]]) -> list[tuple[float, Release]]:
        return [(at, release) for at, release in batch if time.monotonic() - at < _GIVE_UP_S]


def _not_rescheduled(release: Release, error: Exception) -> None:
    """Its claim lapses, and it falls due by itself."""
    log.error("call.not_rescheduled", job_id=release.job_id, error=f"{type(error).__name__}: {error}")


def _not_kept(call: tuple[str, int], error: Exception) -> None:
    log.error("call.not_kept", job_id=call[0], error=f"{type(error).__name__}: {error}")
