"""Every metric that the exporter serves, in one table.

docs/monitoring.md is made from it; dashboards and rules are checked against it.

A metric of the ledger has the ledger's own name behind the prefix; dollars are micro-dollars there (`_usd_micros`) and
dollars here (`_usd`). Labels that the ledger has and this table lacks are summed over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product

from ledger.deletions import Result, Store
from ledger.models import Kind
from ledger.refusals import Refusal
from ledger.retries import Cause
from ledger.states import TERMINAL, Pool
from workers.maintenance.duties import DutyName

PREFIX = "overspill_"

_KINDS = tuple(str(kind) for kind in Kind)
_POOLS = tuple(str(pool) for pool in Pool)
_OUTCOMES = tuple(sorted(str(state) for state in TERMINAL))
#: Error codes of failed jobs: the causes of failed attempts, and why a job is shed.
_REASONS = (*(str(cause) for cause in Cause), "overloaded", "budget_exhausted", "deadline_impossible")


class Type(StrEnum):
    """How a metric behaves, in Prometheus's words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Source(StrEnum):
    """The source of a metric in the exporter."""

    #: The ledger's counters and histograms: raised in the script of the transition that they count.
    LEDGER = "ledger"
    #: The value that a worker noted in the ledger last; not shown when it is old.
    NOTED = "noted"
    #: Read or computed at the scrape.
    SCRAPE = "scrape"


@dataclass(frozen=True)
class Metric:
    """One metric, without the prefix in its name."""

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    source: Source = Source.SCRAPE
    #: Values of each label for which a zero is served before anything was counted: a counter that appears with its
    #: first event has no increase. Empty: none.
    zeros: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: The ledger's name for it, where that is another.
    counts: str = ""

    @property
    def full_name(self) -> str:
        """As Prometheus knows it, without the suffixes of a histogram's series."""
        return PREFIX + self.name

    @property
    def ledger_name(self) -> str:
        """As the ledger knows it."""
        if self.counts:
            return self.counts
        return self.name.replace("_usd_", "_usd_micros_") if self.unit == "usd" else self.name

    @property
    def scale(self) -> float:
        """What one of the ledger's units is here."""
        return 1e-6 if self.unit == "usd" and self.source is Source.LEDGER else 1.0

    def zero_labels(self) -> list[tuple[str, ...]]:
        """The label values, in the order of `labels`, that are served from the beginning."""
        if self.labels and not self.zeros:
            return []
        return list(product(*(self.zeros[name] for name in self.labels)))


def _counter(
    name: str, text: str, *labels: str, unit: str = "", zeros: Mapping[str, Sequence[str]] | None = None
) -> Metric:
    return Metric(name, Type.COUNTER, text, labels, unit, Source.LEDGER, zeros or {})


def _histogram(name: str, text: str, *labels: str, zeros: Mapping[str, Sequence[str]] | None = None) -> Metric:
    return Metric(name, Type.HISTOGRAM, text, labels, name.rpartition("_")[2], Source.LEDGER, zeros or {})


def _gauge(name: str, text: str, *labels: str, unit: str = "") -> Metric:
    return Metric(name, Type.GAUGE, text, labels, unit)


def _noted(name: str, text: str, *labels: str, unit: str = "") -> Metric:
    return Metric(name, Type.GAUGE, text, labels, unit, Source.NOTED)


_BY_KIND = {"kind": _KINDS}
_BY_KIND_AND_POOL = {"kind": _KINDS, "pool": _POOLS}

