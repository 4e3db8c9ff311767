"""How many containers a peak wants, from what a week looked like; and which days a nightly bill is of."""

from datetime import UTC, date, datetime

import pytest

from workers.overflow.containers import Peak, expected_jobs_per_h, hour_of_week, idle_window_s, warm_number
from workers.overflow.true_up import periods_of

HOUR_MS = 3_600_000
#: Monday, 2026-11-16 00:00 UTC.
MONDAY_MS = 1_794_787_200_000


def test_a_week_begins_on_monday() -> None:
    assert datetime.fromtimestamp(MONDAY_MS / 1000, UTC).weekday() == 0
    assert [hour_of_week(MONDAY_MS + hours * HOUR_MS) for hours in (0, 9, 167, 168)] == [0, 9, 167, 0]


def test_a_peak_is_seen_before_it_comes_and_not_long_before() -> None:
    week = {9: 600.0, 167: 7.0}
    nearly_nine = MONDAY_MS + 8 * HOUR_MS + HOUR_MS * 5 // 6
    assert expected_jobs_per_h(week, now_ms=nearly_nine, lead_s=900) == 600
    assert expected_jobs_per_h(week, now_ms=nearly_nine, lead_s=300) == 0
    # And over the end of the week
    assert expected_jobs_per_h(week, now_ms=MONDAY_MS - HOUR_MS, lead_s=12 * 3600) == 600


@pytest.mark.parametrize(
    ("jobs_per_h", "slots", "number"), [(600, 10, 10), (600, 30, 0), (0, 0, 0), (60, 0, 2), (60_000, 0, 20)]
)
def test_half_of_what_in_house_cannot_take_is_warm_up_to_a_bound(jobs_per_h: float, slots: int, number: int) -> None:
    # Jobs of three minutes: 600 an hour are 30 GPUs
    peak = Peak(jobs_per_h, mean_run_s=180, inhouse_slots=slots)
    assert warm_number(peak, share=0.5, most=20) == number


def test_the_idle_window_follows_the_cold_start_within_what_is_reckoned_with() -> None:
    assert [idle_window_s(cold_s, most_s=60) for cold_s in (1, 45, 200)] == [15, 45, 60]


def _of(*days: tuple[int, int, int]) -> list[datetime]:
    return [datetime(*day, tzinfo=UTC) for day in days]


def test_each_night_the_days_of_this_month_that_are_over_are_compared_and_the_month_before() -> None:
    before, this = periods_of(date(2026, 11, 20))
    assert [before.start, before.end] == _of((2026, 10, 1), (2026, 11, 1))
    assert [this.start, this.end] == _of((2026, 11, 1), (2026, 11, 20))
    assert (before.month, this.month) == ("2026-10", "2026-11")
    # On the first there is nothing of this month yet
    [closed] = periods_of(date(2027, 1, 1))
    assert [closed.start, closed.end] == _of((2026, 12, 1), (2027, 1, 1))
