"""When schedules are due."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modal_proto import api_pb2

from modal_local.schedules.times import ScheduleError, next_cron, next_due, next_period, read_cron

Period = api_pb2.Schedule.Period


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("* * * * *", "2026-03-01T10:00:30", "2026-03-01T10:01"),
        ("* * * * *", "2026-03-01T10:00", "2026-03-01T10:01"),
        ("5 4 * * *", "2026-03-01T04:05", "2026-03-02T04:05"),
        ("0 9 * * 4", "2026-03-01T00:00", "2026-03-05T09:00"),
        ("*/15 8-10 * * mon-fri", "2026-03-06T10:46", "2026-03-09T08:00"),
        ("0 0 1 jan *", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("0 0 29 2 *", "2026-03-01T00:00", "2028-02-29T00:00"),
        ("0 0 13 * 5", "2026-03-07T00:00", "2026-03-13T00:00"),
        ("0 0 1 * 0", "2026-03-02T00:00", "2026-03-08T00:00"),
        ("0 0 * * 7", "2026-03-02T00:00", "2026-03-08T00:00"),
        ("10/20 * * * *", "2026-03-02T00:11", "2026-03-02T00:30"),
        ("1,3 2 * * *", "2026-03-02T02:01", "2026-03-02T02:03"),
        ("@daily", "2026-03-02T02:01", "2026-03-03T00:00"),
    ],
)
def test_cron(expression: str, after: str, expected: str) -> None:
    assert next_cron(read_cron(expression, ""), at(after)) == at(expected)


def test_cron_goes_by_its_zone_over_a_clock_change() -> None:
    cron = read_cron("0 6 * * *", "America/New_York")
    assert next_cron(cron, at("2026-03-07T12:00")) == at("2026-03-08T10:00")  # EDT has begun
    assert next_cron(cron, at("2026-03-06T12:00")) == at("2026-03-07T11:00")


def test_an_hour_that_is_left_out_and_one_that_comes_twice() -> None:
    zone = "Europe/Berlin"
    daily, hourly = read_cron("30 2 * * *", zone), read_cron("30 * * * *", zone)
    # the clock goes from 2 to 3
    assert next_cron(daily, at("2026-03-29T00:00", zone)) == at("2026-03-30T02:30", zone)
    # the clock goes from 3 back to 2
    first, second = at("2026-10-25T02:30", zone), at("2026-10-25T02:30", zone, fold=1)
    assert next_cron(daily, at("2026-10-25T00:00", zone)) == first
    assert next_cron(daily, first) == at("2026-10-26T02:30", zone)
    assert next_cron(hourly, first) == second


@pytest.mark.parametrize(
    ("expression", "zone", "named"),
    [
        ("* * * *", "", "five fields"),
        ("60 * * * *", "", "minute"),
        ("* 5-3 * * *", "", "backwards"),
        ("* * * * fri-sun", "", "backwards"),
        ("*/0 * * * *", "", "minute"),
        ("a * * * *", "", "minute"),
        ("0 0 31 2 *", "", "no such day"),
        ("* * * * *", "Mars/Olympus", "time zone"),
        ("* * * * *", "../etc", "time zone"),
    ],
)
def test_a_cron_that_makes_no_sense_is_refused_by_name(expression: str, zone: str, named: str) -> None:
    with pytest.raises(ScheduleError, match=named):
        read_cron(expression, zone)


@pytest.mark.parametrize(
    ("period", "after", "expected"),
    [
        (Period(seconds=90), "2026-01-31T00:00", "2026-01-31T00:01:30"),
        (Period(days=1, hours=1), "2026-02-01T02:00", "2026-02-02T02:00"),
        (Period(weeks=2), "2026-02-20T00:00", "2026-02-28T00:00"),
        (Period(months=1), "2026-01-31T00:00", "2026-02-28T00:00"),
        (Period(months=1), "2026-02-28T00:00", "2026-03-31T00:00"),
        (Period(years=1), "2026-01-31T00:00", "2027-01-31T00:00"),
    ],
)
def test_periods_are_counted_from_the_deployment(period: Period, after: str, expected: str) -> None:
    assert next_period(period, at("2026-01-31T00:00"), at(after)) == at(expected)


def test_an_empty_period_is_refused() -> None:
    with pytest.raises(ScheduleError, match="longer than nothing"):
        next_due(api_pb2.Schedule(period=Period()), 0.0, 0.0)


@given(st.integers(0, 30), st.integers(0, 3), st.integers(1, 10**6), st.floats(0, 4e9), st.floats(0, 4e8))
def test_the_next_time_is_later_and_no_period_lies_between(
    days: int, months: int, seconds: int, anchor: float, passed: float
) -> None:
    period = Period(days=days, months=months, seconds=seconds)
    due = next_period(period, anchor, anchor + passed)
    assert due > anchor + passed
    longest_s = days * 86400 + months * 31 * 86400 + seconds
    assert due - (anchor + passed) <= longest_s + 3 * 86400 * (months > 0) + 1


@given(st.sampled_from(["*/7 * * * *", "5 */3 * * *", "0 12 1,15 * *", "30 2 * * 0"]), st.floats(1.7e9, 1.9e9))
def test_a_cron_is_due_when_its_fields_say_so(expression: str, after: float) -> None:
    due = next_cron(read_cron(expression, "UTC"), after)
    when = datetime.fromtimestamp(due, UTC)
    cron = read_cron(expression, "UTC")
    assert due > after
    assert when.minute in cron.minutes
    assert when.hour in cron.hours
    assert cron.runs_on(when)
