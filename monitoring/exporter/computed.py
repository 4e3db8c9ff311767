"""The gauges that a scrape computes: depths, ages, slots, Modal calls, budgets, prices, the servers. Pure."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ledger.measuring import KindMeasure, Measurement
from ledger.models import Kind
from ledger.states import Pool
from monitoring.exporter.budgets import budgets
from monitoring.exporter.facts import Facts
from monitoring.exporter.reading import BrokerDepth, Reading, RedisState
from workers.maintenance.duties import ALWAYS_DONE
from workers.overflow.breaker import FailureReason, Phase

_MS = 1e-3
_NANOS = 1e-9


@dataclass(frozen=True)
class Sample:
    """One value of a metric of the catalogue; label values in the catalogue's order."""

    metric: str
    value: float
    labels: tuple[str, ...] = ()


def computed(reading: Reading, facts: Facts) -> Iterator[Sample]:
    """Every gauge that is read or computed at the scrape, as far as those who were asked answered."""
    yield Sample("up", float(reading.ledger is not None))
    yield Sample("build_info", 1.0, (facts.python, facts.version))
    yield Sample("exporter_read_seconds", reading.seconds)
    for gpu, price in facts.prices_usd_per_s.items():
        yield Sample("price_usd_per_second", price, (gpu,))
    for role, server in reading.servers.items():
        yield from _server(role, server)
    if reading.broker is not None:
        yield from _broker(reading.broker)
    if reading.ledger is not None:
        yield from _ledger(reading.ledger)


def predicted_wait_s(kind: KindMeasure, *, mean_run_s: float) -> float:
    """How long a job that came now would wait in-house: what is ahead of it, shared by the slots that live."""
    if kind.live_slots == 0:
        return math.inf
    ahead = kind.queued + kind.claimed + kind.waiting_inhouse
    free = max(0, kind.live_slots - kind.active_inhouse)
    # So many runs must end before its own begins; a slot's end comes every mean / slots.
    return max(0, ahead - free + 1) * mean_run_s / kind.live_slots


def mean_run_s(measured: Measurement, kind: Kind) -> float:
    """The mean of all in-house runs of a kind so far, seconds; 0 before the first."""
    for series in measured.histograms:
        if series.metric == "job_run_seconds" and dict(series.labels) == {"kind": str(kind), "pool": Pool.INHOUSE}:
            runs = sum(series.buckets.values())
            return series.total / runs if runs else 0.0
    return 0.0


def _ledger(measured: Measurement) -> Iterator[Sample]:
    for kind, row in measured.kinds.items():
        yield from _kind(str(kind), row, mean_run_s(measured, kind))
    yield Sample("jobs_held", measured.held)
    yield Sample("jobs_quarantined", measured.quarantined)
    yield Sample("leases_expired", measured.expired_leases)
    for queue, number in measured.overdue_nudges.items():
        yield Sample("nudges_overdue", number, (queue,))
    yield from _modal(measured)
    for store, number in measured.deletions.items():
        yield Sample("deletions_pending", number, (store,))
    yield from _duties(measured)
    yield Sample("burn_usd_per_second", measured.burn.usd_nanos_per_s * _NANOS)
    yield Sample("burn_gpus", measured.burn.gpus)
    for budget in budgets(measured):
        scope = (budget.scope,)
        yield Sample("budget_cap_usd", budget.cap_usd, scope)
        yield Sample("budget_spent_usd", budget.spent_usd, scope)
        yield Sample("budget_reserved_usd", budget.reserved_usd, scope)
        yield Sample("budget_projected_usd", budget.projected_usd(measured.now_ms * _MS), scope)
        yield Sample("budget_period_end_timestamp_seconds", budget.period_end_s, scope)


