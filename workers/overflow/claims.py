"""The calls that a follower holds: claimed, kept and given back in batches."""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import structlog

from ledger import Ledger, LedgerError
from ledger.following import Release
from ledger.outcomes import DueCall, DueCalls
from workers.isolation import isolated_batch
from workers.overflow.pacing import Pace, next_look_s

log = structlog.get_logger(__name__)

#: Life of a follower's claim on a call, seconds. It is renewed while the call is concluded, however long that takes, so
#: it is also the longest that a call waits for another follower when its own has died.
CLAIM_S = 10.0
#: Claims of calls that are being concluded are renewed so often, seconds.
KEEP_EVERY_S = CLAIM_S / 4
#: What could not be given back for so long is left: its claim has lapsed, and it falls due by itself.
_GIVE_UP_S = CLAIM_S / 2


class Claims:
    """Claims what is due, and gives back what still runs. Of one event loop."""

    def __init__(self, ledger: Ledger, pace: Pace) -> None:
        self._ledger = ledger
        self.pace = pace
        self._to_give_back: list[tuple[float, Release]] = []
        self._in_flight = 0
        self._concluding: dict[tuple[str, int], int] = {}
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

    @contextmanager
    def kept(self, call: DueCall) -> Iterator[None]:
        """Within, the claim on the call is renewed by `keep`, for its ending takes longer than a look."""
        name = (call.job_id, call.attempt)
        self._concluding[name] = self._concluding.get(name, 0) + 1
        try:
            yield
        finally:
            self._concluding[name] -= 1
            if not self._concluding[name]:
                del self._concluding[name]

    async def keep(self) -> None:
        """Renew the claims of calls that are being concluded.

        Where one has lapsed, another follower may conclude the call too; the second to come is told so by the ledger.

        Raises:
            LedgerUnavailable: none was renewed.
        """
        if not self._concluding:
            return
        answers = await asyncio.to_thread(
            isolated_batch,
            list(self._concluding),
            partial(self._ledger.following.keep, lease_s=CLAIM_S),
            _not_kept,
        )
        if lapsed := [job_id for answer in answers for job_id in answer]:
            log.warning("calls.claims_lapsed", job_ids=lapsed)

    def again(self, call: DueCall, *, no_later_s: float = math.inf) -> None:
        """A call still runs: it is given back with the next batch, to be looked at when its time has come."""
        self.again_in(call, min(no_later_s, next_look_s(call, self.pace, in_flight_each=self.in_flight_each)))

    def again_in(self, call: DueCall, again_in_s: float) -> None:
        """The same, at a time of the caller's own."""
        self._to_give_back.append((time.monotonic(), Release(call.job_id, call.attempt, again_in_s)))

    async def give_back(self) -> None:
        """Give back what has gathered. What cannot be given back now is kept for the next time, for a while."""
        batch, self._to_give_back = self._to_give_back, []
        if not batch:
            return
        try:
            releases = [release for _, release in batch]
            await asyncio.to_thread(isolated_batch, releases, self._ledger.following.release, _not_given_back)
        except LedgerError as error:
            log.warning("calls.not_given_back", number=len(batch), error=str(error))
            self._to_give_back = self._fresh(batch) + self._to_give_back

    @staticmethod
    def _fresh(batch: Sequence[tuple[float, Release]]) -> list[tuple[float, Release]]:
        return [(at, release) for at, release in batch if time.monotonic() - at < _GIVE_UP_S]


def _not_given_back(release: Release, error: Exception) -> None:
    """Its claim lapses, and it falls due by itself."""
    log.error("call.not_given_back", job_id=release.job_id, error=f"{type(error).__name__}: {error}")


def _not_kept(call: tuple[str, int], error: Exception) -> None:
    log.error("call.not_kept", job_id=call[0], error=f"{type(error).__name__}: {error}")