_JOBS = (
    _counter("submitted_total", "Jobs accepted.", "kind", "source"),
    _counter(
        "jobs_total",
        "Jobs ended, by the pool of their last attempt (`none`: they never had one).",
        "kind",
        "outcome",
        "pool",
        zeros={"kind": _KINDS, "outcome": _OUTCOMES, "pool": (*_POOLS, "none")},
    ),
    _counter("failures_total", "Jobs failed, by their error code; shed ones too.", "kind", "reason",
             zeros={"kind": _KINDS, "reason": _REASONS}),
    _counter("shed_total", "Jobs refused or failed after their hold time.", "kind", "reason"),
    _counter("rejected_total", "Requests that the API rejected, because a limit would have refused the job.",
             "kind", "reason"),
    _counter("transitions_total", "Changes of a job's state.", "from", "kind", "to"),
    _counter("deadlines_met_total", "Jobs with a deadline that completed by it.", "kind", "pool",
             zeros={"kind": _KINDS, "pool": (*_POOLS, "none")}),
    _counter("deadlines_missed_total", "Jobs with a deadline that completed later, or failed.", "kind", "pool",
             zeros={"kind": _KINDS, "pool": (*_POOLS, "none")}),
    _histogram("job_wait_seconds", "From a job's acceptance to its first start (Modal: to its accepted call).",
               "kind", "pool", zeros=_BY_KIND_AND_POOL),
    _histogram("job_run_seconds", "From the last attempt's start to the job's completion.", "kind", "pool",
               zeros=_BY_KIND_AND_POOL),
    _histogram("job_total_seconds", "From a job's acceptance to its completion.", "kind", "pool",
               zeros=_BY_KIND_AND_POOL),
    _counter("retired_total", "Ended jobs removed after their retention.", "kind"),
    _counter("quarantined_total", "Records quarantined because this version cannot read them.", "reason"),
    _counter("messages_dropped_total", "Celery messages that were malformed or could not be recorded.", "reason"),
)  # fmt: skip

_ATTEMPTS = (
    _counter("placements_total", "Attempts created.", "kind", "pool", zeros=_BY_KIND_AND_POOL),
    Metric("gpu_placements_total", Type.COUNTER, "The same, by GPU class (`inhouse`: our own).",
           ("gpu", "kind", "pool"), source=Source.LEDGER, counts="placements_total"),
    _counter("attempts_total", "Attempts ended: completed, cancelled, or the cause of their failure.",
             "gpu", "kind", "outcome", "pool"),
    _counter("hangs_total", "In-house attempts that hung: which of their clocks ran out.",
             "clock", "kind", zeros={"clock": ("start", "progress", "wall", "delivery"), "kind": _KINDS}),
    _counter("train_restarts_total", "Runs restarted within their attempt, because their container was preempted.",
             "pool", zeros={"pool": _POOLS}),
    _counter("train_steps_repeated_total", "Training steps repeated after a resume from an earlier checkpoint.",
             "pool", zeros={"pool": _POOLS}),
    _counter("out_of_memory_total", "Attempts that ran out of memory: the GPU's (`cuda`) or the host's.",
             "kind", "pool", "where", zeros={**_BY_KIND_AND_POOL, "where": ("cuda", "host")}),
    _histogram("gpu_memory_peak_ratio", "Peak GPU memory of a completed attempt, share of the GPU's.",
               "gpu", "kind", "pool"),
    _histogram("cold_start_seconds", "From a Modal container's start to its first input's, as that input saw it.",
               "gpu", "kind"),
    _histogram("prediction_error_ratio",
               "Cost of a Modal attempt, divided by its first reservation (above 1: it was too low).",
               "kind", "pool"),
)  # fmt: skip

_DECISIONS = (
    _counter("decisions_total", "Decisions committed (inhouse, modal, hold, shed), by the rule that decided.",
             "decision", "kind", "rule"),
    _counter("spill_refused_total", "Spills that a hard limit refused.", "kind", "reason",
             zeros={"kind": _KINDS, "reason": tuple(str(refusal) for refusal in Refusal)}),
    _counter("spill_transitions_total", "Changes between spilling and not.", "kind", "to",
             zeros={"kind": _KINDS, "to": ("on", "off")}),
    _counter("spill_overrides_total", "Overrides of spilling by an operator.", "mode"),
    _gauge("spill_active", "Whether the policy spills now (1) or not (0).", "kind"),
    _gauge("spill_since_timestamp_seconds", "When that last changed; 0: never.", "kind", unit="seconds"),
)  # fmt: skip

