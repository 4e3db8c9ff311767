"""Calendar months and days in UTC, as budgets count them. Pure."""

from datetime import UTC, datetime, timedelta


def month_start_ms(month: str) -> int:
    """When a month ("YYYY-MM") begins, milliseconds since 1970.

    Raises:
        ValueError: it is no month.
    """
    return _ms(_first_day(month))


def month_end_ms(month: str) -> int:
    """When the next month begins, milliseconds since 1970.

    Raises:
        ValueError: it is no month.
    """
    first = _first_day(month)
    return _ms(first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1))


def month_of(ms: int) -> str:
    """The month of an instant, "YYYY-MM"."""
    return _at(ms).strftime("%Y-%m")


def next_day_ms(ms: int) -> int:
    """When the day after an instant's begins, milliseconds since 1970."""
    return _ms(_at(ms).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1))


def _first_day(month: str) -> datetime:
    return datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _ms(at: datetime) -> int:
    return round(at.timestamp()) * 1000
