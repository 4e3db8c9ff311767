"""The overview: waiting, running and ended jobs, and the health of the system itself."""

from monitoring.dashboards.model import Dashboard, Panel, Query, Row, increases, number, quantiles, rates

DASHBOARD = Dashboard(
    "overspill-overview",
    "Overspill: overview",
    "Waiting, running and ended jobs, and the system itself.",
    (
        Row(
            "Now",
            (
                number("Ledger", "1 while the ledger answers.", "min(overspill_up)", width=3),
                number(
                    "Waiting",
                    "Jobs that wait for a decision or an in-house slot.",
                    'sum(overspill_queue_depth{state=~"queued|delayed|claimed|waiting_inhouse"})',
                    width=3,
                ),
                number(
                    "Oldest waiting",
                    "Its age.",
                    'max(overspill_oldest_job_age_seconds{state=~"queued|delayed|claimed|waiting_inhouse"})',
                    "s",
                    width=3,
                ),
                number("Running in-house", "Attempts on our own GPUs.", "sum(overspill_slots_busy)", width=3),
                number("On Modal", "Calls in flight.", 'sum(overspill_modal_calls{state="in_flight"})', width=3),
                number("Held", "Jobs that may run nowhere now.", "sum(overspill_jobs_held)", width=3),
                number(
                    "Oldest held",
                    "For how long it has been; after its hold time it fails.",
                    'max(overspill_oldest_job_age_seconds{state="held"})',
                    "s",
                    width=3,
                ),
                number(
                    "Budget used",
                    "The fullest budget.",
                    "max(scope:overspill_budget_used:ratio)",
                    "percentunit",
                    width=3,
                ),
            ),
        ),
        Row(
            "Jobs",
            (
                Panel(
                    "Ended, by outcome",
                    "Jobs a second.",
                    (rates("jobs_total", by="outcome", legend="{{outcome}}"),),
                    shape="areas",
                ),
                Panel(
                    "Failed, by reason",
                    "Error codes of failed jobs; shed ones too.",
                    (
                        Query(
                            "sum by (kind, reason) (increase(overspill_failures_total[$__rate_interval])) > 0 "
                            "or sum by (kind, reason) (overspill_failures_total) * 0",
                            "{{kind}} {{reason}}",
                        ),
                    ),
                    shape="bars",
                ),
                Panel(
                    "Error budget",
                    "Share of bad jobs in the last hour, by objective.",
                    (Query("kind_slo:overspill_sli_error:ratio_rate1h", "{{kind}} {{slo}}"),),
                    "percentunit",
                ),
                Panel(
                    "Depth",
                    "Where jobs wait and run.",
                    (Query("sum by (kind, state) (overspill_queue_depth)", "{{kind}} {{state}}"),),
                    shape="areas",
                ),
                Panel(
                    "Oldest",
                    "Age shows a single forgotten job; depth does not.",
                    (Query("max by (kind, state) (overspill_oldest_job_age_seconds)", "{{kind}} {{state}}"),),
                    "s",
                ),
                quantiles("Wait", "From acceptance to the first start.", "overspill_job_wait_seconds", by="kind"),
            ),
        ),
        Row(
            "Memory, slots, queues",
            (
                Panel(
                    "Out of memory",
                    "Attempts that ran out of memory.",
                    (increases("out_of_memory_total", by="kind, pool, where", legend="{{kind}} {{pool}} {{where}}"),),
                    shape="bars",
                ),
                Panel(
                    "Slots",
                    "In-house slots with a live lease, and how many are busy.",
                    (
                        Query("sum by (kind) (overspill_slots_live)", "{{kind}} live"),
                        Query("sum by (kind) (overspill_slots_busy)", "{{kind}} busy"),
                    ),
                ),
                Panel(
                    "Messages in Celery's queues",
                    "Over all priority lists. These are nudges only: the ledger holds the jobs.",
                    (Query("sum by (queue) (overspill_broker_messages)", "{{queue}}"),),
                ),
            ),
        ),
        Row(
            "The system itself",
            (
                Panel(
                    "Since the last success of each duty",
                    "Maintenance and followers report each success; a round that failed does not count. "
                    "`true_up`: a bill was compared; checks whether it is due (`true-up`) are left out.",
                    (
                        Query(
                            'time() - max by (duty) (overspill_duty_timestamp_seconds{duty!="true-up"} > 0)', "{{duty}}"
                        ),
                    ),
                    "s",
                ),
                Panel(
                    "Rounds that failed, and deletions that wait",
                    "Rounds of a duty that failed in a row; objects that S3 or Modal has not confirmed as deleted.",
                    (
                        Query("max by (duty) (overspill_duty_failed_rounds)", "{{duty}} failed"),
                        Query("max by (store) (overspill_deletions_pending)", "to delete: {{store}}"),
                    ),
                ),
                Panel(
                    "Redis memory",
                    "Share of maxmemory, or of the host's.",
                    (Query("role:overspill_redis_memory_used:ratio", "{{role}}"),),
                    "percentunit",
                ),
                Panel(
                    "Repairs",
                    "Overdue nudges, expired leases, quarantined records: all should be 0.",
                    (
                        Query("sum(overspill_nudges_overdue)", "overdue nudges"),
                        Query("sum(overspill_leases_expired)", "expired leases"),
                        Query("sum(overspill_jobs_quarantined)", "quarantined"),
                    ),
                ),
            ),
        ),
    ),
)
