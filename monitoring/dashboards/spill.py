"""How much spills, why, and the calls on Modal."""

from monitoring.dashboards.model import Dashboard, Panel, Query, Row, increases, number, quantiles, rates

DASHBOARD = Dashboard(
    "overspill-spill",
    "Overspill: spill and Modal",
    "Why jobs go to Modal, and how their calls end.",
    (
        Row(
            "Spilling",
            (
                number("Spilling now", "Kinds of job that spill.", "sum(overspill_spill_active)"),
                number(
                    "Breaker",
                    "1: open, Modal is not used.",
                    'max(overspill_modal_breaker{phase="open"})',
                ),
                number("Calls in flight", "On Modal now.", 'sum(overspill_modal_calls{state="in_flight"})'),
                number(
                    "Oldest on Modal",
                    "Age of the oldest attempt that is alive there.",
                    'max(overspill_modal_oldest_age_seconds{state="alive"})',
                    "s",
                ),
                number("Most overdue poll", "How far followers lag.", "max(overspill_follow_delay_seconds)", "s"),
                number("Idle containers", "Paid for, and perhaps idle.", "sum(overspill_modal_containers_idle)"),
                Panel(
                    "Decisions, by rule",
                    "The rule of each receipt.",
                    (rates("decisions_total", by="decision, rule", legend="{{decision}}: {{rule}}"),),
                    shape="areas",
                ),
                Panel(
                    "Share spilled",
                    "Of the jobs placed in ten minutes.",
                    (
                        Query(
                            'sum by (kind) (increase(overspill_placements_total{pool="modal"}[10m])) / '
                            "sum by (kind) (increase(overspill_placements_total[10m]))",
                            "{{kind}}",
                        ),
                    ),
                    "percentunit",
                ),
                Panel(
                    "On and off",
                    "Changes between spilling and not.",
                    (increases("spill_transitions_total", by="kind, to", legend="{{kind}} {{to}}"),),
                    shape="bars",
                ),
                Panel(
                    "Refused by a limit",
                    "Spills that the policy wanted and a hard limit refused.",
                    (increases("spill_refused_total", by="kind, reason", legend="{{kind}} {{reason}}"),),
                    shape="bars",
                ),
                Panel(
                    "Predicted wait in-house",
                    "What is ahead, at the mean run so far, shared by the live slots.",
                    (Query("max by (kind) (overspill_predicted_wait_seconds)", "{{kind}}"),),
                    "s",
                ),
                quantiles(
                    "Cost over reservation",
                    "1 is right.",
                    "overspill_prediction_error_ratio",
                    by="kind",
                ),
            ),
        ),
        Row(
            "Calls",
            (
                Panel(
                    "Attempts on Modal",
                    "Waiting for a spawner, spawning, in flight, stopping.",
                    (Query("sum by (state) (overspill_modal_calls)", "{{state}}"),),
                    shape="areas",
                ),
                Panel(
                    "Placed, by GPU class",
                    "Attempts a second.",
                    (rates("gpu_placements_total", by="gpu", where='pool="modal"', legend="{{gpu}}"),),
                    shape="areas",
                ),
                Panel(
                    "Attempts ended, by outcome",
                    "spawn_refused and spawn_lost: the spawn itself failed.",
                    (rates("attempts_total", by="outcome", where='pool="modal"', legend="{{outcome}}"),),
                    shape="areas",
                ),
                quantiles("Cold start", "As the first input saw it.", "overspill_cold_start_seconds", by="gpu"),
                quantiles("Spawn", "Until Modal had accepted a call.", "overspill_spawn_seconds"),
                quantiles("Follow lag", "From a call's end to the poll that saw it.", "overspill_follow_lag_seconds"),
                Panel(
                    "Breaker",
                    "Its phase and the reason.",
                    (
                        Query("max by (phase) (overspill_modal_breaker)", "{{phase}}"),
                        Query("max by (reason) (overspill_modal_breaker_reason)", "because {{reason}}"),
                    ),
                ),
                Panel(
                    "Orphans and stopped calls",
                    "Calls that the ledger did not know, and cancelled or unneeded calls.",
                    (
                        increases("orphans_total", by="outcome", legend="{{outcome}}"),
                        increases("calls_stopped_total", legend="calls stopped"),
                    ),
                    shape="bars",
                ),
                Panel(
                    "GPU memory",
                    "95th percentile of the attempts' peaks, share of the GPU's memory.",
                    (
                        Query(
                            "histogram_quantile(0.95, sum by (le, gpu) "
                            "(rate(overspill_gpu_memory_peak_ratio_bucket[$__rate_interval])))",
                            "{{gpu}}",
                        ),
                    ),
                    "percentunit",
                ),
            ),
        ),
    ),
)
