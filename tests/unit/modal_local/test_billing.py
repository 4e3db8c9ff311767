"""Billing through the public SDK and CLI."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import modal
import pytest
from modal.exception import InvalidError, NotFoundError

from modal_local.services.billing import BillingService
from modal_local.services.environments import EnvironmentService
from tests.support.storage_server import StorageServer, storage_server

HOUR = timedelta(hours=1)
# The middle of a day of this month or the last one, always past: the SDK refuses months that are to come.
NOON = (datetime.now(UTC) - timedelta(days=2)).replace(hour=12, minute=0, second=0, microsecond=0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StorageServer]:
    def services(context: Any) -> list[object]:
        return [EnvironmentService(context), BillingService(context, monthly_credit_usd=Decimal(1))]

    with storage_server(tmp_path, services) as running:
        yield running


@pytest.fixture
def client(server: StorageServer) -> Iterator[modal.Client]:
    with server.client() as one:
        yield one


@pytest.fixture
def workspace(client: modal.Client) -> modal.Workspace:
    return modal.Workspace.from_context(client=client)


def add_app(server: StorageServer, app_id: str, name: str, **tags: str) -> None:
    row: dict[str, object] = {"name": name, "description": "ephemeral one", "tags": tags}
    write(server, "apps", app_id, row)


def add_container(server: StorageServer, task_id: str, start: datetime, end: datetime | None, **other: object) -> None:
    """As the core writes it."""
    row = {
        "task_id": task_id,
        "app_id": "ap-render",
        "function_id": "fu-1",
        "function_tag": "render",
        "gpu_type": "",
        "gpu_count": 0,
        "cpu_cores": 1.0,
        "memory_mib": 1024,
        "started_at": start.timestamp(),
        "ended_at": None if end is None else end.timestamp(),
        "environment": "main",
        **other,
    }
    write(server, "containers", task_id, row)


def write(server: StorageServer, table: str, key: str, row: dict[str, object]) -> None:
    async def put() -> None:
        server.context.store.put(table, key, json.dumps(row).encode())

    server.run(put())


def test_the_hourly_report_has_each_apps_costs_by_resource(server: StorageServer, workspace: modal.Workspace) -> None:
    # given a container with two H100 that lived from half past one hour to half past the next
    add_app(server, "ap-render", "render", team="video", stage="test")
    add_container(server, "ta-1", NOON + HOUR / 2, NOON + 1.5 * HOUR, gpu_type="H100", gpu_count=2)
    # when the report of three hours is asked for
    rows = workspace.billing.report(start=NOON, end=NOON + 3 * HOUR, resolution="h", tag_names=["team"])
    # then two hours have half of an hour's price each
    assert [(row.object_id, row.description, row.interval_start) for row in rows] == [
        ("ap-render", "render", NOON),
        ("ap-render", "render", NOON + HOUR),
    ]
    for row in rows:
        assert row.cost_by_resource == {
            "H100": Decimal("3.95"),
            "CPU": Decimal("0.02365"),
            "Memory": Decimal("0.004"),
        }
        assert row.cost == Decimal("3.97765")
        assert (row.environment_name, row.tags) == ("main", {"team": "video"})


def test_the_daily_report_and_the_summary_agree_with_the_hours(
    server: StorageServer, workspace: modal.Workspace
) -> None:
    add_app(server, "ap-render", "render")
    for number in range(7):
        start = NOON + number * HOUR / 3
        add_container(server, f"ta-{number}", start, start + timedelta(seconds=1000 / 7), gpu_type="L4", gpu_count=1)
    midnight = NOON.replace(hour=0)
    hours = workspace.billing.report(start=midnight, end=midnight + 24 * HOUR, resolution="h")
    (day,) = workspace.billing.report(start=midnight, end=midnight + 24 * HOUR, resolution="d")
    assert sum(row.cost for row in hours) == day.cost > 0
    summary = workspace.billing.summary(NOON.strftime("%Y-%m"))
    assert summary.metered_cost == day.cost
    assert summary.metered_cost_breakdown == {"deployed_apps": day.cost, "ephemeral_apps": Decimal(0)}


def test_a_credit_is_taken_off_what_is_billed(server: StorageServer, workspace: modal.Workspace) -> None:
    add_app(server, "ap-render", "")
    add_container(server, "ta-1", NOON, NOON + HOUR, gpu_type="B200", gpu_count=1, cpu_cores=0.125, memory_mib=128)
    summary = workspace.billing.summary(NOON.strftime("%Y-%m"))
    assert summary.adjustments == {"credits": Decimal(-1)}
    assert summary.billed_cost == summary.metered_cost - 1
    assert summary.metered_cost_breakdown["ephemeral_apps"] == summary.metered_cost
    assert (summary.start.day, summary.start < NOON < summary.end) == (1, True)


def test_what_still_runs_costs_up_to_now(server: StorageServer, workspace: modal.Workspace) -> None:
    add_app(server, "ap-render", "render")
    add_container(server, "ta-1", NOON, None)
    # when it is half an hour later, by the server's clock
    server.context.clock.skew_s = (NOON + HOUR / 2).timestamp() - datetime.now(UTC).timestamp()
    (row,) = workspace.billing.report(start=NOON, end=NOON + HOUR, resolution="h")
    # then half an hour is billed, and later the hour
    assert row.cost == pytest.approx(Decimal("0.02765"), abs=Decimal("0.001"))
    server.context.clock.skew_s = 0
    (row,) = workspace.billing.report(start=NOON, end=NOON + HOUR, resolution="h")
    assert row.cost == Decimal("0.0553")


def test_environments_have_bills_of_their_own(
    server: StorageServer, workspace: modal.Workspace, client: modal.Client
) -> None:
    # given an app in each of two environments
    modal.Environment.objects.create("dev", client=client)
    add_app(server, "ap-render", "render")
    add_app(server, "ap-dev", "render")
    add_container(server, "ta-1", NOON, NOON + HOUR)
    add_container(server, "ta-2", NOON, NOON + 2 * HOUR, app_id="ap-dev", environment="dev")
    # when one's bill is asked for
    dev = modal.Environment.from_name("dev", client=client)
    rows = dev.billing.report(start=NOON, end=NOON + 2 * HOUR, resolution="h")
    # then it holds that one's costs
    assert {row.object_id for row in rows} == {"ap-dev"}
    summary = dev.billing.summary(NOON.strftime("%Y-%m"))
    assert summary.metered_cost == sum(row.cost for row in rows) == 2 * Decimal("0.0553")
    assert len(workspace.billing.report(start=NOON, end=NOON + 2 * HOUR, resolution="h")) == 3


def test_rates_are_dollars_per_hour(workspace: modal.Workspace) -> None:
    rates = workspace.billing.rates()
    assert rates["gpu_hour_cost_h100"] == Decimal("3.95")
    assert rates["cpu_hour_cost"] == Decimal("0.0473")
    assert "gpu_hour_cost_h100" in str(rates)
    assert "gpu_hour_cost_v100" not in rates


def test_wrong_questions_are_refused(workspace: modal.Workspace, client: modal.Client) -> None:
    with pytest.raises(InvalidError, match="resolution"):
        workspace.billing.report(start=NOON, end=NOON + HOUR, resolution="w")
    with pytest.raises(InvalidError, match="start before the end"):
        workspace.billing.report(start=NOON, end=NOON, resolution="h")
    with pytest.raises(NotFoundError):
        modal.Environment.from_name("nowhere", client=client).billing.report(start=NOON)
    assert workspace.billing.report(start=NOON, end=NOON + HOUR) == []


def test_the_cli_reports_sums_and_rates(server: StorageServer) -> None:
    add_app(server, "ap-render", "render")
    add_container(server, "ta-1", NOON, NOON + HOUR)
    end = (NOON + HOUR).isoformat()
    report = server.cli("billing", "report", "--start", NOON.isoformat(), "--end", end, "-r", "h", "--json")
    (row,) = json.loads(report.stdout)
    assert (row["object_id"], Decimal(row["cost"])) == ("ap-render", Decimal("0.0553"))
    summary = json.loads(server.cli("billing", "summary", "--for", NOON.strftime("%Y-%m"), "--json").stdout)
    assert Decimal(summary["metered_cost"]) == Decimal("0.0553")
    assert json.loads(server.cli("billing", "rates", "--json").stdout)["gpu_hour_cost_t4"] == "0.59"
