"""Everything that is shown about the ledger, of one instant: what the exporter reads at each scrape, by one script.

It is as fast with a million jobs as with none: sizes and first entries of indexes, and the hashes that hold counters.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.metrics import apart, is_example, is_of_histogram
from ledger.models import Kind
from ledger.nudges import all_nudges
from ledger.scripts import ScriptRunner

#: In a hash of counters, one entry for each set of labels.
Labels = tuple[tuple[str, str], ...]
_MILLIONTHS = 1e-6


@dataclass(frozen=True)
class KindMeasure:
    """One kind of job: how many are where, and for how long. Ages are milliseconds; 0 if there is none."""

    #: All that are kept, ended ones too.
    jobs: int
    #: Accepted and waiting for a decision; `delayed` of them for the pause after a failure, `claimed` in decision.
    queued: int
    delayed: int
    claimed: int
    waiting_inhouse: int
    active_inhouse: int
    live_slots: int
    oldest_queued_ms: int
    #: Since the end of a pause, and of a dispatcher's claim, that nobody took up.
    oldest_delayed_ms: int
    oldest_claimed_ms: int
    oldest_waiting_ms: int
    oldest_active_ms: int
    #: Since it was first held; it is tried again every few seconds.
    oldest_held_ms: int
    spill_active: bool
    spill_since_ms: int


@dataclass(frozen=True)
class ModalMeasure:
    """Attempts on Modal and their calls."""

    #: Placed, running or being delivered.
    alive: int
    #: Placed and not yet claimed by a spawner.
    waiting: int
    #: Calls between two looks, and calls that a follower looks at now.
    due: int
    claimed: int
    #: Calls that nobody wants any more, until they are stopped and settled.
    stopping: int
    #: Since its placement.
    oldest_waiting_ms: int
    oldest_alive_ms: int
    #: For how long the call that should have been looked at first has been waiting for it.
    lag_ms: int


@dataclass(frozen=True)
class ScopeMeasure:
    """Modal's dollars under one cap, in its present period, micro-dollars."""

    spent_usd_micros: int
    reserved_usd_micros: int
    #: The cap in force; None: there is none.
    cap_usd_micros: int | None = None


@dataclass(frozen=True)
class BurnMeasure:
    """What is alive on Modal at this moment: calls, and idle containers that are reserved for no call."""

    usd_nanos_per_s: int
    gpus: int
    idle_containers: int


@dataclass(frozen=True)
class Series:
    """One histogram with one set of labels: observations in each bucket alone, by the bucket's upper bound."""

    metric: str
    labels: Labels
    buckets: Mapping[str, int]
    #: In the metric's unit.
    total: float


@dataclass(frozen=True)
class Exemplar:
    """A job of the newest that fell into a bucket."""

    job_id: str
    value: float
    at_ms: int


@dataclass(frozen=True)
class Gauge:
    """The value that somebody noted last."""

    value: float
    at_ms: int


@dataclass(frozen=True)
class Measurement:
    """The whole ledger as it is shown, at `now_ms` by Redis's clock."""

    now_ms: int
    #: The calendar month and day (UTC), e.g. `2026-11` and `2026-11-22`.
    month: str
    date: str
    kinds: Mapping[Kind, KindMeasure]
    modal: ModalMeasure
    #: Of the circuit breaker before Modal: closed, half_open or open, and why.
    breaker_phase: str
    breaker_reason: str
    #: Followers with a live lease.
    followers: int
    held: int
    expired_leases: int
    quarantined: int
    idle_containers: int
    #: Jobs that wait on a nudge which is overdue, by queue.
    overdue_nudges: Mapping[str, int]
    #: By scope: month, day, kind:<kind>, tenant:<tenant>.
    scopes: Mapping[str, ScopeMeasure]
    burn: BurnMeasure
    counters: Mapping[tuple[str, Labels], int]
    histograms: Sequence[Series]
    exemplars: Mapping[tuple[str, Labels, str], Exemplar]
    gauges: Mapping[tuple[str, Labels], Gauge]
    #: Objects, folders and jobs that are to be deleted and are not confirmed yet, by store.
    deletions: Mapping[str, int] = field(default_factory=dict)


