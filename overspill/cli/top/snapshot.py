"""What is read for one frame. The ledger being away is a snapshot too: what was last seen, and since when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ledger import Ledger, LedgerError
from ledger.looking import CallInFlight, LatestEvent
from ledger.view import ClusterView

#: So many calls and events are read for a frame; a terminal shows fewer.
CALLS_READ = 200
EVENTS_READ = 100


@dataclass(frozen=True)
class Snapshot:
    """One instant.

    Attributes:
        address: the ledger's.
        view: the cluster; None: nothing was ever seen.
        month_cap_usd_micros: the month's cap on what Modal may cost.
        calls: calls in flight, oldest first; perhaps not all.
        calls_total: how many there are.
        events: the newest, newest first.
        breaker: what the circuit breaker before Modal says, if it is not closed; else empty.
        away: why the ledger cannot be asked; None: it answers.
        away_s: for how long it has been away, seconds.
    """

    address: str
    view: ClusterView | None = None
    month_cap_usd_micros: int = 0
    calls: Sequence[CallInFlight] = ()
    calls_total: int = 0
    events: Sequence[LatestEvent] = ()
    breaker: str = ""
    away: str | None = None
    away_s: float = 0.0


def take(ledger: Ledger, *, before: Snapshot, since_s: float) -> Snapshot:
    """Read everything for one frame.

    Args:
        ledger: whom to ask.
        before: the last snapshot, shown on while the ledger is away.
        since_s: seconds since the last snapshot.
    """
    try:
        view = ledger.placing.view()
        calls, total = ledger.looking.calls_in_flight(limit=CALLS_READ)
        events = ledger.looking.events(limit=EVENTS_READ)
        stored = ledger.following.breaker()
        cap = ledger.budget.limits().month_cap_usd_micros
    except LedgerError as error:
        return replace(before, away=str(error), away_s=before.away_s + since_s if before.away else 0.0)
    breaker = "" if stored.phase == "closed" else f"{stored.phase}: {stored.reason or 'unknown'}"
    return replace(
        before,
        view=view,
        month_cap_usd_micros=cap,
        calls=calls,
        calls_total=total,
        events=events,
        breaker=breaker,
        away=None,
        away_s=0.0,
    )
