"""Functions with a schedule run by the clock, and the clock can be moved."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import modal
import pytest

from modal_local.admin_client import AdminClient, AdminError
from tests.support.modal_local import start_modal_local

from .conftest import Target, target_for
from .test_scaling import until

pytestmark = pytest.mark.modal_conformance
NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture
def scheduled(tmp_path: Path) -> Iterator[Target]:
    """A server of its own, whose clock is moved, with the log of what has run in its environment."""
    server = start_modal_local(max_containers=6, starts_per_s=50)
    try:
        target = target_for(server)
        target.environ["SCHEDULED_LOG"] = str(tmp_path / "log")
        yield target
    finally:
        server.stop()


def admin_of(target: Target) -> AdminClient:
    assert target.server is not None
    return AdminClient(target.server.admin_url)


def ran(target: Target, name: str) -> int:
    log = Path(target.environ["SCHEDULED_LOG"])
    return log.read_text().split().count(name) if log.exists() else 0


def due(admin: AdminClient, tag: str) -> datetime:
    return datetime.fromtimestamp(next(s["due_at"] for s in admin.schedules() if s["function_tag"] == tag), UTC)


def test_deployed_functions_run_when_they_are_due(scheduled: Target) -> None:
    # given an app with schedules
    admin = admin_of(scheduled)
    scheduled.cli("deploy", "-m", "scheduled_app.app", project="scheduled")
    now = datetime.fromtimestamp(admin.clock()["now"], UTC)

    # then each is due when it says
    assert timedelta(hours=4, minutes=59) < due(admin, "every_five_hours") - now <= timedelta(hours=5)
    six = due(admin, "at_six").astimezone(NEW_YORK)
    assert (six.hour, six.minute) == (6, 0)
    assert until(lambda: ran(scheduled, "often") >= 2)
    assert ran(scheduled, "period") == ran(scheduled, "cron") == 0

    # when the clock is moved, what has become due runs, once
    admin.advance_clock(5 * 3600)
    assert until(lambda: ran(scheduled, "period") == 1)
    admin.advance_clock(86400)
    assert until(lambda: ran(scheduled, "cron") >= 1 and ran(scheduled, "period") == 2)
    assert due(admin, "at_six") > datetime.fromtimestamp(admin.clock()["now"], UTC)

    # and a call of the clock is a call like any other
    tags = {call["function_tag"] for call in admin.calls()}
    assert tags == {"often", "every_five_hours", "at_six"}


def test_a_redeploy_begins_the_period_anew_and_a_stop_ends_it(scheduled: Target) -> None:
    admin = admin_of(scheduled)
    scheduled.cli("deploy", "-m", "scheduled_app.app", project="scheduled")
    first = due(admin, "every_five_hours")
    admin.advance_clock(3600)
    scheduled.cli("deploy", "-m", "scheduled_app.app", project="scheduled")
    assert due(admin, "every_five_hours") - first >= timedelta(hours=1)

    scheduled.cli("app", "stop", "scheduled", "--yes", project="scheduled")
    assert until(lambda: admin.schedules() == [])


def test_schedules_run_under_run(scheduled: Target) -> None:
    scheduled.cli("run", "-m", "scheduled_app.app", project="scheduled")
    assert ran(scheduled, "often") >= 1
    assert until(lambda: admin_of(scheduled).schedules() == [])


def test_a_schedule_that_makes_no_sense_is_refused_when_it_is_deployed(scheduled: Target) -> None:
    app = modal.App("senseless")

    @app.function(serialized=True, schedule=modal.Cron("61 * * * *"))
    def never() -> None: ...

    with pytest.raises(modal.exception.InvalidError, match="minute"):
        app.deploy(client=scheduled.client)


def test_the_clock_only_goes_forward(scheduled: Target) -> None:
    with pytest.raises(AdminError, match="advance_s"):
        admin_of(scheduled).advance_clock(-1)
