"""The histograms that the ledger keeps, and how the labels of what it counts are written.

One table of bucket bounds: Python reads `bounds_of`, every Lua script gets the same bounds as a function
(`as_lua`), so that Python and Redis cannot disagree. Each bound is a label value of the exporter; every threshold of a
service level is among them (a test of `monitoring` keeps it so).

    P:counters     hash  "<metric>|<labels>"              -> whole number, only ever raised; and of a histogram:
                         "<metric>|<labels>|le=<bound>"   -> observations in this bucket alone
                         "<metric>|<labels>|sum"          -> sum of what was observed, in millionths of the unit
                         "<metric>|<labels>|le=<bound>|job" -> "<job id> <value> <at_ms>", a late one of the bucket
                         "<change>|<labels>"              -> the same, of all metrics that `TOGETHER` has for a change
    P:gauges       hash  "<metric>|<labels>"              -> "<value> <at_ms>", the newest
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from ledger.states import State

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


@dataclass(frozen=True)
class Part:
    """One metric of several that a change of a job's state raises by one field of the hash."""

    metric: str
    #: Labels that it has of the field's.
    labels: tuple[str, ...]
    #: Labels that are always the same.
    fixed: Mapping[str, str] = field(default_factory=dict)
    #: Labels whose value is that of a label with another name: ours -> the field's.
    renamed: Mapping[str, str] = field(default_factory=dict)
    #: Only where the field's labels have these values.
    where: Mapping[str, str] = field(default_factory=dict)


#: The counts that come with a change of state are one number, cut in several ways: so the scripts raise one field
#: for all of them, with the labels of all, which is a fraction of the price; and they come apart here, when read.
TOGETHER: Final[Mapping[str, tuple[Part, ...]]] = {
    "job_placed": (
        Part("transitions_total", ("from", "kind"), {"to": State.PLACED}),
        Part("placements_total", ("gpu", "kind", "pool")),
        Part("decisions_total", ("kind", "rule"), renamed={"decision": "pool"}),
    ),
    # Of a job's first attempt; `le` is the bucket of its wait, or `none`. Only what is placed starts.
    "job_started": (
        Part("transitions_total", ("kind",), {"from": State.PLACED, "to": State.RUNNING}),
        Part("job_wait_seconds", ("kind", "pool", "le")),
    ),
    # `le` is the bucket of its whole time, or `none`. Only what is delivered completes.
    "job_completed": (
        Part("transitions_total", ("kind",), {"from": State.DELIVERING, "to": State.COMPLETED}),
        Part("attempts_total", ("gpu", "kind", "pool"), {"outcome": State.COMPLETED}),
        Part("jobs_total", ("kind", "pool"), {"outcome": State.COMPLETED}),
        Part("deadlines_met_total", ("kind", "pool"), where={"deadline": "met"}),
        Part("deadlines_missed_total", ("kind", "pool"), where={"deadline": "missed"}),
        Part("job_total_seconds", ("kind", "pool", "le")),
    ),
    "job_failed": (
        Part("transitions_total", ("from", "kind"), {"to": State.FAILED}),
        Part("jobs_total", ("kind", "pool"), {"outcome": State.FAILED}),
        Part("failures_total", ("kind", "pool", "reason")),
    ),
    "job_cancelled": (
        Part("transitions_total", ("from", "kind"), {"to": State.CANCELLED}),
        Part("jobs_total", ("kind", "pool"), {"outcome": State.CANCELLED}),
    ),
}

#: Of a value that no bucket takes, because it is no sensible one.
_NO_BUCKET: Final = "none"
#: More such fields than a busy system has; each is some hundred bytes.
_KNOWN_FIELDS: Final = 4_096
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
    """Whether a field of the hash of counters names a job of a bucket."""
    return series.endswith("|job")


def apart(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The hash of counters with a field for each metric, where one field stood for several (`TOGETHER`)."""
    single: dict[str, str] = {}
    sums: Counter[str] = Counter()
    for series, text in fields:
        change, _, labels = series.partition("|")
        if change in TOGETHER:
            for name in _parts(change, labels):
                sums[name] += int(text)
        else:
            single[series] = text
    for name, number in sums.items():
        single[name] = str(int(single.get(name, "0")) + number)
    return single


@lru_cache(maxsize=_KNOWN_FIELDS)
def _parts(change: str, text: str) -> tuple[str, ...]:
    """The fields that one field for several stands for."""
    labels = dict(label.split("=", 1) for label in text.split("|"))
    return tuple(
        _field(part, labels)
        for part in TOGETHER[change]
        if part.where.items() <= labels.items() and not ("le" in part.labels and labels["le"] == _NO_BUCKET)
    )


def _field(part: Part, labels: Mapping[str, str]) -> str:
    own = {name: labels[name] for name in part.labels if name != "le"} | dict(part.fixed)
    own |= {name: labels[theirs] for name, theirs in part.renamed.items()}
    bucket = [f"le={labels['le']}"] if "le" in part.labels else []
    return "|".join([part.metric, *(f"{name}={value}" for name, value in sorted(own.items())), *bucket])
