"""Imported by Python at its start where this folder is on PYTHONPATH: the process's wall clock can be made to jump.

`time.time` and `time.time_ns` are ahead by what the file says, in milliseconds; the monotonic clock is let be, as when
somebody sets a machine's clock.
"""

import os
import time
from pathlib import Path

_FILE = Path(os.environ["CHAOS_CLOCK_FILE"])
_true_time_ns = time.time_ns


def _ahead_ns() -> int:
    try:
        return int(_FILE.read_text(encoding="ascii") or "0") * 1_000_000
    except (OSError, ValueError):
        return 0  # it is just being written


def _time_ns() -> int:
    return _true_time_ns() + _ahead_ns()


def _time() -> float:
    return _time_ns() / 1e9


time.time_ns = _time_ns
time.time = _time
