"""Training runs: long, resumed from checkpoints, expensive."""

from monitoring.dashboards.model import Dashboard, Panel, Query, Row, increases, number, quantiles, rates

_TRAIN = 'kind="train"'
DASHBOARD = Dashboard(
    "overspill-train",
    "Overspill: training runs",
    "Training runs: how many, where, how long, how often they restart, what they cost.",
    (
        Row(
            "Now",
            (
                number("Running in-house", "", f"sum(overspill_slots_busy{{{_TRAIN}}})"),
                number(
                    "Alive on Modal",
                    "Attempts placed less attempts ended.",
                    f'sum(overspill_placements_total{{{_TRAIN},pool="modal"}}) - '
                    f'(sum(overspill_attempts_total{{{_TRAIN},pool="modal"}}) or vector(0))',
                ),
                number(
                    "Waiting",
                    "For a decision, or for a slot.",
                    f'sum(overspill_queue_depth{{{_TRAIN},state!="active_inhouse"}})',
                ),
                number(
                    "Longest run in-house",
                    "",
                    f'max(overspill_oldest_job_age_seconds{{{_TRAIN},state="active_inhouse"}})',
                    "s",
                ),
                number("Completed", "Since the ledger began.",
                       f'sum(overspill_jobs_total{{{_TRAIN},outcome="completed"}})'),
                number("Dollars", "Since the ledger began, both pools.",
                       f"sum(overspill_cost_usd_total{{{_TRAIN}}})", "currencyUSD"),
            ),
        ),
        Row(
            "Runs",
            (
                Panel(
                    "Attempts ended, by outcome",
                    "preempted and lease_lost go on from their last checkpoint.",
                    (
                        increases("attempts_total", by="pool, outcome", where=_TRAIN, legend="{{pool}}: {{outcome}}"),
                    ),
                    shape="bars",
                ),
                Panel(
                    "Attempts for one completed run",
                    "1: none was begun again.",
                    (
                        Query(
                            f"sum(overspill_attempts_total{{{_TRAIN}}}) / "
                            f'(sum(overspill_jobs_total{{{_TRAIN},outcome="completed"}}) > 0)',
                            "attempts a run",
                        ),
                    ),
                ),
                Panel(
                    "Started again within an attempt",
                    "By Modal, which had taken the container. Attempts that ended are above.",
                    (increases("train_restarts_total", by="pool", legend="{{pool}}"),),
                    shape="bars",
                ),
                Panel(
                    "Repeated steps",
                    "Steps since the last checkpoint before a run was interrupted.",
                    (increases("train_steps_repeated_total", by="pool", legend="{{pool}}"),),
                    shape="bars",
                ),
                Panel(
                    "Failed, by reason",
                    "",
                    (
                        increases("failures_total", by="reason", where=_TRAIN, legend="{{reason}}"),
                    ),
                    shape="bars",
                ),
                quantiles("Run", "Of the last attempt.", "overspill_job_run_seconds", where=_TRAIN, by="pool"),
                quantiles("Wait", "To the first start.", "overspill_job_wait_seconds", where=_TRAIN, by="pool"),
                Panel(
                    "Dollars an hour",
                    "By pool and GPU class.",
                    (
                        rates("cost_usd_total", by="pool, gpu", where=_TRAIN, times=3600, legend="{{pool}} {{gpu}}"),
                    ),
                    "currencyUSD",
                    "areas",
                ),
                quantiles("GPU memory", "Peak, share of the GPU's.", "overspill_gpu_memory_peak_ratio", where=_TRAIN,
                          by="gpu"),
                Panel(
                    "Out of memory",
                    "By which memory.",
                    (
                        increases("out_of_memory_total", by="pool, where", where=_TRAIN, legend="{{pool}} {{where}}"),
                    ),
                    shape="bars",
                ),
                Panel(
                    "Deadlines",
                    "Met and missed.",
                    (
                        increases("deadlines_met_total", where=_TRAIN, legend="met"),
                        increases("deadlines_missed_total", where=_TRAIN, legend="missed"),
                    ),
                    shape="bars",
                ),
            ),
        ),
    ),
)  # fmt: skip
