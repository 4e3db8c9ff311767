"""Alerts about spilling and about Modal."""

from monitoring.alerting.model import Alert, Group, Recording, Severity, known

_UNSPAWNED = known('overspill_modal_oldest_age_seconds{state="waiting"}')
_IN_FLIGHT = known('overspill_modal_calls{state="in_flight"}')
_FOLLOWED = known('overspill_duty_timestamp_seconds{duty="follower"}')

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
            # (Half open for a moment, while a spawn tries, it has not closed.)
            'max_over_time(overspill_modal_breaker{phase="open"}[1m]) == 1',
            Severity.CRITICAL,
            "the breaker before Modal is open",
            "Modal fails or refuses; nothing is spawned. It is probed from time to time, and the breaker closes by "
            "itself when it answers.",
            hold="2m",
        ),
        Alert(
            "ModalTokenRefused",
            'overspill_modal_breaker_reason{reason="token_refused"} == 1',
            Severity.CRITICAL,
            "Modal refuses our token",
            "Nothing can be spawned, followed or stopped until there is a token that Modal accepts.",
        ),
        Alert(
            "SpawnsStalled",
            f"max ({_UNSPAWNED}) > 900",
            Severity.WARNING,
            "a job placed on Modal has waited {{ $value | humanizeDuration }} for its spawn",
            "It was placed on Modal, and no worker has spawned its call. It counts in no queue: neither in the "
            "in-house one, nor among the held.",
            hold="5m",
        ),
        Alert(
            "FollowerStalled",
            f"{known('overspill_follow_delay_seconds')} > 60 or (sum ({_IN_FLIGHT}) > 0 "
            f"and on () (time() - max ({_FOLLOWED}) > 60))",
            Severity.CRITICAL,
            "no follower polls the calls on Modal",
            "A call that is due has waited for longer than a minute: results are not fetched, and cancelled calls "
            "are not stopped and cost money.",
            hold="1m",
        ),
    ),
)
