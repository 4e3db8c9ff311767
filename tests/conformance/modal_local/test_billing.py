"""The bill of what has run, through the public SDK and CLI."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import modal
import pytest
from modal.exception import InvalidError, NotFoundError

from .conftest import Target

pytestmark = pytest.mark.modal_conformance

HOUR = timedelta(hours=1)


@pytest.fixture
def workspace(bare_target: Target) -> modal.Workspace:
    return modal.Workspace.from_context(client=bare_target.client)


def this_hour() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def test_what_ran_is_on_the_bill(target: Target, workspace: modal.Workspace) -> None:
    # given that a function has run
    hour = this_hour()
    assert target.function("square").remote(3) == 9
    # when the bill of these hours is asked for
    rows = workspace.billing.report(start=hour - HOUR, end=hour + 2 * HOUR, resolution="h")
    # then its app is on it, with processor and memory, and each row adds up
    mine = [row for row in rows if row.description == "basic"]
    assert mine
    for row in mine:
        assert row.cost == sum(row.cost_by_resource.values()) > 0
        assert {"CPU", "Memory"} <= set(row.cost_by_resource)
        assert row.interval_start in {hour - HOUR, hour, hour + HOUR}
        assert row.environment_name == "main"


def test_the_month_is_what_is_metered_less_the_adjustments(target: Target, workspace: modal.Workspace) -> None:
    target.function("square").remote(3)
    summary = workspace.billing.summary()
    assert summary.metered_cost == sum(summary.metered_cost_breakdown.values()) > 0
    assert summary.billed_cost == summary.metered_cost + sum(summary.adjustments.values())
    main = modal.Environment.from_name("main", client=target.client).billing.summary()
    assert Decimal(0) < main.metered_cost
    assert main.start == summary.start


def test_a_report_leaves_out_the_hour_that_is_not_over_by_its_end(target: Target, workspace: modal.Workspace) -> None:
    target.function("square").remote(3)
    rows = workspace.billing.report(start=this_hour() - HOUR, resolution="h")
    assert this_hour() not in [row.interval_start for row in rows]


def test_rates(workspace: modal.Workspace, bare_target: Target) -> None:
    rates = workspace.billing.rates()
    assert {"cpu_hour_cost", "mem_gib_hour_cost", "gpu_hour_cost_h100", "gpu_hour_cost_a100_80gb"} <= set(rates)
    assert all(rate > 0 for rate in rates.values())
    printed = json.loads(bare_target.cli("billing", "rates", "--json").stdout)
    assert {key: Decimal(rate) for key, rate in printed.items()} == dict(rates.items())


def test_wrong_questions_are_refused(workspace: modal.Workspace, bare_target: Target, unique: str) -> None:
    with pytest.raises(InvalidError):
        workspace.billing.report(start=this_hour() - HOUR, end=this_hour(), resolution="week")
    with pytest.raises(InvalidError):
        workspace.billing.report(start=this_hour(), end=this_hour() - HOUR)
    with pytest.raises(NotFoundError):
        modal.Environment.from_name(f"nowhere-{unique}", client=bare_target.client).billing.report(start=this_hour())


def test_the_cli(target: Target) -> None:
    target.function("square").remote(3)
    summary = json.loads(target.cli("billing", "summary", "--json").stdout)
    assert Decimal(summary["metered_cost"]) > 0
    words = ["billing", "report", "--for", "today", "--resolution", "h", "--show-resources", "--json"]
    assert any(row["description"] == "basic" for row in json.loads(target.cli(*words).stdout))
