"""In-house execution on real parts: what is rendered is delivered, and an S3 that is away does not cost a render."""

import json
import threading

from infra.artifacts import ArtifactStore
from ledger import Kind, Ledger, State
from ledger.decisions import RunInhouse
from overspill.dev.s3_service import S3Service
from tests.integration.workers.conftest import RecordingNudger, settings_for
from tests.support.ledgers import place, submit
from tests.support.settings import changed
from tests.support.waiting import until
from workers.attempt.monitor import WorkerProcessMonitor
from workers.attempt.results import inhouse_cost_usd_micros
from workers.attempt.slots import SlotTable
from workers.inhouse import run_next
from workers.resources import Resources


def test_nothing_waits(resources: Resources) -> None:
    assert run_next(resources, Kind.RENDER, worker="w").outcome == "nothing_waits"


def test_a_render_is_delivered_with_its_measurements_and_cost(resources: Resources, ledger: Ledger) -> None:
    job_id = submit(ledger, size="320x180", seconds=1)
    place(ledger, RunInhouse())
    report = run_next(resources, Kind.RENDER, worker="w")
    assert (report.outcome, report.job_id, report.attempt) == ("completed", job_id, 1)
    record = ledger.jobs.get(job_id)
    assert record.state is State.COMPLETED
    assert record.artifact is not None
    assert record.artifact.size_bytes > 1000
    assert record.cost_usd_micros > 0
    assert json.loads(ledger.jobs.attempt(job_id, 1)["measurements"])["frames"] == 24


def test_an_engine_that_is_missing_ends_the_job_with_its_name(resources: Resources, ledger: Ledger) -> None:
    job_id = submit(ledger)
    place(ledger, RunInhouse())
    values = changed(resources.settings, render_engine="no-such-engine")
    odd = Resources(values, ledger, resources.artifacts, resources.nudger)
    assert run_next(odd, Kind.RENDER, worker="w").outcome == "failed"
    record = ledger.jobs.get(job_id)
    assert record.error_code == "invalid_request"
    assert "no-such-engine" in (record.error_message or "")


def test_s3_away_for_a_while_costs_time_and_no_second_render(ledger: Ledger, s3: S3Service) -> None:
    # Given an S3 server that is down
    s3.stop()
    values = settings_for(ledger, s3, lease_s=2, s3_timeout_s=1)
    nudger = RecordingNudger()
    resources = Resources(values, ledger, ArtifactStore(values), nudger)  # type: ignore[arg-type]  # the port's one method
    job_id = submit(ledger, size="320x180", seconds=1)
    place(ledger, RunInhouse())
    reports: list[str] = []
    table = SlotTable(slots=1)
    worker = threading.Thread(
        target=lambda: reports.append(run_next(resources, Kind.RENDER, worker="w", table=table).outcome)
    )
    monitor = WorkerProcessMonitor(resources, table=table)
    monitor.start()
    # When a render is finished meanwhile
    worker.start()
    until(lambda: ledger.jobs.get(job_id), lambda record: record.state is State.DELIVERING, timeout_s=30)
    # Then its lease is kept though it waits for longer than one
    for _ in range(5):
        assert ledger.maintenance.expire_leases(limit=10, max_attempts=9) == []
        worker.join(0.6)
    # And it is delivered by the same attempt as soon as the server is back
    s3.start()
    s3.ready()
    worker.join(60)
    monitor.stop()
    assert reports == ["completed"]
    assert ledger.jobs.get(job_id).attempt == 1


def test_an_hour_costs_what_the_setting_says() -> None:
    assert inhouse_cost_usd_micros(3600, 0.9) == 900_000
