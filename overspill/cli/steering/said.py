"""Who acts, and how long `2h` is."""

import getpass
import os
import re
import socket

import typer

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SPAN = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,3})?)(?P<unit>[smhd])")
#: The longest span that is taken, seconds: beyond a month it is a setting, not a moment's decision.
LONGEST_S = 31 * 86_400


def who() -> str:
    """The person at this terminal, as the events name them: `login@host`."""
    try:
        login = getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        login = f"uid {os.getuid()}"
    return f"{login}@{socket.gethostname()}"


def seconds(text: str) -> float:
    """A span of time such as `90s`, `30m`, `2h` or `1d`, in seconds.

    Raises:
        typer.BadParameter: it is none.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    length_s = float(found["number"]) * _SECONDS[found["unit"]] if found else 0.0
    if not 0 < length_s <= LONGEST_S:
        raise typer.BadParameter(f"expected a span such as 90s, 30m, 2h or 1d (31d at most), got {text[:40]!r}")
    return length_s