_DEPTHS = (
    _gauge("queue_depth", "Jobs that wait or run: queued, delayed (pause after a failure), claimed (in decision), "
           "waiting_inhouse, active_inhouse.", "kind", "state"),
    _gauge("jobs_kept", "Records in the ledger, ended jobs too.", "kind"),
    _gauge("jobs_held", "Jobs that wait because in-house is full and Modal may not be used now."),
    _gauge("jobs_quarantined", "Records in quarantine."),
    _gauge("oldest_job_age_seconds", "Age of the oldest job that is queued or waits in-house, since its acceptance; "
           "delayed or claimed, since the end of that pause or claim, if it was not taken up; "
           "that runs in-house, since its start; that is held, since it was first held.",
           "kind", "state", unit="seconds"),
    _gauge("predicted_wait_seconds", "In-house queue, times the mean run so far, divided by live slots; +Inf: no slot.",
           "kind", unit="seconds"),
    _gauge("slots_live", "In-house slots with a live lease.", "kind"),
    _gauge("slots_busy", "Attempts that run in-house.", "kind"),
    _gauge("leases_expired", "Attempts whose lease has lapsed and that no sweep has ended yet."),
    _gauge("nudges_overdue", "Jobs whose nudge seems lost.", "queue"),
    _gauge("broker_messages", "Messages in a Celery queue, over all its priority lists.", "queue"),
    _gauge("broker_wrong_type_keys", "Keys of a Celery queue that hold something which is no list.", "queue"),
    _gauge("broker_unacked_messages", "Messages delivered and not acknowledged (with emulated acks only)."),
)  # fmt: skip

_MODAL = (
    _gauge("modal_calls", "Modal attempts: waiting (for a spawner), spawning, in_flight, stopping.", "state"),
    _gauge("modal_oldest_age_seconds", "Age of the oldest attempt that waits for its spawn, or is alive, since its "
           "placement.", "state", unit="seconds"),
    _gauge("modal_containers_idle", "Containers that may be idle and are paid for, all of them."),
    _gauge("follow_delay_seconds", "How long the most overdue call has waited for a poll.",
           unit="seconds"),
    _histogram("follow_lag_seconds", "From a call's end to the poll that saw it.", "gpu", "kind"),
    _histogram("spawn_seconds", "How long Modal took to accept a call.", "gpu", "kind"),
    _counter("spawn_errors_total", "Spawns refused or lost, by the kind of error.", "reason",
             zeros={"reason": ("unavailable", "timed_out", "throttled", "token_refused", "not_deployed", "not_prepared",
                              "error")}),
    _gauge("modal_breaker", "1 for the phase that the circuit breaker before Modal is in: closed, half_open, open.",
           "phase"),
    _gauge("modal_breaker_reason", "1 for the reason why the breaker is open.", "reason"),
    _counter("modal_breaker_transitions_total", "Changes of the breaker's phase.", "reason", "to"),
    _gauge("followers_live", "Followers with a live lease."),
    _counter("hints_total", "Hints that calls sent: started, progress, done.", "what"),
    _counter("calls_stopped_total", "Cancelled or unneeded calls, stopped and settled.", "kind", zeros=_BY_KIND),
    _counter("orphans_total", "Calls of ours that the ledger did not know: adopted or stopped.", "kind",
             "outcome", zeros={**_BY_KIND, "outcome": ("adopted", "stopped")}),
    _counter("containers_ended_early_total", "Idle containers that ended before their window was over.",
             "gpu", "kind"),
    _counter("idle_not_taken_total", "Idle containers that an attempt was expected to take and did not.", "gpu",
             "kind"),
    _counter("leaked_reservations_total", "Leaked reservations that were released (there should be none).",
             "reason"),
)  # fmt: skip

