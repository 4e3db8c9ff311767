"""From what was read to what is served: pure, so it is tested without any Redis."""

import math
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from ledger.measuring import (
    BurnMeasure,
    Exemplar,
    Gauge,
    KindMeasure,
    Measurement,
    ModalMeasure,
    ScopeMeasure,
    Series,
)
from ledger.models import Kind
from monitoring.exporter.budgets import budgets
from monitoring.exporter.computed import predicted_wait_s
from monitoring.exporter.exposition import as_openmetrics
from monitoring.exporter.facts import Facts
from monitoring.exporter.families import families
from monitoring.exporter.reading import BrokerDepth, Reading, RedisState

NOW_MS = 1_795_305_600_000  # 2026-11-22T00:00:00Z
NOBODY = KindMeasure(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, spill_active=False, spill_since_ms=0)
QUIET = Measurement(
    now_ms=NOW_MS,
    month="2026-11",
    date="2026-11-22",
    kinds={Kind.RENDER: NOBODY, Kind.TRAIN: NOBODY},
    modal=ModalMeasure(0, 0, 0, 0, 0, 0, 0, 0),
    breaker_phase="closed",
    breaker_reason="",
    followers=0,
    held=0,
    expired_leases=0,
    quarantined=0,
    idle_containers=0,
    overdue_nudges={},
    scopes={"month": ScopeMeasure(0, 0), "day": ScopeMeasure(0, 0), "kind:train": ScopeMeasure(0, 0)},
    burn=BurnMeasure(0, 0, 0),
    counters={},
    histograms=[],
    exemplars={},
    gauges={},
)
SERVER = RedisState(1, 2, 0, keeps_all=True, writes_ok=True)
FACTS = Facts(
    version="1",
    python="3.11",
    prices_usd_per_s={"H100": 0.001},
    noted_max_age_s=300,
)


DEPTH = BrokerDepth({"render": 3}, {"render": 0}, 0)


def shown(measured: Measurement | None, *, broker: BrokerDepth | None = DEPTH) -> str:
    """What a scrape would answer."""
    servers = {"ledger": SERVER, "broker": SERVER if broker else None}
    reading = Reading(measured, broker, servers, 0.01)

    class Once(Collector):
        def collect(self):  # type: ignore[no-untyped-def]  # the library's own signature
            return families(reading, FACTS)

    registry = CollectorRegistry()
    registry.register(Once())
    text = as_openmetrics(families(reading, FACTS)).decode()
    # Our own writer is as the library's, only faster.
    assert text == generate_latest(registry).decode()
    return text


def test_a_ledger_that_is_away_is_a_metric_and_the_rest_is_shown() -> None:
    text = shown(None)
    assert "overspill_up 0.0\n" in text
    assert 'overspill_broker_messages{queue="render"} 3.0' in text
    assert "overspill_jobs" not in text


def test_a_broker_that_is_away_is_a_metric_and_the_rest_is_shown() -> None:
    text = shown(QUIET, broker=None)
    assert 'overspill_redis_up{role="broker"} 0.0' in text
    assert 'overspill_redis_up{role="ledger"} 1.0' in text
    assert "overspill_up 1.0\n" in text
    assert "overspill_broker_messages" not in text


def test_counters_are_there_before_anything_was_counted() -> None:
    # given a ledger in which nothing has happened / then what is alerted on is 0, so that its first rise is a rise
    text = shown(QUIET)
    assert 'overspill_out_of_memory_total{kind="render",pool="modal",where="cuda"} 0.0' in text
    assert 'overspill_jobs_total{kind="train",outcome="failed",pool="none"} 0.0' in text
    assert 'overspill_job_wait_seconds_count{kind="render",pool="inhouse"} 0.0' in text
    assert 'overspill_overshoot_usd_total{scope="month"} 0.0' in text
    assert 'overspill_train_restarts_total{pool="modal"} 0.0' in text
    assert "overspill_exporter_unlisted_series 0.0" in text


def test_labels_that_the_catalogue_lacks_are_summed_over_and_dollars_are_dollars() -> None:
    # given counters with a label more than is shown
    where = (("kind", "render"), ("pool", "modal"), ("where", "cuda"))
    measured = replace(
        QUIET,
        counters={
            ("out_of_memory_total", (("gpu", "H100"), *where)): 2,
            ("out_of_memory_total", (("gpu", "H200"), *where)): 3,
            (
                "cost_usd_micros_total",
                (("component", "idle"), ("gpu", "H100"), ("kind", "render"), ("pool", "modal")),
            ): 5_000_000,
        },
    )
    # then they are one series
    text = shown(measured)
    assert 'overspill_out_of_memory_total{kind="render",pool="modal",where="cuda"} 5.0' in text
    assert 'overspill_cost_usd_total{component="idle",gpu="H100",kind="render",pool="modal"} 5.0' in text


