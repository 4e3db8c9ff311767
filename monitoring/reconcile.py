"""Compares the counters with the records: every counter that can be recomputed from the records, exactly.

    differences(ledger)   -> every difference; an empty list: the counters equal the ledger's own count

The counters are raised in the scripts of the transitions; here they are counted again, from each job's record, its
attempts, its history and its receipts. Ask when nothing moves (after a run): the records are read page by page.
Jobs that were retired or quarantined have no record to count, so with any of those a counter may be above the records.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ledger import Kind, Ledger
from ledger.measuring import Labels, Measurement
from ledger.states import TERMINAL, State

_PAGE = 200
_SHED = ("overloaded", "budget_exhausted", "deadline_impossible")
#: Histograms whose sums the records tell, to the millisecond: times of a job by the ledger's own clock.
_SUMMED = frozenset({"job_wait_seconds", "job_run_seconds", "job_total_seconds"})
#: A value above that is no sensible one, and is not observed (ledger/lua/_lib.lua).
_LONGEST_MS = 10**12

Key = tuple[str, Labels]


@dataclass(frozen=True)
class Difference:
    """A counter that is not what the records add up to; a histogram's sum is in millionths of a second."""

    metric: str
    labels: Labels
    counted: int
    recorded: int

    def __str__(self) -> str:
        """For a person."""
        labels = ", ".join(f"{name}={value}" for name, value in self.labels)
        return f"{self.metric}{{{labels}}}: {self.counted} counted, {self.recorded} recorded"


@dataclass(frozen=True)
class _Job:
    fields: Mapping[str, str]
    attempts: tuple[Mapping[str, str], ...]
    history: tuple[Mapping[str, object], ...]
    receipts: tuple[Mapping[str, object], ...]


#: Which labels of each counter the records can tell; the others are summed over.
_TOLD: Mapping[str, tuple[str, ...]] = {
    "submitted_total": ("kind", "source"),
    "jobs_total": ("kind", "outcome", "pool"),
    "failures_total": ("kind", "pool", "reason"),
    "shed_total": ("kind", "reason"),
    "transitions_total": ("from", "kind", "to"),
    "deadlines_met_total": ("kind", "pool"),
    "deadlines_missed_total": ("kind", "pool"),
    "placements_total": ("gpu", "kind", "pool"),
    "attempts_total": ("gpu", "kind", "outcome", "pool"),
    "out_of_memory_total": ("gpu", "kind", "pool"),
    "decisions_total": ("kind", "rule"),
    "job_wait_seconds": ("kind", "pool"),
    "job_run_seconds": ("kind", "pool"),
    "job_total_seconds": ("kind", "pool"),
}


def differences(ledger: Ledger) -> list[Difference]:
    """Every counter and histogram that does not equal what the records add up to.

    Raises:
        LedgerUnavailable: Redis did not answer in time.
    """
    recorded: Counter[Key] = Counter()
    for job in _jobs(ledger):
        recorded.update(_counts_of(job))
        for key, times_ms in _times_of(job):
            recorded[key] += times_ms * 1000
    measured = ledger.stats.read()
    counted = _counted(measured)
    forgotten = measured.quarantined + sum(n for (name, _), n in measured.counters.items() if name == "retired_total")
    found = [
        Difference(*key, counted=counted[key], recorded=recorded[key])
        for key in sorted({*counted, *recorded})
        if (counted[key] < recorded[key] if forgotten else counted[key] != recorded[key])
    ]
    return [*found, *_money_differences(ledger, measured)]


def _counted(measured: Measurement) -> Counter[Key]:
    """What was counted, by the labels that the records can tell."""
    rows: list[tuple[str, Labels, int]] = [(name, labels, n) for (name, labels), n in measured.counters.items()]
    rows += [(series.metric, series.labels, sum(series.buckets.values())) for series in measured.histograms]
    sums: Counter[Key] = Counter()
    for series in measured.histograms:
        if series.metric in _SUMMED:
            sums[f"{series.metric}_sum", series.labels] += round(series.total * 1e6)
    for name, labels, number in rows:
        if name in _TOLD:
            sums[name, tuple(pair for pair in labels if pair[0] in _TOLD[name])] += number
    return sums


def _money_differences(ledger: Ledger, measured: Measurement) -> Iterator[Difference]:
    """Dollars are booked and counted in one step; what a true-up books belongs to no attempt, and is counted apart."""
    counted: Counter[str] = Counter()
    for (name, labels), micros in measured.counters.items():
        if name == "cost_usd_micros_total":
            values = dict(labels)
            counted[f"{values['pool']}:component:{values['component']}"] += micros
    booked = _booked(ledger)
    for name in sorted({*counted, *booked}):
        if counted[name] != booked[name]:
            pool, _, component = name.split(":")
            labels_of = (("component", component), ("pool", pool))
            yield Difference("cost_usd_micros_total", labels_of, counted[name], booked[name])


def _booked(ledger: Ledger) -> Counter[str]:
    """Micro-dollars booked in all months that are kept, by `<pool>:component:<component>`."""
    client, prefix = ledger.client, ledger.prefix
    money = ledger.runner.guarded(lambda: client.hkeys(f"{prefix}:money"))
    months = {name.rsplit(":", 1)[1] for name in money if name.startswith("spent:")}
    booked: Counter[str] = Counter()
    for month in months:
        spend = ledger.runner.guarded(lambda month=month: client.hgetall(f"{prefix}:spend:{month}"))
        for name, micros in spend.items():
            if ":component:" in name and not name.endswith(":true_up"):
                booked[name] += int(micros)
    return booked