_MONEY = (
    _counter("cost_usd_total", "Dollars spent: execution, cold_start, between_calls and idle (waiting in containers).",
             "component", "gpu", "kind", "pool", unit="usd"),
    _counter("reservation_exceeded_usd_total", "Dollars by which settlements passed what was reserved for them.",
             "gpu", "kind", unit="usd"),
    _counter("overshoot_usd_total", "Dollars by which a cap was exceeded (a call outlived its reservation).",
             "scope", unit="usd", zeros={"scope": ("month", "day", "tenant", "kind")}),
    _counter("top_ups_total", "Reservations raised while their call runs, or refused.", "kind", "outcome"),
    _counter("true_up_usd_total", "Dollars by which Modal's billing report differed from ours, booked.", "direction",
             unit="usd"),
    _counter("money_stages_total", "Stages that budgets reached: warn_50, warn_80, drain, stop.", "scope", "stage"),
    _gauge("burn_usd_per_second", "Dollars a second of everything that is alive on Modal now."),
    _gauge("burn_gpus", "GPUs of it."),
    _gauge("budget_cap_usd", "The cap of a budget, as the last placement on Modal had it (before the first: the "
           "exporter's own setting): month, day, kind:<kind>, and tenant:<tenant> where one is set.",
           "scope", unit="usd"),
    _gauge("budget_spent_usd", "Spent under it in its present period.", "scope", unit="usd"),
    _gauge("budget_reserved_usd", "Reserved under it for attempts and idle tails that are not settled.", "scope",
           unit="usd"),
    _gauge("budget_projected_usd", "Spent at the end of the period, if it goes on as in the period so far.", "scope",
           unit="usd"),
    _gauge("budget_period_end_timestamp_seconds", "When the period ends.", "scope", unit="seconds"),
    _gauge("price_usd_per_second", "What a container of a GPU class costs, with its cores and memory; `inhouse`: ours.",
           "gpu", unit="usd"),
)  # fmt: skip

_SELF = (
    _gauge("up", "Whether the ledger answered this scrape."),
    Metric("build_info", Type.GAUGE, "1; the labels say what runs.", ("python", "version")),
    _gauge("duty_timestamp_seconds", "Last success of a duty (maintenance, follower); 0: never.", "duty",
           unit="seconds"),
    _gauge("duty_failed_rounds", "Rounds of a duty that have failed in a row.", "duty"),
    _counter("duty_failures_total", "Rounds of a maintenance duty that failed.", "duty",
             zeros={"duty": tuple(DutyName)}),
    _gauge("deletions_pending", "Objects, folders and jobs that are to be deleted and are not confirmed yet.", "store"),
    _counter("deletions_total", "What became of tries to delete: deleted, failed (tried again), unfinished, refused.",
             "outcome", "store", zeros={"outcome": tuple(Result), "store": tuple(Store)}),
    _gauge("redis_up", "Whether a Redis answered this scrape: the ledger's, the broker's.", "role"),
    _gauge("redis_memory_used_bytes", "Memory that it uses.", "role", unit="bytes"),
    _gauge("redis_memory_max_bytes", "Memory that it may use: maxmemory, or the host's where that is not set.",
           "role", unit="bytes"),
    Metric("redis_evicted_keys_total", Type.COUNTER, "Keys that it evicted (one is too many).", ("role",)),
    _gauge("redis_keeps_all", "Whether it evicts nothing (maxmemory-policy noeviction).", "role"),
    _gauge("redis_writes_ok", "Whether its last writes to disk succeeded.", "role"),
    _gauge("exporter_read_seconds", "How long this scrape's reads took.", unit="seconds"),
    _gauge("exporter_unlisted_series", "Series of the ledger that this exporter's catalogue lacks (another version)."),
)  # fmt: skip

SECTIONS: Mapping[str, tuple[Metric, ...]] = {
    "Jobs": _JOBS,
    "Attempts": _ATTEMPTS,
    "Decisions": _DECISIONS,
    "Queues": _DEPTHS,
    "Modal": _MODAL,
    "Money": _MONEY,
    "The system itself": _SELF,
}
METRICS: Mapping[str, Metric] = {metric.name: metric for metrics in SECTIONS.values() for metric in metrics}


def series_names() -> frozenset[str]:
    """Every name that a query may use: histograms by their three series."""
    names = set()
    for metric in METRICS.values():
        suffixes = ("_bucket", "_count", "_sum") if metric.type is Type.HISTOGRAM else ("",)
        names |= {metric.full_name + suffix for suffix in suffixes}
    return frozenset(names)
