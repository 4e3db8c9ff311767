"""The exporter over a real ledger on a real Redis, scraped over HTTP."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import redis
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from ledger import Kind, Ledger
from ledger.decisions import Hold, RunInhouse
from ledger.deletions import DeleteFolder, Store
from ledger.outcomes import Placed
from ledger.retries import Cause
from monitoring.catalogue import METRICS, Type
from monitoring.exporter.server import Exporter
from tests.support.activity import (
    H100,
    ROOMY,
    everything,
    fail,
    refuse_token,
    run_inhouse,
    run_on_modal,
    start_inhouse,
    submit,
)
from tests.support.activity import decide as decided
from tests.support.ledgers import fresh_ledger, move_clock
from tests.support.redis_server import RedisServer, running_redis
from tests.support.settings import ledger_settings_of

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
#: More series than this for two kinds of job and one GPU class would be a label without bounds.
MOST_SERIES = 1_500
REPOSITORY = Path(__file__).parents[3]


def scrape(exporter: Exporter) -> dict[tuple[str, frozenset[tuple[str, str]]], Sample]:
    """What a scrape answers, read by the OpenMetrics parser, which is strict."""
    answer = httpx.get(f"{exporter.url}/metrics", headers={"Accept": OPENMETRICS}, timeout=10, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    return {
        (sample.name, frozenset(sample.labels.items())): sample
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(scraped: dict[tuple[str, frozenset[tuple[str, str]]], Sample], name: str, **labels: str) -> float:
    return scraped[f"overspill_{name}", frozenset(labels.items())].value


def test_everything_that_happened_is_shown(ledger: Ledger, exporter_of: Callable[..., Exporter]) -> None:
    # given at least one of everything, and a breaker that opened
    everything(ledger)
    refuse_token(ledger)
    # when it is scraped, by an exporter whose own cap is not that of those who place
    scraped = scrape(exporter_of(ledger, month_cap_usd=50))
    # then the events are counted with their labels
    assert value(scraped, "jobs_total", kind="train", outcome="completed", pool="modal") == 1
    assert value(scraped, "out_of_memory_total", kind="render", pool="modal", where="cuda") == 1
    assert value(scraped, "failures_total", kind="render", reason="invalid_request") == 1
    assert value(scraped, "deadlines_met_total", kind="render", pool="inhouse") == 1
    assert value(scraped, "deadlines_missed_total", kind="render", pool="inhouse") == 1
    assert value(scraped, "spill_refused_total", kind="render", reason="month_budget") == 1
    assert value(scraped, "modal_breaker_reason", reason="token_refused") == 1
    # and the present is there
    assert value(scraped, "up") == 1
    assert value(scraped, "slots_live", kind="render") == 1
    assert value(scraped, "queue_depth", kind="train", state="waiting_inhouse") == 1
    assert value(scraped, "modal_calls", state="in_flight") == 2
    # and the dollars: what is spent of the month's is what the components add up to
    spent = value(scraped, "budget_spent_usd", scope="month")
    parts = [s.value for s in scraped.values() if s.name == "overspill_cost_usd_total" and s.labels["pool"] == "modal"]
    assert spent == pytest.approx(sum(parts))
    assert 0 < spent < value(scraped, "budget_cap_usd", scope="month") == ROOMY.month_cap_usd_micros / 1e6
    # and a slow job can be found from its bucket
    key = ("overspill_job_total_seconds_bucket", frozenset({"kind": "render", "pool": "modal", "le": "1.0"}.items()))
    assert scraped[key].exemplar is not None
    assert scraped[key].exemplar.labels["job_id"].startswith("video_")
    # and nothing is unlisted, and there are not many series
    assert value(scraped, "exporter_unlisted_series") == 0
    assert len(scraped) < MOST_SERIES


def test_every_metric_of_the_catalogue_is_served_when_it_has_something_to_say(
    ledger: Ledger, exporter_of: Callable[..., Exporter]
) -> None:
    # given at least one of everything
    everything(ledger)
    refuse_token(ledger)
    scraped = {name for name, _ in scrape(exporter_of(ledger))}
    # then only counters of what has never happened are missing
    missing = [m for m in METRICS.values() if not any(name.startswith(m.full_name) for name in scraped)]
    assert {m.type for m in missing} <= {Type.COUNTER}
    assert [m.name for m in missing if m.zeros] == []


def test_waits_begin_at_acceptance_and_end_at_the_first_start(
    ledger: Ledger, exporter_of: Callable[..., Exporter]
) -> None:
    # given a job that waited 40 s, failed, and started again 100 s later
    submit(ledger, Kind.RENDER)
    decided(ledger, Kind.RENDER, RunInhouse())
    move_clock(ledger, 40)
    record = start_inhouse(ledger, Kind.RENDER)
    fail(ledger, record.id, record.attempt, Cause.ERROR)
    move_clock(ledger, 100)
    assert isinstance(decided(ledger, Kind.RENDER, RunInhouse()), Placed)
    start_inhouse(ledger, Kind.RENDER)
    # then one wait was counted, of 40 s
    scraped = scrape(exporter_of(ledger))
    wait = {"kind": "render", "pool": "inhouse"}
    assert value(scraped, "job_wait_seconds_count", **wait) == 1
    assert value(scraped, "job_wait_seconds_bucket", **wait, le="30.0") == 0
    assert value(scraped, "job_wait_seconds_bucket", **wait, le="60.0") == 1
    assert 40 <= value(scraped, "job_wait_seconds_sum", **wait) < 45


def test_the_oldest_job_is_found_behind_younger_ones_of_higher_priority(
    ledger: Ledger, exporter_of: Callable[..., Exporter]
) -> None:
    # given an old job of low priority, and a young one of high priority that stands before it
    from ledger.models import RenderJob

    ledger.jobs.submit(RenderJob(prompt="old", priority=1), source="client")
    move_clock(ledger, 500)
    ledger.jobs.submit(RenderJob(prompt="young", priority=9), source="client")
    # then the old one's age is shown
    scraped = scrape(exporter_of(ledger))
    assert 500 <= value(scraped, "oldest_job_age_seconds", kind="render", state="queued") < 510
    assert value(scraped, "queue_depth", kind="render", state="queued") == 2


def test_a_job_that_everybody_let_go_has_an_age(ledger: Ledger, exporter_of: Callable[..., Exporter]) -> None:
    # given a claim that a dispatcher took with it when it died, a pause that is over, and an old job that is placed on
    # Modal and that nobody spawns
    exporter = exporter_of(ledger)
    submit(ledger, Kind.TRAIN)
    ledger.placement.claim_queued(Kind.TRAIN, limit=1, lease_s=100)
    unspawned = submit(ledger, Kind.RENDER)
    move_clock(ledger, 1)  # (two jobs of one millisecond have no order)
    failed = submit(ledger, Kind.RENDER)
    move_clock(ledger, 50)
    decided(ledger, Kind.RENDER, H100)
    decided(ledger, Kind.RENDER, RunInhouse())
    fail(ledger, failed, start_inhouse(ledger, Kind.RENDER).attempt, Cause.ERROR)
    ages = {"claimed": ("train", "claimed"), "delayed": ("render", "delayed")}
    young = scrape(exporter)
    # when hours have passed
    move_clock(ledger, 7_200)
    scraped = scrape(exporter)
    # then each has an age, since it should have been taken up: it had none before
    for kind, state in ages.values():
        assert value(young, "oldest_job_age_seconds", kind=kind, state=state) == 0
        assert 7_100 <= value(scraped, "oldest_job_age_seconds", kind=kind, state=state) < 7_230
        assert value(scraped, "oldest_job_age_seconds", kind=kind, state="queued") == 0
    # and the third since its placement, not since its acceptance
    assert ledger.jobs.get(unspawned).call_id is None
    assert value(young, "modal_oldest_age_seconds", state="waiting") < 30
    assert 7_200 <= value(scraped, "modal_oldest_age_seconds", state="waiting") < 7_230


def test_messages_are_counted_over_all_priority_lists(
    ledger: Ledger, exporter_of: Callable[..., Exporter], redis_server: RedisServer
) -> None:
    # given messages in two of a queue's lists, and one that was delivered and not acknowledged
    with redis.Redis.from_url(redis_server.url(1)) as broker:
        broker.rpush("render", "a", "b")
        broker.rpush("render\x06\x169", "c")
        broker.hset("unacked", "tag", "d")
        # then they are three, and one
        scraped = scrape(exporter_of(ledger))
        broker.delete("render", "render\x06\x169", "unacked")
    assert value(scraped, "broker_messages", queue="render") == 3
    assert value(scraped, "broker_unacked_messages") == 1


def test_what_a_worker_noted_long_ago_is_not_shown(ledger: Ledger, exporter_of: Callable[..., Exporter]) -> None:
    # given a duty that was done, long ago
    ledger.maintenance.done("held-jobs")
    move_clock(ledger, 1_000)
    # then its time is shown, and how long ago that is follows from it
    then = value(scrape(exporter_of(ledger)), "duty_timestamp_seconds", duty="held-jobs")
    assert then == pytest.approx(time.time(), abs=30)


def test_a_duty_that_is_held_and_never_done_is_not_shown_as_done(
    ledger: Ledger, exporter_of: Callable[..., Exporter]
) -> None:
    # given a process that leads a duty, and whose rounds all fail
    assert ledger.maintenance.lead("held-jobs", owner="a", lease_s=60)
    for _ in range(3):
        ledger.maintenance.failed("held-jobs")
    # then it was never done, and how many rounds failed is shown
    scraped = scrape(exporter_of(ledger))
    assert value(scraped, "duty_timestamp_seconds", duty="held-jobs") == 0
    assert value(scraped, "duty_failed_rounds", duty="held-jobs") == 3
    assert value(scraped, "duty_failures_total", duty="held-jobs") == 3


def test_what_is_still_to_be_deleted_is_shown(ledger: Ledger, exporter_of: Callable[..., Exporter]) -> None:
    ledger.deletions.add(Store.S3, [DeleteFolder("b", "render/a/"), DeleteFolder("b", "render/b/")])
    scraped = scrape(exporter_of(ledger))
    assert [value(scraped, "deletions_pending", store=store) for store in ("s3", "volume")] == [2, 0]


def test_the_oldest_held_job_is_known_while_it_is_looked_at_again_and_again(
    ledger: Ledger, exporter_of: Callable[..., Exporter]
) -> None:
    # given a job that is held, and looked at and held again a minute later
    exporter = exporter_of(ledger)
    job_id = submit(ledger, Kind.RENDER)
    hold = Hold("month_budget", again_in_s=50, timeout_s=600)
    decided(ledger, Kind.RENDER, hold)
    move_clock(ledger, 60)
    ledger.maintenance.due_held(limit=10)
    decided(ledger, Kind.RENDER, hold)
    # then its age is that of its first hold, by its kind
    held = {"kind": "render", "state": "held"}
    scraped = scrape(exporter)
    assert value(scraped, "oldest_job_age_seconds", **held) == pytest.approx(60, abs=5)
    assert value(scraped, "oldest_job_age_seconds", kind="train", state="held") == 0
    # and it is no more when it may run, and begins anew when it is held anew
    move_clock(ledger, 120)
    ledger.maintenance.due_held(limit=10)
    decided(ledger, Kind.RENDER, RunInhouse())
    assert value(scrape(exporter), "oldest_job_age_seconds", **held) == 0
    fail(ledger, job_id, start_inhouse(ledger, Kind.RENDER).attempt, Cause.LEASE_LOST)
    move_clock(ledger, 240)
    decided(ledger, Kind.RENDER, hold)
    assert value(scrape(exporter), "oldest_job_age_seconds", **held) < 5
    assert ledger.audit() == []


def test_two_exporters_agree(ledger: Ledger, exporter_of: Callable[..., Exporter]) -> None:
    # given two exporters that never saw each other, one of which was started late
    first = exporter_of(ledger)
    run_inhouse(ledger, Kind.RENDER)
    run_on_modal(ledger, Kind.TRAIN)
    second = exporter_of(ledger)
    # then their counters are the same
    one, other = scrape(first), scrape(second)
    assert {key: sample.value for key, sample in one.items() if key[0].endswith("_total")} == {
        key: sample.value for key, sample in other.items() if key[0].endswith("_total")
    }


def test_a_redis_that_is_away_is_a_metric_and_no_error(tmp_path: Path, exporter_of: Callable[..., Exporter]) -> None:
    # given an exporter whose Redis is stopped in the middle (SIGSTOP: it takes connections and never answers)
    with running_redis(tmp_path) as server, fresh_ledger(server.url()) as ledger:
        exporter = exporter_of(ledger, broker_url=server.url(1), exporter_timeout_s=0.3)
        assert value(scrape(exporter), "up") == 1
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            # when it is scraped
            started = time.monotonic()
            scraped = scrape(exporter)
            took_s = time.monotonic() - started
        finally:
            server.process.send_signal(signal.SIGCONT)
        # then it says so, soon
        assert value(scraped, "up") == 0
        assert value(scraped, "redis_up", role="ledger") == 0
        assert took_s < 3
        # and health is not the ledger's
        assert httpx.get(f"{exporter.url}/healthz", trust_env=False).status_code == 200
        assert httpx.get(f"{exporter.url}/elsewhere", trust_env=False).status_code == 404
        # and when it answers again, so does the exporter
        assert value(scrape(exporter), "up") == 1


def test_it_runs_as_a_process_on_a_free_port(redis_server: RedisServer) -> None:
    # given the command of the Procfile, with port 0
    environment = {
        **os.environ,
        "OVERSPILL_LEDGER_URL": redis_server.url(),
        "OVERSPILL_BROKER_URL": redis_server.url(1),
        "OVERSPILL_EXPORTER_PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "monitoring.exporter"],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        # then it says where it listens
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("exporter listens on http://127.0.0.1:")
        url = line.split()[-1]
        assert "overspill_up 1.0" in httpx.get(f"{url}/metrics", trust_env=False, timeout=10).text
        # and a second one on its port says what to do
        second = subprocess.run(
            [sys.executable, "-m", "monitoring.exporter"],
            cwd=REPOSITORY,
            env={**environment, "OVERSPILL_EXPORTER_PORT": url.rsplit(":", 1)[1]},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 1
        assert "Set OVERSPILL_EXPORTER_PORT to a free port, or to 0." in second.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        # and it ends in good order
        assert process.wait(10) == 0
        if process.stdout is not None:
            process.stdout.close()


def test_stopping_twice_is_fine(redis_server: RedisServer, exporter_of: Callable[..., Exporter]) -> None:
    with Ledger(ledger_settings_of({"ledger_url": redis_server.url()})) as ledger:
        exporter = exporter_of(ledger)
        assert exporter.ready()
        exporter.stop()
        exporter.stop()
        assert not exporter.ready()