def _counts_of(job: _Job) -> Iterator[Key]:
    """Every count that a job has caused."""
    fields, kind = job.fields, ("kind", job.fields["kind"])
    yield "submitted_total", (kind, ("source", fields["source"]))
    yield from _of_history(job, kind)
    for receipt in job.receipts:
        yield "decisions_total", (kind, ("rule", str(receipt["rule"])))
    for attempt in job.attempts:
        where = (("gpu", attempt.get("gpu") or "inhouse"), kind)
        pool = ("pool", attempt["pool"])
        yield "placements_total", (*where, pool)
        if "outcome" in attempt:
            yield "attempts_total", (*where, ("outcome", attempt["outcome"]), pool)
            if attempt["outcome"] == "out_of_memory":
                yield "out_of_memory_total", (*where, pool)
    if fields["state"] in TERMINAL:
        yield from _of_end(fields, kind)


def _of_history(job: _Job, kind: tuple[str, str]) -> Iterator[Key]:
    """Each change of state, and the first start."""
    before: str | None = None
    has_started = False
    for event in job.history:
        if not str(event["event"]).startswith("job."):
            continue
        state = str(event["state"])
        if before is not None:
            yield "transitions_total", (("from", before), kind, ("to", state))
        if state == State.RUNNING and not has_started:
            has_started = True
            yield "job_wait_seconds", (kind, ("pool", str(event["pool"])))
        before = state


def _of_end(fields: Mapping[str, str], kind: tuple[str, str]) -> Iterator[Key]:
    """What was counted when it ended."""
    state, pool = fields["state"], ("pool", fields.get("pool", "none"))
    yield "jobs_total", (kind, ("outcome", state), pool)
    if state == State.COMPLETED:
        yield "job_run_seconds", (kind, pool)
        yield "job_total_seconds", (kind, pool)
    if state == State.FAILED:
        reason = ("reason", fields.get("error_code", "unknown"))
        yield "failures_total", (kind, pool, reason)
        if reason[1] in _SHED:
            yield "shed_total", (kind, reason)
    if "deadline_ms" in fields and state != State.CANCELLED:
        in_time = state == State.COMPLETED and int(fields["finished_ms"]) <= int(fields["deadline_ms"])
        yield ("deadlines_met_total" if in_time else "deadlines_missed_total"), (kind, pool)


def _times_of(job: _Job) -> Iterator[tuple[Key, int]]:
    """What a job has added to the sums of histograms, milliseconds."""
    fields = job.fields
    kind, created_ms = ("kind", fields["kind"]), int(fields["created_ms"])
    found = []
    first = next((event for event in job.history if event["event"] == f"job.{State.RUNNING}"), None)
    if first is not None:
        found.append(("job_wait_seconds", str(first["pool"]), int(str(first["at_ms"])) - created_ms))
    if fields["state"] == State.COMPLETED:
        finished_ms, pool = int(fields["finished_ms"]), fields["pool"]
        found.append(("job_run_seconds", pool, finished_ms - int(fields["started_ms"])))
        found.append(("job_total_seconds", pool, finished_ms - created_ms))
    for name, pool, time_ms in found:
        if 0 <= time_ms < _LONGEST_MS:
            yield (f"{name}_sum", (kind, ("pool", pool))), time_ms


def _jobs(ledger: Ledger) -> Iterator[_Job]:
    """Every job that can be read, page by page."""
    aside = ledger.runner.guarded(lambda: set(ledger.client.hkeys(f"{ledger.prefix}:quarantine")))
    for kind in Kind:
        key = f"{ledger.prefix}:jobs:{kind}"
        ids = [one for one, _ in ledger.runner.guarded(lambda key=key: list(ledger.client.zscan_iter(key)))]
        readable = [one for one in dict.fromkeys(ids) if one not in aside]
        for start in range(0, len(readable), _PAGE):
            yield from ledger.runner.guarded(lambda page=readable[start : start + _PAGE]: _page(ledger, page))


def _page(ledger: Ledger, ids: Iterable[str]) -> list[_Job]:
    prefix = ledger.prefix
    pipe = ledger.client.pipeline(transaction=False)
    for one in ids:
        pipe.hgetall(f"{prefix}:job:{one}")
        pipe.lrange(f"{prefix}:history:{one}", 0, -1)
        pipe.lrange(f"{prefix}:receipts:{one}", 0, -1)
    answers = iter(pipe.execute())
    rows = [row for row in zip(answers, answers, answers, strict=True) if row[0]]
    for fields, _, _ in rows:
        for number in range(1, int(fields["attempt"]) + 1):
            pipe.hgetall(f"{prefix}:attempt:{fields['id']}:{number}")
    attempts = iter(pipe.execute())
    return [
        _Job(
            fields=fields,
            attempts=tuple(next(attempts) for _ in range(int(fields["attempt"]))),
            history=tuple(json.loads(text) for text in history),
            receipts=tuple(json.loads(text) for text in receipts),
        )
        for fields, history, receipts in rows
    ]
