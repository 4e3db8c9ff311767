"""Alerts about dollars: budgets, where they will end, what is not booked.

A call's dollars are booked when it ends, and a training run may take most of a day until then. So what is spent at this
moment is told by what burns (`overspill_burn_usd_per_second`), and what is booked only says what it came to.
"""

from ledger.stages import DRAIN_RATIO
from monitoring.alerting.model import Alert, Group, Recording, Severity, known


def _budget(name: str, percent: int, severity: Severity, text: str) -> Alert:
    return Alert(
        name,
        f"scope:overspill_budget_used:ratio >= {percent / 100:g}",
        severity,
        "{{ $value | humanizePercentage }} of the budget `{{ $labels.scope }}` is used",
        text,
        hold="1m",
    )


#: Spills that a budget refused, by its scope as the exporter names it. A refusal does not say whose tenant's budget.
_REFUSED = (
    'sum by (scope) (label_replace(increase(overspill_spill_refused_total{reason=~"(month|day|tenant)_budget"}[10m]), '
    '"scope", "$1", "reason", "(.*)_budget")) '
    "or sum by (scope) (label_replace(increase("
    'overspill_spill_refused_total{reason="kind_budget"}[10m]), "scope", "kind:$1", "kind", "(.*)"))'
)
#: So full, what does not fit is the end of a budget; the ledger says so from the same share on (ledger/lua/_money.lua).
_NEARLY_USED = f"scope:overspill_budget_used:ratio >= {DRAIN_RATIO:g}"

#: When a true-up went well last.
_TRUE_UP = known('overspill_duty_timestamp_seconds{duty="true_up"}')

GROUP = Group(
    "money",
    "Dollars.",
    recordings=(
        Recording(
            "scope:overspill_budget_used:ratio",
            f"({known('overspill_budget_spent_usd')} + {known('overspill_budget_reserved_usd')}) "
            f"/ ({known('overspill_budget_cap_usd')} > 0)",
        ),
        Recording(
            "pool:overspill_cost_usd:rate1h",
            'sum by (pool) (rate(overspill_cost_usd_total{pool!="modal"}[1h])) * 3600 or '
            'label_replace(max(avg_over_time(overspill_burn_usd_per_second[1h])) * 3600, "pool", "modal", "", "")',
        ),
        Recording(
            "scope:overspill_budget_left:seconds",
            f"clamp_min({known('overspill_budget_period_end_timestamp_seconds')} - time(), 0)",
        ),
        Recording(
            # What is set aside says whose calls burn: all of it is the month's and the day's.
            "scope:overspill_burn_usd_per_second:share",
            "overspill_budget_reserved_usd / on () group_left () (max(overspill_budget_reserved_usd) > 0) "
            "* on () group_left () max(overspill_burn_usd_per_second) or overspill_budget_reserved_usd * 0",
        ),
        Recording(
            "scope:overspill_budget_projected_usd:rate6h",
            f"{known('overspill_budget_spent_usd')} + scope:overspill_budget_left:seconds "
            "* avg_over_time(scope:overspill_burn_usd_per_second:share[6h])",
        ),
        Recording("scope:overspill_spill_refused:increase10m", _REFUSED),
    ),
    alerts=(
        _budget("Budget50", 50, Severity.INFO, "Half of it is spent or reserved."),
        _budget("Budget80", 80, Severity.WARNING, "At 90 % only jobs of high priority still spill."),
        _budget("Budget95", 95, Severity.CRITICAL, "At 100 % nothing spills any more; in-house goes on."),
        Alert(
            "BudgetExhausted",
            "scope:overspill_budget_used:ratio >= 0.999 or "
            f"({_NEARLY_USED} and on (scope) scope:overspill_spill_refused:increase10m > 0)",
            Severity.CRITICAL,
            "the budget `{{ $labels.scope }}` is used up",
            "Spills are refused by the budget: jobs wait for in-house slots, and are held or shed.",
            hold="1m",
        ),
        Alert(
            "JobExceedsBudget",
            f"scope:overspill_spill_refused:increase10m > 0 unless on (scope) {_NEARLY_USED}",
            Severity.WARNING,
            "a job does not fit into what is left of the budget `{{ $labels.scope }}`",
            "Its reservation is more than what is left, and the budget is not nearly used: it is a large job. "
            "It waits for an in-house slot, and is held or shed. `tenant` is the budget of some tenant, which may "
            "be used up.",
            hold="1m",
        ),
        Alert(
            "CapPassed",
            "sum by (scope) (increase(overspill_overshoot_usd_total[1h])) > 0",
            Severity.WARNING,
            "a cap `{{ $labels.scope }}` was passed by {{ $value | humanize }} dollars",
            "A call cost more than was set aside for it, and the cap had no room for that.",
        ),
        Alert(
            "BudgetEndsEarly",
            f"scope:overspill_budget_projected_usd:rate6h > {known('overspill_budget_cap_usd')} "
            "and scope:overspill_budget_left:seconds > 86400 and scope:overspill_budget_used:ratio > 0.05",
            Severity.WARNING,
            "the budget `{{ $labels.scope }}` will not last: {{ $value | humanize }} dollars at this rate",
            "What was spent, and what has burned on Modal in the last six hours until the end of the period, passes "
            "the cap.",
            hold="30m",
        ),
        Alert(
            "SpendRateUnusual",
            'pool:overspill_cost_usd:rate1h{pool="modal"} > 10 '
            'and pool:overspill_cost_usd:rate1h{pool="modal"} > 2 * pool:overspill_cost_usd:rate1h{pool="modal"} '
            "offset 1w",
            Severity.WARNING,
            "Modal costs {{ $value | humanize }} dollars an hour, twice what it did a week ago",
            "What was alive there in the last hour, compared with the same hour of last week, and above ten dollars.",
            hold="15m",
        ),
        Alert(
            "CostDataStale",
            'sum (increase(overspill_attempts_total{pool="modal",outcome="completed"}[1h])) > 0 '
            'unless sum (increase(overspill_cost_usd_total{pool="modal"}[1h])) > 0 '
            f"or time() - max ({_TRUE_UP}) > 259200 "
            'or sum (overspill_cost_usd_total{pool="modal"} offset 3d) > 0 '
            f"unless on () {_TRUE_UP}",
            Severity.WARNING,
            "what Modal costs is not known",
            "Jobs complete on Modal and no dollar is booked, or the ledger was not compared for three days with "
            "Modal's billing report. The budgets and every cost that is shown may be wrong for as long as this lasts.",
            hold="15m",
        ),
    ),
)
