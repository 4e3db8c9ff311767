"""Alerts about spilling and about Modal."""

from monitoring.alerting.model import Alert, Group, Recording, Severity

GROUP = Group(
    "modal",
    "Spilling, and the calls on Modal.",
    recordings=(
        Recording(
            "kind:overspill_spill:ratio_increase10m",
            'sum by (kind) (increase(overspill_placements_total{pool="modal"}[10m])) '
            "/ (sum by (kind) (increase(overspill_placements_total[10m])) >= 20)",
        ),
        Recording(
            "kind:overspill_spill_transitions:increase1h",
            "sum by (kind) (increase(overspill_spill_transitions_total[1h]))",
        ),
    ),
    alerts=(
        Alert(
            "SpillRate",
            "kind:overspill_spill:ratio_increase10m > 0.5",
            Severity.WARNING,
            "{{ $value | humanizePercentage }} of the {{ $labels.kind }} jobs spill to Modal",
            "More than half of at least twenty placements in ten minutes. In-house capacity is short, or gone.",
            hold="5m",
        ),
        Alert(
            "SpillFlapping",
            "kind:overspill_spill_transitions:increase1h > 12",
            Severity.WARNING,
            "spilling of {{ $labels.kind }} jobs went on and off {{ $value | humanize }} times in an hour",
            "The watermarks are too near each other for this load, or slots come and go.",
            hold="5m",
        ),
        Alert(
            "BreakerOpen",
            'overspill_modal_breaker{phase="open"} == 1',
            Severity.CRITICAL,
            "the breaker before Modal is open",
            "Modal fails or refuses; nothing is spawned. It is asked now and then, and the breaker closes by itself "
            "when it answers.",
            hold="1m",
        ),
        Alert(
            "ModalTokenRefused",
            'overspill_modal_breaker_reason{reason="token_refused"} == 1',
            Severity.CRITICAL,
            "Modal refuses our token",
            "Nothing can be spawned, followed or stopped until there is a token that Modal takes.",
        ),
        Alert(
            "FollowerStalled",
            'overspill_follow_delay_seconds > 60 or (sum (overspill_modal_calls{state="in_flight"}) > 0 '
            'and on () (time() - max (overspill_duty_timestamp_seconds{duty="follower"}) > 60))',
            Severity.CRITICAL,
            "nobody follows the calls on Modal",
            "A call that should have been looked at waits for longer than a minute: results are not fetched, and "
            "what nobody wants any more is not stopped, and costs.",
            hold="1m",
        ),
    ),
)
