"""From what a call told of itself to the containers that it is charged for, in the ledger's own time.

A container's clock may be wrong by an hour. Durations come from clocks that nobody sets (see modal_apps/envelope.py);
where they lie in time is bounded by what the ledger saw itself: a call began after its spawn, and had ended when that
was noticed. A clock that fits between the two is believed; one that does not is moved by as little as makes it fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ledger.containers import ContainerUse, Usage
from modal_apps.announce import Announcement
from modal_apps.envelope import Envelope

MILLISECONDS = 1000
#: A container may have begun this long before the spawn of its first call, seconds: it was waiting for one.
_EARLIER_START_S = 120.0


@dataclass(frozen=True)
class Observation:
    """What the ledger saw of a call, seconds since 1970 by Redis's clock."""

    #: Its spawn was recorded (or, for a lost one, intended).
    spawned_at: float
    #: Its end was noticed.
    noticed_at: float

    @classmethod
    def of(cls, spawned_ms: float | None, noticed_ms: float) -> "Observation":
        """From the ledger's milliseconds."""
        noticed_at = noticed_ms / MILLISECONDS
        return cls(noticed_at if spawned_ms is None else min(noticed_at, spawned_ms / MILLISECONDS), noticed_at)


def clock_offset_s(began_at: float, ended_at: float, observed: Observation) -> float:
    """How far a container's clock is ahead of the ledger's, at least: 0 if its times fit between spawn and notice.

    Args:
        began_at: when the call began, by the container's clock, seconds since 1970.
        ended_at: the latest that it said of itself, by the same clock.
        observed: what the ledger saw.
    """
    least, most = ended_at - observed.noticed_at, began_at - observed.spawned_at
    if least > most:
        return least  # it claims to have run for longer than it can have: its end is where it was noticed
    return min(max(0.0, least), most)


def ended_at(envelope: Envelope, observed: Observation) -> float:
    """When the method ended, in the ledger's time."""
    timings = envelope.timings
    return timings.finished_at - clock_offset_s(
        timings.finished_at - timings.execution_s, timings.finished_at, observed
    )


def of_envelope(envelope: Envelope, *, observed: Observation, usd_nanos_per_s: int, idle_window_s: float) -> Usage:
    """A call that answered: containers that died at it before, and the one that answered, which now idles."""
    timings = envelope.timings
    offset_s = clock_offset_s(timings.finished_at - timings.execution_s, timings.finished_at, observed)
    finished_at = timings.finished_at - offset_s
    last = (envelope.container_id, finished_at - timings.age_s)
    earlier = [(name, at - offset_s) for name, at in envelope.earlier]
    usage = _usage(
        [*earlier, last],
        finished_at,
        observed,
        gone=False,
        usd_nanos_per_s=usd_nanos_per_s,
        idle_window_s=idle_window_s,
    )
    began_at = max(finished_at - timings.execution_s, observed.spawned_at - idle_window_s - _EARLIER_START_S)
    began_ms = round(began_at * MILLISECONDS)
    answered = replace(usage.containers[-1], call_started_ms=began_ms, first_call=envelope.cold_start)
    return replace(usage, containers=[*usage.containers[:-1], answered])


def of_announcement(
    announcement: Announcement | None, *, observed: Observation, usd_nanos_per_s: int, idle_window_s: float
) -> Usage:
    """A call that never answered: its containers until its end was noticed (an upper bound).

    A call that never announced itself never began, and is charged nothing.
    """
    if announcement is None:
        return _usage(
            [],
            observed.noticed_at,
            observed,
            gone=True,
            usd_nanos_per_s=usd_nanos_per_s,
            idle_window_s=idle_window_s,
        )
    offset_s = clock_offset_s(announcement.announced_at, announcement.announced_at, observed)
    starts = [(start.container_id, start.started_at - offset_s) for start in announcement.containers]
    return _usage(
        starts,
        observed.noticed_at,
        observed,
        gone=True,
        usd_nanos_per_s=usd_nanos_per_s,
        idle_window_s=idle_window_s,
    )


def _usage(
    starts: Sequence[tuple[str, float]],
    ended_at: float,
    observed: Observation,
    *,
    gone: bool,
    usd_nanos_per_s: int,
    idle_window_s: float,
) -> Usage:
    """Each container is charged until the next one began; the last until the end."""
    earliest = observed.spawned_at - idle_window_s - _EARLIER_START_S
    uses = []
    for number, (name, at) in enumerate(starts):
        is_last = number == len(starts) - 1
        began = min(max(at, earliest), observed.noticed_at)
        end = ended_at if is_last else starts[number + 1][1]
        uses.append(
            ContainerUse(
                container_id=name,
                started_ms=round(began * MILLISECONDS),
                finished_ms=round(min(max(began, end), observed.noticed_at) * MILLISECONDS),
                gone=gone or not is_last,
            )
        )
    return Usage(uses, usd_nanos_per_s=usd_nanos_per_s, idle_window_s=idle_window_s)