class Measuring:
    """The exporter's one verb; part of `Stats`."""

    _runner: ScriptRunner

    def read(self) -> Measurement:
        """Read everything that is shown, at one instant.

        Raises:
            LedgerUnavailable: Redis did not answer in time.
        """
        queues = sorted({nudge.queue for nudge in all_nudges()})
        answer = self._runner.call("measure", kinds=[str(kind) for kind in Kind], queues=queues)
        counters = apart(_pairs(answer["counters"]))
        return Measurement(
            now_ms=int(answer["now_ms"]),
            month=answer["month"],
            date=answer["date"],
            kinds={Kind(name): KindMeasure(**row) for name, row in answer["kinds"].items()},
            modal=ModalMeasure(**answer["modal"]),
            breaker_phase=answer["breaker_phase"],
            breaker_reason=answer["breaker_reason"],
            followers=answer["followers"],
            held=answer["held"],
            expired_leases=answer["expired_leases"],
            quarantined=answer["quarantined"],
            idle_containers=answer["idle_containers"],
            overdue_nudges=answer["overdue_nudges"],
            scopes={name: _scope(row) for name, row in answer["scopes"].items()},
            burn=BurnMeasure(**answer["burn"]),
            counters={parse_series(name): int(value) for name, value in counters.items() if not is_of_histogram(name)},
            histograms=_histograms(counters),
            exemplars=_exemplars(counters),
            gauges=_gauges(answer["gauges"]),
            deletions=answer["deletions"],
        )


def _scope(row: Mapping[str, Any]) -> ScopeMeasure:
    cap = row.get("cap_usd_micros")
    return ScopeMeasure(
        spent_usd_micros=row["spent_usd_micros"],
        reserved_usd_micros=row["reserved_usd_micros"],
        cap_usd_micros=None if cap is None else int(cap),
    )


def parse_series(text: str) -> tuple[str, Labels]:
    """Read `metric|name=value|name=value`."""
    metric, *labels = text.split("|")
    return metric, tuple((name, value) for name, _, value in (label.partition("=") for label in labels if label))


def _pairs(flat: Sequence[str] | Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What HGETALL gave; cjson writes an empty table as `{}`."""
    values = iter(flat)
    return zip(values, values, strict=True)


def _histograms(fields: Mapping[str, str]) -> list[Series]:
    found: dict[tuple[str, Labels], tuple[dict[str, int], list[float]]] = {}
    for name, value in fields.items():
        if not is_of_histogram(name) or is_example(name):
            continue
        series, _, last = name.rpartition("|")
        buckets, total = found.setdefault(parse_series(series), ({}, [0.0]))
        if last == "sum":
            total[0] = int(value) * _MILLIONTHS
        else:
            buckets[last.removeprefix("le=")] = int(value)
    return [Series(metric, labels, buckets, total[0]) for (metric, labels), (buckets, total) in found.items()]


def _exemplars(fields: Mapping[str, str]) -> dict[tuple[str, Labels, str], Exemplar]:
    found = {}
    for name, text in fields.items():
        if not is_example(name):
            continue
        series, _, bound = name.removesuffix("|job").rpartition("|le=")
        job_id, value, at_ms = text.split(" ")
        found[*parse_series(series), bound] = Exemplar(job_id, float(value), int(at_ms))
    return found


def _gauges(flat: Sequence[str]) -> dict[tuple[str, Labels], Gauge]:
    found = {}
    for name, text in _pairs(flat):
        value, at_ms = text.split(" ")
        found[parse_series(name)] = Gauge(float(value), int(at_ms))
    return found
