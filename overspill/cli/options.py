"""Arguments and options that several commands share, and who runs the command."""

import getpass
import os
import re
import socket
from typing import Annotated

import typer

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Job id, as `submit` printed it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SPAN = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,3})?)(?P<unit>[smhd])")
#: The longest duration that an option takes, seconds. What holds for more than a month belongs into a setting.
LONGEST_S = 31 * 86_400


def who() -> str:
    """The user of this terminal, as events name them: `login@host`."""
    try:
        login = getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        login = f"uid {os.getuid()}"
    return f"{login}@{socket.gethostname()}"


def seconds(text: str) -> float:
    """Parse a duration such as `90s`, `30m`, `2h` or `1d` into seconds.

    Raises:
        typer.BadParameter: it is not a duration, or not between 0 and 31 days.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    length_s = float(found["number"]) * _SECONDS[found["unit"]] if found else 0.0
    if not 0 < length_s <= LONGEST_S:
        raise typer.BadParameter(f"expected a duration such as 90s, 30m, 2h or 1d (31d at most), got {text[:40]!r}")
    return length_s
