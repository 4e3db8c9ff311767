"""The histograms that the ledger keeps, and how the labels of what it counts are written.

One table of bucket bounds: Python reads `bounds_of`, every Lua script gets the same bounds as a function
(`as_lua`), so that Python and Redis cannot disagree. Each bound is a label value of the exporter; every threshold of a
service level is among them (a test of `monitoring` keeps it so).

    P:counters     hash  "<metric>|<labels>"              -> whole number, only ever raised; and of a histogram:
                         "<metric>|<labels>|le=<bound>"   -> observations in this bucket alone
                         "<metric>|<labels>|sum"          -> sum of what was observed, in millionths of the unit
                         "<metric>|<labels>|le=<bound>|job" -> "<job id> <value> <at_ms>", the newest in this bucket
    P:gauges       hash  "<metric>|<labels>"              -> "<value> <at_ms>", the newest
"""

import re
from collections.abc import Mapping
from typing import Final

#: Waiting, seconds: from at once to four hours, where the incumbents stop at half an hour.
_WAITS: Final = (1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
#: Working, seconds: from a second to a day of training.
_WORK: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
#: Starting a container, seconds.
_STARTS: Final = (0.5, 1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600)
#: Short steps inside the control plane and calls to Modal, seconds.
_STEPS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 120)
#: Shares of a whole; fine near the limit.
_SHARES: Final = (0.25, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1)
#: What came to what was foreseen; 1 is just right.
_FORESIGHT: Final = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4, 10)

#: Upper bounds of the buckets (inclusive), by the metric's name; the last bucket, +Inf, is not written down.
BOUNDS: Final[Mapping[str, tuple[float, ...]]] = {
    "job_wait_seconds": _WAITS,
    "job_run_seconds": _WORK,
    "job_total_seconds": _WORK,
    "cold_start_seconds": _STARTS,
    "spawn_seconds": _STEPS,
    "follow_lag_seconds": _STEPS,
    "gpu_memory_peak_ratio": _SHARES,
    "prediction_error_ratio": _FORESIGHT,
}

#: Longest value of a label, in characters; what is longer is cut.
LABEL_MAX_CHARS: Final = 64
_NOT_IN_LABELS: Final = re.compile(r"[^A-Za-z0-9_.:/+-]")


def bounds_of(metric: str) -> tuple[float, ...]:
    """The bounds of a histogram's buckets; of one that the table lacks, those that suit its unit."""
    return BOUNDS.get(metric) or (_SHARES if metric.endswith("_ratio") else _WORK)


def bound_text(bound: float) -> str:
    """A bound as it stands in the ledger, e.g. `0.5` or `60`."""
    return f"{bound:.14g}"


def bucket_of(metric: str, value: float) -> str:
    """The text of the bound of the bucket that a value falls into."""
    return next((bound_text(bound) for bound in bounds_of(metric) if value <= bound), "+Inf")


def label_text(**labels: object) -> str:
    """Labels as the ledger's counters want them: sorted, `"kind=render|pool=modal"`.

    Values are cut at 64 characters, and what could be mistaken for our own signs becomes `_`. A value must come from
    a bounded set: never the id of a job, a container or a call.
    """
    return "|".join(
        f"{name}={_NOT_IN_LABELS.sub('_', str(value))[:LABEL_MAX_CHARS]}" for name, value in sorted(labels.items())
    )


def as_lua() -> str:
    """The function `bucket_of(metric, value)` as Lua source, to stand at the head of every script.

    It is a chain of comparisons rather than a table, so that a script that observes nothing pays nothing.
    """
    return "\n".join(
        [
            "local function bucket_of(metric, value)",
            *(f"  if metric == '{metric}' then {_chain(bounds)} end" for metric, bounds in BOUNDS.items()),
            f"  if string.find(metric, '_ratio$') then {_chain(_SHARES)} end",
            f"  {_chain(_WORK)}",
            "end",
        ]
    )


def _chain(bounds: tuple[float, ...]) -> str:
    steps = " ".join(f"if value <= {bound_text(bound)} then return '{bound_text(bound)}' end" for bound in bounds)
    return f"{steps} return '+Inf'"


def is_of_histogram(series: str) -> bool:
    """Whether a field of the hash of counters is a part of a histogram."""
    return "|le=" in series or series.endswith("|sum")


def is_example(series: str) -> bool:
    """Whether a field of the hash of counters names the newest job of a bucket."""
    return series.endswith("|job")
