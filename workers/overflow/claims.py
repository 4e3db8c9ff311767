"""The calls that a follower holds: claimed in batches, given back in batches."""

import asyncio
import math
import time
from collections.abc import Sequence

import structlog

from ledger import Ledger, LedgerError
from ledger.following import Release
from ledger.outcomes import DueCall, DueCalls
from workers.overflow.pacing import Pace, next_look_s

log = structlog.get_logger(__name__)

#: Life of a follower's claim on a call, seconds: for a look. `begin_delivery` makes it long enough for a delivery. It
#: is also how long a call waits for another follower when its own has died.
CLAIM_S = 10.0
#: What could not be given back for so long is left: its claim has lapsed, and it falls due by itself.
_GIVE_UP_S = CLAIM_S / 2


class Claims:
    """Claims what is due, and gives back what still runs. Of one event loop."""

    def __init__(self, ledger: Ledger, pace: Pace) -> None:
        self._ledger = ledger
        self._pace = pace
        self._to_give_back: list[tuple[float, Release]] = []
        self._in_flight = 0
        #: How many followers share the calls; told by the hints' part.
        self.followers = 1

    @property
    def in_flight_each(self) -> float:
        """Calls in flight for each follower, as last seen."""
        return self._in_flight / max(1, self.followers)

    async def take(self, limit: int) -> DueCalls:
        """Claim up to so many calls that are due.

        Raises:
            LedgerUnavailable: none was claimed.
        """
        due = await asyncio.to_thread(self._ledger.following.claim_due, limit=limit, lease_s=CLAIM_S)
        self._in_flight = due.in_flight
        return due

    def again(self, call: DueCall, *, no_later_s: float = math.inf) -> None:
        """A call still runs: it is given back with the next batch, to be looked at when its time has come."""
        self.again_in(call, min(no_later_s, next_look_s(call, self._pace, in_flight_each=self.in_flight_each)))

    def again_in(self, call: DueCall, again_in_s: float) -> None:
        """The same, at a time of the caller's own."""
        self._to_give_back.append((time.monotonic(), Release(call.job_id, call.attempt, again_in_s)))

    async def give_back(self) -> None:
        """Give back what has gathered. What cannot be given back now is kept for the next time, for a while."""
        batch, self._to_give_back = self._to_give_back, []
        if not batch:
            return
        try:
            await asyncio.to_thread(self._ledger.following.release, [release for _, release in batch])
        except LedgerError as error:
            log.warning("calls.not_given_back", number=len(batch), error=str(error))
            self._to_give_back = self._fresh(batch) + self._to_give_back

    @staticmethod
    def _fresh(batch: Sequence[tuple[float, Release]]) -> list[tuple[float, Release]]:
        return [(at, release) for at, release in batch if time.monotonic() - at < _GIVE_UP_S]
