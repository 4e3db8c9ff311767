"""Alerts about dollars: budgets, where they will end, what is not booked."""

from monitoring.alerting.model import Alert, Group, Recording, Severity


def _budget(name: str, percent: int, severity: Severity, text: str) -> Alert:
    return Alert(
        name,
        f"scope:overspill_budget_used:ratio >= {percent / 100:g}",
        severity,
        "{{ $value | humanizePercentage }} of the budget `{{ $labels.scope }}` is used",
        text,
        hold="1m",
    )


GROUP = Group(
    "money",
    "Dollars.",
    recordings=(
        Recording(
            "scope:overspill_budget_used:ratio",
            "(overspill_budget_spent_usd + overspill_budget_reserved_usd) / (overspill_budget_cap_usd > 0)",
        ),
        Recording("pool:overspill_cost_usd:rate1h", "sum by (pool) (rate(overspill_cost_usd_total[1h])) * 3600"),
        Recording(
            "scope:overspill_budget_left:seconds",
            "clamp_min(overspill_budget_period_end_timestamp_seconds - time(), 0)",
        ),
        Recording(
            "scope:overspill_budget_projected_usd:rate6h",
            "overspill_budget_spent_usd + scope:overspill_budget_left:seconds "
            "* clamp_min(deriv(overspill_budget_spent_usd[6h]), 0)",
        ),
    ),
    alerts=(
        _budget("Budget50", 50, Severity.INFO, "Half of it is spent or reserved."),
        _budget("Budget80", 80, Severity.WARNING, "At 90 % only jobs of high priority still spill."),
        _budget("Budget95", 95, Severity.CRITICAL, "At 100 % nothing spills any more; in-house goes on."),
        Alert(
            "BudgetExhausted",
            "scope:overspill_budget_used:ratio >= 0.999 or label_replace(sum (increase("
            'overspill_spill_refused_total{reason=~".+_budget"}[10m])) > 0, "scope", "refused", "", "")',
            Severity.CRITICAL,
            "a budget is used up",
            "Spills are refused for want of money: jobs wait for in-house slots, and are held or shed.",
            hold="1m",
        ),
        Alert(
            "BudgetEndsEarly",
            "scope:overspill_budget_projected_usd:rate6h > overspill_budget_cap_usd "
            "and scope:overspill_budget_left:seconds > 86400 and overspill_budget_spent_usd > 0.05 "
            "* overspill_budget_cap_usd",
            Severity.WARNING,
            "the budget `{{ $labels.scope }}` will not last: {{ $value | humanize }} dollars at this rate",
            "What was spent, plus the rate of the last six hours until the end of the period, passes the cap.",
            hold="30m",
        ),
        Alert(
            "SpendRateUnusual",
            'pool:overspill_cost_usd:rate1h{pool="modal"} > 10 '
            'and pool:overspill_cost_usd:rate1h{pool="modal"} > 2 * pool:overspill_cost_usd:rate1h{pool="modal"} '
            "offset 1w",
            Severity.WARNING,
            "Modal costs {{ $value | humanize }} dollars an hour, twice what it did a week ago",
            "Compared with the same hour of last week, and above ten dollars an hour.",
            hold="15m",
        ),
        Alert(
            "CostDataStale",
            'sum (increase(overspill_attempts_total{pool="modal",outcome="completed"}[1h])) > 0 '
            'unless sum (increase(overspill_cost_usd_total{pool="modal"}[1h])) > 0 '
            'or time() - max (overspill_duty_timestamp_seconds{duty="true_up"}) > 259200',
            Severity.WARNING,
            "what Modal costs is not known",
            "Jobs complete on Modal and no dollar is booked, or it is three days since the last comparison with "
            "Modal's billing report. The budgets and every cost that is shown may be wrong for as long as this lasts.",
            hold="15m",
        ),
    ),
)
