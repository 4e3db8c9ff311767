"""Dollars, durations and names as people read them. Pure."""

MICROS_PER_USD = 1_000_000
#: Below this many seconds, a duration shows tenths.
_TENTHS_BELOW_S = 10


def dollars(usd_micros: int) -> str:
    """Micro-dollars as dollars, with as many digits as small amounts need."""
    usd = usd_micros / MICROS_PER_USD
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"


def signed_dollars(usd_micros: int) -> str:
    """A difference: `+$1.20` or `-$0.0034`."""
    return f"{'-' if usd_micros < 0 else '+'}{dollars(abs(usd_micros))}"


def balance(usd_micros: int) -> str:
    """An amount that may be negative: `$1.20` or `-$0.0034`."""
    return signed_dollars(usd_micros) if usd_micros < 0 else dollars(usd_micros)


def duration(seconds: float) -> str:
    """A duration: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < _TENTHS_BELOW_S:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def plain(name: str) -> str:
    """An identifier without its underscores."""
    return name.replace("_", " ").strip()
