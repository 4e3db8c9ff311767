"""Modal's bill through its real SDK, from the billing service of a local Modal: our apps, our environment, no other."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import modal
import pytest

from infra.settings import Settings
from modal_local.services.billing import BillingService
from modal_local.services.environments import EnvironmentService
from tests.support.settings import changed
from tests.support.storage_server import StorageServer, storage_server
from workers.billing import billed_this_month, billed_usd_micros

#: The middle of a month that is over.
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StorageServer]:
    def services(context: Any) -> list[object]:
        return [EnvironmentService(context), BillingService(context)]

    with storage_server(tmp_path, services) as running:
        yield running


def _ran(server: StorageServer, app: str, environment: str, began: datetime, minutes: float) -> None:
    """A container of an app, with an H100, for so many minutes."""
    name = f"{app}-{environment}-{began:%d%H%M}"
    life = {
        "task_id": f"ta-{name}", "app_id": f"ap-{name}", "environment": environment,
        "started_at": began.timestamp(), "ended_at": (began + timedelta(minutes=minutes)).timestamp(),
        "gpu_type": "H100", "gpu_count": 1, "cpu_cores": 0, "memory_mib": 0,
    }  # fmt: skip

    async def put() -> None:
        server.context.store.put("apps", f"ap-{name}", json.dumps({"name": app, "tags": {}}).encode())
        server.context.store.put("containers", f"ta-{name}", json.dumps(life).encode())

    server.run(put())


def test_two_environments_of_a_workspace_with_the_same_apps_have_a_bill_each(server: StorageServer) -> None:
    with server.client() as client:
        # given the same apps in two environments, and another app
        modal.Environment.from_name("staging", create_if_missing=True, client=client).hydrate()
        ours = Settings()
        _ran(server, ours.modal.app, "main", NOON, 10)
        _ran(server, ours.train.modal_app, "main", NOON, 10)
        _ran(server, ours.modal.app, "staging", NOON, 5)
        _ran(server, "somebody-elses", "main", NOON, 30)

        # when each is asked for its bill / then each gets its own; without a name it is the token's own environment
        def bill(environment: str | None) -> int:
            settings = changed(ours, modal_environment=environment)
            return billed_usd_micros(settings, start=NOON, end=NOON + HOUR, client=client)

        five_minutes = bill("staging")
        assert five_minutes > 0
        assert bill("main") == bill(None) == pytest.approx(4 * five_minutes, abs=1)


def test_a_bill_of_this_month_says_what_is_todays(server: StorageServer) -> None:
    with server.client() as client:
        # given ten minutes yesterday, and five today
        app = Settings().modal.app
        _ran(server, app, "main", NOON - timedelta(days=1), 10)
        _ran(server, app, "main", NOON - HOUR, 5)
        # when the bill is asked for at noon / then a third of it is today's
        bill = billed_this_month(Settings(), NOON, client=client)
        assert bill.usd_micros == pytest.approx(3 * bill.today_usd_micros, abs=2)
        assert bill.today_usd_micros > 0
