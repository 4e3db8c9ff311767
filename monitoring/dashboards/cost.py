"""Spending, and whether the budgets last."""

from monitoring.dashboards.model import Dashboard, Panel, Query, Row, number, rates

DASHBOARD = Dashboard(
    "overspill-cost",
    "Overspill: cost",
    "Spending, and whether the budgets last. In-house seconds have a price too.",
    (
        Row(
            "Budgets",
            (
                number("Used", "The fullest budget.", "max(scope:overspill_budget_used:ratio)", "percentunit"),
                number(
                    "Spent", "This month, on Modal.", 'max(overspill_budget_spent_usd{scope="month"})', "currencyUSD"
                ),
                number(
                    "Reserved",
                    "For attempts and idle tails that are not settled.",
                    'max(overspill_budget_reserved_usd{scope="month"})',
                    "currencyUSD",
                ),
                number("Cap", "Of the month.", 'max(overspill_budget_cap_usd{scope="month"})', "currencyUSD"),
                number(
                    "At the month's end",
                    "At this month's pace.",
                    'max(overspill_budget_projected_usd{scope="month"})',
                    "currencyUSD",
                ),
                number(
                    "Cost of an hour",
                    "What was alive on Modal in the last hour, booked or not.",
                    'sum(pool:overspill_cost_usd:rate1h{pool="modal"})',
                    "currencyUSD",
                ),
                Panel(
                    "Under each cap",
                    "Spent, reserved, cap.",
                    (
                        Query("max by (scope) (overspill_budget_spent_usd)", "{{scope}} spent"),
                        Query(
                            "max by (scope) (overspill_budget_spent_usd + overspill_budget_reserved_usd)",
                            "{{scope}} with what is reserved",
                        ),
                        Query("max by (scope) (overspill_budget_cap_usd)", "{{scope}} cap"),
                    ),
                    "currencyUSD",
                    width=12,
                ),
                Panel(
                    "Projection",
                    "By the burn rate of the last six hours, and by the spending of the whole period.",
                    (
                        Query("max by (scope) (scope:overspill_budget_projected_usd:rate6h)", "{{scope}}, six hours"),
                        Query("max by (scope) (overspill_budget_projected_usd)", "{{scope}}, whole period"),
                    ),
                    "currencyUSD",
                    width=12,
                ),
            ),
        ),
        Row(
            "Spending",
            (
                Panel(
                    "Burn rate",
                    "Dollars an hour of all that is alive on Modal, beside what was booked in the last hour. A call is "
                    "booked when it ends: a long one shows in the first line while it runs, in the second afterwards.",
                    (
                        Query("max(overspill_burn_usd_per_second) * 3600", "alive"),
                        Query('sum(rate(overspill_cost_usd_total{pool="modal"}[1h])) * 3600', "booked"),
                    ),
                    "currencyUSD",
                    width=12,
                ),
                Panel(
                    "GPUs on Modal",
                    "Of all that is alive there.",
                    (Query("max(overspill_burn_gpus)", "GPUs"),),
                    width=12,
                ),
                Panel(
                    "Dollars an hour, by component",
                    "Execution, containers that start (cold) and that wait (idle).",
                    (rates("cost_usd_total", by="component", times=3600, legend="{{component}}"),),
                    "currencyUSD",
                    "areas",
                ),
                Panel(
                    "Dollars an hour, by kind and pool",
                    "In-house seconds at our own price.",
                    (rates("cost_usd_total", by="kind, pool", times=3600, legend="{{kind}} {{pool}}"),),
                    "currencyUSD",
                    "areas",
                ),
                Panel(
                    "Dollars an hour, by GPU class",
                    "On Modal.",
                    (rates("cost_usd_total", by="gpu", where='pool="modal"', times=3600, legend="{{gpu}}"),),
                    "currencyUSD",
                    "areas",
                ),
                Panel(
                    "Cost of a completed job",
                    "Dollars of an hour, divided by the jobs that it completed.",
                    (
                        Query(
                            "sum by (kind, pool) (increase(overspill_cost_usd_total[1h])) / (sum by (kind, pool) "
                            '(increase(overspill_jobs_total{outcome="completed"}[1h])) > 0)',
                            "{{kind}} {{pool}}",
                        ),
                    ),
                    "currencyUSD",
                ),
                Panel(
                    "Against a week ago",
                    "Modal's dollars an hour, now and in the same hour of last week.",
                    (
                        Query('pool:overspill_cost_usd:rate1h{pool="modal"}', "now"),
                        Query('pool:overspill_cost_usd:rate1h{pool="modal"} offset 1w', "a week ago"),
                    ),
                    "currencyUSD",
                ),
                Panel(
                    "Prices",
                    "Dollars an hour of a container of each class; `inhouse` is ours.",
                    (Query("max by (gpu) (overspill_price_usd_per_second) * 3600", "{{gpu}}"),),
                    "currencyUSD",
                    "bars",
                ),
            ),
        ),
    ),
)
