"""The service levels: objectives, and how fast their error budgets burn.

Windows and burn rates are those of the SRE workbook, chapter 5, table 5-8 (a page for 2 % of a 30-day budget in an hour
or 5 % in six, a ticket for 10 % in a day or in three). At tens of jobs an hour a single failure would burn 14 times the
budget of 99.9 %, so the objectives are 95 to 99 %, and the alerts need a number of jobs first.
"""

from dataclasses import dataclass

from ledger.models import Kind
from monitoring.alerting.model import Alert, Group, Recording, Severity

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
#: Jobs that an alert needs in its long window.
LEAST_JOBS = 20


@dataclass(frozen=True)
class Objective:
    """One objective. `bad` and `total` are PromQL with `WINDOW` for the window, summed by kind."""

    name: str
    text: str
    #: The share that must be good.
    objective: float
    bad: str
    total: str


@dataclass(frozen=True)
class StartThreshold:
    """Jobs of a kind start within a number of seconds; a bound of `job_wait_seconds`."""

    kind: Kind
    seconds: float


#: When a job counts as started in time.
START_THRESHOLDS = (StartThreshold(Kind.RENDER, 300), StartThreshold(Kind.TRAIN, 3600))


def _started_late() -> str:
    """Jobs that started later than they should, by kind."""
    parts = [
        f'sum by (kind) (increase(overspill_job_wait_seconds_count{{kind="{one.kind}"}}[WINDOW])) - '
        f'sum by (kind) (increase(overspill_job_wait_seconds_bucket{{kind="{one.kind}",le="{float(one.seconds)}"}}'
        "[WINDOW]))"
        for one in START_THRESHOLDS
    ]
    return " or ".join(f"({part})" for part in parts)


OBJECTIVES = (
    Objective(
        "success",
        "Of the jobs that end, other than cancelled, 99 % complete (an invalid request is the user's own).",
        0.99,
        bad='sum by (kind) (increase(overspill_failures_total{reason!="invalid_request"}[WINDOW]))',
        total='sum by (kind) (increase(overspill_jobs_total{outcome=~"completed|failed"}[WINDOW]))',
    ),
    Objective(
        "start",
        "95 % of the jobs start in time: "
        + ", ".join(f"{one.kind} within {one.seconds:g} s" for one in START_THRESHOLDS)
        + ".",
        0.95,
        bad=_started_late(),
        total="sum by (kind) (increase(overspill_job_wait_seconds_count[WINDOW]))",
    ),
    Objective(
        "deadline",
        "98 % of the jobs that have a deadline complete by it.",
        0.98,
        bad="sum by (kind) (increase(overspill_deadlines_missed_total[WINDOW]))",
        total="sum by (kind) (increase(overspill_deadlines_met_total[WINDOW])) + "
        "sum by (kind) (increase(overspill_deadlines_missed_total[WINDOW]))",
    ),
)


def _recordings() -> tuple[Recording, ...]:
    rules = []
    for one in OBJECTIVES:
        labels = {"slo": one.name}
        rules.append(Recording("slo:overspill_error_budget:ratio", f"vector({1 - one.objective:.2g})", labels))
        for window in WINDOWS:
            bad, total = one.bad.replace("WINDOW", window), one.total.replace("WINDOW", window)
            rules += [
                Recording(f"kind_slo:overspill_sli_error:ratio_rate{window}", f"({bad}) / ({total} > 0)", labels),
                Recording(f"kind_slo:overspill_sli_total:increase{window}", total, labels),
            ]
    return tuple(rules)


def burning(factor: float, *, long: str, short: str) -> str:
    """Whether the budget burns `factor` times too fast, over a long window and still in a short one, with volume."""
    limit = f"on (slo) group_left () ({factor:g} * slo:overspill_error_budget:ratio)"
    return (
        f"(kind_slo:overspill_sli_error:ratio_rate{long} > {limit} "
        f"and kind_slo:overspill_sli_error:ratio_rate{short} > {limit} "
        f"and kind_slo:overspill_sli_total:increase{long} >= {LEAST_JOBS})"
    )


GROUP = Group(
    "objectives",
    "How fast the error budgets of the service levels burn.",
    recordings=_recordings(),
    alerts=(
        Alert(
            "ErrorBudgetBurnsFast",
            f"{burning(14.4, long='1h', short='5m')} or {burning(6, long='6h', short='30m')}",
            Severity.CRITICAL,
            "{{ $labels.kind }} jobs break the objective `{{ $labels.slo }}`: "
            "{{ $value | humanizePercentage }} are bad",
            "At this rate the month's error budget is gone within days. docs/monitoring.md says what each objective "
            "promises.",
            hold="2m",
        ),
        Alert(
            "ErrorBudgetBurnsSlowly",
            f"{burning(3, long='1d', short='2h')} or {burning(1, long='3d', short='6h')}",
            Severity.WARNING,
            "{{ $labels.kind }} jobs slowly break the objective `{{ $labels.slo }}`: "
            "{{ $value | humanizePercentage }} are bad",
            "At this rate the month's error budget does not last the month.",
            hold="15m",
        ),
    ),
)
