"""When a `modal.Period` or a `modal.Cron` is due. Pure."""

import calendar
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from modal_proto import api_pb2

_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_FARTHEST_YEARS = 8  # 29 February comes after eight years at the most
_MONTHS_OF_YEAR = 12


class ScheduleError(ValueError):
    """A schedule that makes no sense; the sentence says which part."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression that has been read.

    Attributes:
        any_day: the day of the month does not matter.
        any_weekday: likewise; when both matter, either one does, as in every cron.
        any_hour: it runs in each hour, and so in both of those that a clock change makes the same.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool
    any_hour: bool
    zone: ZoneInfo

    def runs_on(self, day: datetime) -> bool:
        """Whether it runs on that day at all."""
        by_day = day.day in self.days
        by_weekday = day.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return by_day and by_weekday
        return by_day or by_weekday


def read_cron(text: str, zone: str) -> Cron:
    """Reads a cron expression of five fields, or an alias such as `@daily`.

    Raises:
        ScheduleError: it is none, can never be due, or there is no such time zone.
    """
    words = _ALIASES.get(text.strip().lower(), text).split()
    if len(words) != len(_FIELDS):
        raise ScheduleError(f"Invalid cron expression {text!r}: expected five fields, got {len(words)}.")
    try:
        where = ZoneInfo(zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(f"Invalid time zone {zone!r}: expected an IANA name such as Europe/Berlin.") from None
    try:
        minutes, hours, days, months, weekdays = (
            _read_field(word, *field) for word, field in zip(words, _FIELDS, strict=True)
        )
    except ScheduleError as error:
        raise ScheduleError(f"Invalid cron expression {text!r}: {error}") from None
    cron = Cron(
        minutes,
        hours,
        days,
        months,
        frozenset(day % 7 for day in weekdays),
        any_day=words[2].startswith("*"),
        any_weekday=words[4].startswith("*"),
        any_hour=words[1].startswith("*"),
        zone=where,
    )
    if not _ever(cron):
        raise ScheduleError(f"Invalid cron expression {text!r}: there is no such day.")
    return cron


def _ever(cron: Cron) -> bool:
    longest = {month: calendar.monthrange(2024, month)[1] for month in cron.months}
    return not cron.any_weekday or any(min(cron.days) <= days for days in longest.values())


def _read_field(word: str, name: str, least: int, most: int) -> frozenset[int]:
    names = {"month": _MONTHS, "day of week": _WEEKDAYS}.get(name, {})
    found: set[int] = set()
    for part in word.lower().split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, name, {}, 1, most) if slash else 1
        if span == "*":
            first, last = least, most
        else:
            start, dash, end = span.partition("-")
            first = _number(start, name, names, least, most)
            last = _number(end, name, names, least, most) if dash else (most if slash else first)
        if first > last:
            raise ScheduleError(f"{name}: {span!r} runs backwards.")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, name: str, names: dict[str, int], least: int, most: int) -> int:
    value = names.get(text)
    if value is None and text.isdecimal():
        value = int(text)
    if value is None or not least <= value <= most:
        raise ScheduleError(f"{name}: expected {least} to {most}, got {text!r}.")
    return value


def next_cron(cron: Cron, after: float) -> float:
    """The first time after a unix time at which it is due.

    A time that a clock change leaves out is left out; one that comes twice counts the first time only, unless the
    expression means every hour.
    """
    at = datetime.fromtimestamp(math.floor(after / 60) * 60 + 60, UTC)
    end = at + timedelta(days=366 * _FARTHEST_YEARS)
    while at < end:
        local = at.astimezone(cron.zone)
        if local.month not in cron.months or not cron.runs_on(local):
            at = _tomorrow(local)
        elif local.hour not in cron.hours:
            at += timedelta(minutes=60 - local.minute)
        elif local.minute not in cron.minutes or (local.fold and not cron.any_hour):
            at += timedelta(minutes=1)
        else:
            return at.timestamp()
    raise ScheduleError("This cron expression is never due.")


def _tomorrow(local: datetime) -> datetime:
    midnight = (local.replace(tzinfo=None) + timedelta(days=1)).replace(hour=0, minute=0)
    return midnight.replace(tzinfo=local.tzinfo).astimezone(UTC)


def next_period(period: api_pb2.Schedule.Period, anchor: float, after: float) -> float:
    """The first time after `after` that is a whole number of periods after `anchor`; both are unix times.

    Raises:
        ScheduleError: the period is empty.
    """
    months = period.years * _MONTHS_OF_YEAR + period.months
    seconds = timedelta(
        weeks=period.weeks, days=period.days, hours=period.hours, minutes=period.minutes, seconds=period.seconds
    ).total_seconds()
    longest_s = months * 31 * 86400.0 + seconds
    if longest_s <= 0 or months < 0:
        raise ScheduleError("A period must be longer than nothing.")
    count = max(1, math.floor((after - anchor) / longest_s))
    while (due := _add(anchor, months * count, seconds * count)) <= after:
        count += 1
    return due


def _add(anchor: float, months: int, seconds: float) -> float:
    if not months:
        return anchor + seconds
    start = datetime.fromtimestamp(anchor, UTC)
    total = start.year * _MONTHS_OF_YEAR + start.month - 1 + months
    year, month = divmod(total, _MONTHS_OF_YEAR)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return start.replace(year=year, month=month + 1, day=day).timestamp() + seconds


def next_due(schedule: api_pb2.Schedule, anchor: float, after: float) -> float:
    """When a schedule is due next.

    Args:
        schedule: as deployed.
        anchor: unix time of the deployment, from which periods are counted.
        after: unix time.

    Raises:
        ScheduleError: the schedule makes no sense.
    """
    if schedule.HasField("cron"):
        return next_cron(read_cron(schedule.cron.cron_string, schedule.cron.timezone), after)
    return next_period(schedule.period, anchor, after)