def _duties(measured: Measurement) -> Iterator[Sample]:
    # (A duty that was never done has a time, too, or its alert could not tell it from one that nobody has.)
    done: dict[str, float] = dict.fromkeys(ALWAYS_DONE, 0.0)
    for (name, labels), gauge in measured.gauges.items():
        duty = dict(labels).get("duty", "")
        if name == "duty_done":
            done[duty] = gauge.at_ms * _MS
        elif name == "duty_failed":
            yield Sample("duty_failed_rounds", gauge.value, (duty,))
    for duty, at_s in done.items():
        yield Sample("duty_timestamp_seconds", at_s, (duty,))


def _kind(kind: str, row: KindMeasure, mean_s: float) -> Iterator[Sample]:
    depths: Mapping[str, int] = {
        "queued": row.queued,
        "delayed": row.delayed,
        "claimed": row.claimed,
        "waiting_inhouse": row.waiting_inhouse,
        "active_inhouse": row.active_inhouse,
    }
    for state, number in depths.items():
        yield Sample("queue_depth", number, (kind, state))
    ages = {
        "queued": row.oldest_queued_ms,
        "delayed": row.oldest_delayed_ms,
        "claimed": row.oldest_claimed_ms,
        "waiting_inhouse": row.oldest_waiting_ms,
        "active_inhouse": row.oldest_active_ms,
        "held": row.oldest_held_ms,
    }
    for state, age_ms in ages.items():
        yield Sample("oldest_job_age_seconds", age_ms * _MS, (kind, state))
    yield Sample("jobs_kept", row.jobs, (kind,))
    yield Sample("slots_live", row.live_slots, (kind,))
    yield Sample("slots_busy", row.active_inhouse, (kind,))
    yield Sample("predicted_wait_seconds", predicted_wait_s(row, mean_run_s=mean_s), (kind,))
    yield Sample("spill_active", float(row.spill_active), (kind,))
    yield Sample("spill_since_timestamp_seconds", row.spill_since_ms * _MS, (kind,))


def _modal(measured: Measurement) -> Iterator[Sample]:
    modal = measured.modal
    in_flight = modal.due + modal.claimed
    calls = {
        "waiting": modal.waiting,
        "spawning": max(0, modal.alive - modal.waiting - in_flight),
        "in_flight": in_flight,
        "stopping": modal.stopping,
    }
    for state, number in calls.items():
        yield Sample("modal_calls", number, (state,))
    yield Sample("modal_oldest_age_seconds", modal.oldest_waiting_ms * _MS, ("waiting",))
    yield Sample("modal_oldest_age_seconds", modal.oldest_alive_ms * _MS, ("alive",))
    yield Sample("modal_containers_idle", measured.idle_containers)
    yield Sample("follow_delay_seconds", modal.lag_ms * _MS)
    yield Sample("followers_live", measured.followers)
    for phase in Phase:
        yield Sample("modal_breaker", float(phase == measured.breaker_phase), (phase,))
    for reason in FailureReason:
        # Half open, it lets spawns through: what it had against them was mended.
        because = measured.breaker_phase == Phase.OPEN and measured.breaker_reason == reason
        yield Sample("modal_breaker_reason", float(because), (reason,))


def _server(role: str, server: RedisState | None) -> Iterator[Sample]:
    yield Sample("redis_up", float(server is not None), (role,))
    if server is None:
        return
    yield Sample("redis_memory_used_bytes", server.memory_used_bytes, (role,))
    yield Sample("redis_memory_max_bytes", server.memory_max_bytes, (role,))
    yield Sample("redis_evicted_keys_total", server.evicted_keys, (role,))
    yield Sample("redis_keeps_all", float(server.keeps_all), (role,))
    yield Sample("redis_writes_ok", float(server.writes_ok), (role,))


def _broker(depth: BrokerDepth) -> Iterator[Sample]:
    for queue, number in depth.messages.items():
        yield Sample("broker_messages", number, (queue,))
    for queue, number in depth.wrong_type.items():
        yield Sample("broker_wrong_type_keys", number, (queue,))
    yield Sample("broker_unacked_messages", depth.unacked)
