"""How many containers should be warm before the next peak: pure, from what a week looked like.

Jobs an hour times the seconds that each takes are the GPUs at work; what in-house cannot take comes to Modal. Warm are
kept only so many of those as a share says, since an idle one costs as much as a busy one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ledger.warming import HOURS_PER_WEEK

MILLISECONDS_PER_HOUR = 3_600_000
SECONDS_PER_HOUR = 3600
#: 1970-01-01 was a Thursday.
_THURSDAY_HOURS = 72
#: Shortest idle window that is set, whatever the cold start, seconds.
SHORTEST_WINDOW_S = 15


@dataclass(frozen=True)
class Peak:
    """What is expected within the next while."""

    jobs_per_h: float
    mean_run_s: float
    inhouse_slots: int

    @property
    def spilled_at_once(self) -> float:
        """GPUs that are busy beyond those in-house."""
        return max(0.0, self.jobs_per_h * self.mean_run_s / SECONDS_PER_HOUR - self.inhouse_slots)


def hour_of_week(at_ms: int) -> int:
    """0 is Monday 00 to 01 UTC."""
    return (at_ms // MILLISECONDS_PER_HOUR + _THURSDAY_HOURS) % HOURS_PER_WEEK


def expected_jobs_per_h(by_hour: Mapping[int, float], *, now_ms: int, lead_s: float) -> float:
    """The busiest hour between now and `lead_s` seconds from now, as weeks have been so far."""
    last = hour_of_week(now_ms + round(lead_s * 1000))
    hour, most = hour_of_week(now_ms), 0.0
    while True:
        most = max(most, by_hour.get(hour, 0.0))
        if hour == last:
            return most
        hour = (hour + 1) % HOURS_PER_WEEK


def warm_number(peak: Peak, *, share: float, most: int) -> int:
    """How many containers to keep warm for a peak.

    Args:
        peak: what is expected.
        share: of the GPUs that it needs on Modal, so many are warm before it comes.
        most: never more.
    """
    return min(most, math.ceil(peak.spilled_at_once * share - 1e-9))


def idle_window_s(mean_cold_start_s: float, *, most_s: float) -> int:
    """The idle window of a class for its measured cold start, whole seconds.

    A window as long as the cold start costs at most twice the best one, and stays within 21 to 38 % of it on replayed
    traces (research on container billing); the bound is the window that the budget reckons with.
    """
    return int(min(most_s, max(SHORTEST_WINDOW_S, mean_cold_start_s)))
