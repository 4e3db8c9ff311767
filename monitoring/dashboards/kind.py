"""One kind of job, in detail."""

from monitoring.dashboards.model import Dashboard, Panel, Query, Row, increases, number, quantiles, rates

_KIND = 'kind="$kind"'
DASHBOARD = Dashboard(
    "overspill-kind",
    "Overspill: a kind of job",
    "One kind of job from its acceptance to its end.",
    (
        Row(
            "Now",
            (
                number("Waiting in-house", "", f'sum(overspill_queue_depth{{{_KIND},state="waiting_inhouse"}})'),
                number("Running in-house", "", f"sum(overspill_slots_busy{{{_KIND}}})"),
                number("Live slots", "", f"sum(overspill_slots_live{{{_KIND}}})"),
                number("Spilling", "", f"max(overspill_spill_active{{{_KIND}}})", "bool_on_off"),
                number("Predicted wait", "", f"max(overspill_predicted_wait_seconds{{{_KIND}}})", "s"),
                number("Kept", "Records in the ledger.", f"sum(overspill_jobs_kept{{{_KIND}}})"),
            ),
        ),
        Row(
            "Durations",
            (
                quantiles("Wait", "To the first start.", "overspill_job_wait_seconds", where=_KIND, by="pool"),
                quantiles("Run", "Of the attempt that completed.", "overspill_job_run_seconds", where=_KIND, by="pool"),
                quantiles("In all", "To completion.", "overspill_job_total_seconds", where=_KIND, by="pool"),
                Panel(
                    "Waits, as a heat map",
                    "Jobs that started, by how long they had waited.",
                    (increases("job_wait_seconds_bucket", by="le", where=_KIND, legend="{{le}}"),),
                    shape="bars",
                ),
                Panel(
                    "Deadlines",
                    "Met and missed.",
                    (
                        increases("deadlines_met_total", where=_KIND, legend="met"),
                        increases("deadlines_missed_total", where=_KIND, legend="missed"),
                    ),
                    shape="bars",
                ),
                Panel(
                    "Oldest",
                    "By where it waits or runs.",
                    (Query(f"max by (state) (overspill_oldest_job_age_seconds{{{_KIND}}})", "{{state}}"),),
                    "s",
                ),
            ),
        ),
        Row(
            "Events",
            (
                Panel(
                    "Accepted, by source",
                    "Jobs a second.",
                    (rates("submitted_total", by="source", where=_KIND, legend="{{source}}"),),
                    shape="areas",
                ),
                Panel(
                    "Changes of state",
                    "A second.",
                    (rates("transitions_total", by="from, to", where=_KIND, legend="{{from}} to {{to}}"),),
                ),
                Panel(
                    "Attempts, by outcome",
                    "Ended in either pool.",
                    (rates("attempts_total", by="outcome, pool", where=_KIND, legend="{{pool}}: {{outcome}}"),),
                    shape="areas",
                ),
                Panel(
                    "Shed",
                    "Refused, or failed after the hold time.",
                    (increases("shed_total", by="reason", where=_KIND, legend="{{reason}}"),),
                    shape="bars",
                ),
                Panel(
                    "Out of memory",
                    "By pool and by which memory.",
                    (increases("out_of_memory_total", by="pool, where", where=_KIND, legend="{{pool}} {{where}}"),),
                    shape="bars",
                ),
                Panel(
                    "Dollars an hour",
                    "By pool and component.",
                    (
                        rates(
                            "cost_usd_total",
                            by="pool, component",
                            where=_KIND,
                            times=3600,
                            legend="{{pool}} {{component}}",
                        ),
                    ),
                    "currencyUSD",
                    "areas",
                ),
            ),
        ),
    ),
    asks_kind=True,
)