def test_buckets_are_cumulative_and_carry_the_newest_job() -> None:
    # given three waits in two buckets
    labels = (("kind", "render"), ("pool", "modal"))
    measured = replace(
        QUIET,
        histograms=[Series("job_wait_seconds", labels, {"1": 1, "30": 2}, 41.5)],
        exemplars={("job_wait_seconds", labels, "30"): Exemplar("video_1", 20.5, NOW_MS)},
    )
    lines = [line for line in shown(measured).splitlines() if 'wait_seconds_bucket{kind="render"' in line]
    values = {line.split('le="')[1].split('"')[0]: line for line in lines if 'pool="modal"' in line}
    # then each bucket holds all below it
    assert values["1.0"].endswith(" 1.0")
    assert values["15.0"].endswith(" 1.0")
    assert values["30.0"].endswith(' 3.0 # {job_id="video_1"} 20.5 1795305600.0')
    assert values["+Inf"].endswith(" 3.0")
    assert 'overspill_job_wait_seconds_sum{kind="render",pool="modal"} 41.5' in shown(measured)


def test_a_series_of_another_version_is_counted_and_does_no_harm() -> None:
    measured = replace(QUIET, counters={("from_the_future_total", ()): 1}, gauges={("new", ()): Gauge(1, NOW_MS)})
    assert "overspill_exporter_unlisted_series 2.0" in shown(measured)


def test_labels_are_escaped_as_the_format_wants() -> None:
    # given a label value with everything that must be escaped / then both writers agree (see `shown`)
    measured = replace(QUIET, counters={("shed_total", (("kind", 'a"b\\c\nd'), ("reason", "Kapazität"))): 1})
    assert 'overspill_shed_total{kind="a\\"b\\\\c\\nd",reason="Kapazität"} 1.0' in shown(measured)


def test_the_breaker_says_in_which_phase_it_is_and_why() -> None:
    text = shown(replace(QUIET, breaker_phase="open", breaker_reason="token_refused"))
    assert 'overspill_modal_breaker{phase="open"} 1.0' in text
    assert 'overspill_modal_breaker{phase="closed"} 0.0' in text
    assert 'overspill_modal_breaker_reason{reason="token_refused"} 1.0' in text
    # and once Modal has answered, or it is closed, the old reason says nothing
    for phase in ("half_open", "closed"):
        mended = shown(replace(QUIET, breaker_phase=phase, breaker_reason="token_refused"))
        assert f'overspill_modal_breaker{{phase="{phase}"}} 1.0' in mended
        assert 'overspill_modal_breaker_reason{reason="token_refused"} 0.0' in mended


@pytest.mark.parametrize(
    ("queued", "active", "slots", "seconds"),
    [
        (0, 0, 2, 0.0),  # a slot is free
        (0, 2, 2, 30.0),  # the next end is half a mean away
        (4, 2, 2, 150.0),  # five ends must come first
        (1, 1, 2, 30.0),  # the free slot is taken by the one ahead
        (0, 0, 0, math.inf),
    ],
)
def test_predicted_wait(queued: int, active: int, slots: int, seconds: float) -> None:
    kind = replace(NOBODY, queued=queued, active_inhouse=active, live_slots=slots)
    assert predicted_wait_s(kind, mean_run_s=60.0) == seconds


def test_budgets_that_have_a_cap_are_shown_with_where_they_will_end() -> None:
    # given 21 days of a month of 30 are over, and 21 dollars are spent
    measured = replace(
        QUIET, scopes={"month": ScopeMeasure(21_000_000, 4_000_000, 100_000_000), "day": ScopeMeasure(1, 0)}
    )
    # when the budgets are made
    (month,) = budgets(measured)
    # then the month's is there; the day has no cap
    assert (month.scope, month.cap_usd, month.spent_usd, month.reserved_usd) == ("month", 100.0, 21.0, 4.0)
    assert month.projected_usd(NOW_MS / 1000) == pytest.approx(30.0)
    assert month.period_end_s - NOW_MS / 1000 == 9 * 86_400


def test_every_budget_that_has_a_cap_in_force_is_shown() -> None:
    scopes = {"month": 100, "day": 5, "kind:train": 7, "kind:render": None, "tenant:acme": 9}
    measured = replace(
        QUIET,
        scopes={name: ScopeMeasure(0, 0, None if usd is None else usd * 1_000_000) for name, usd in scopes.items()},
    )
    caps = {budget.scope: budget.cap_usd for budget in budgets(measured)}
    assert caps == {"month": 100.0, "day": 5.0, "kind:train": 7.0, "tenant:acme": 9.0}
