"""A spawn that fails before a call can exist."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from infra.settings import Settings
from ledger.retries import Cause
from workers.overflow.breaker import Phase
from workers.overflow.spawner import Spawner
from workers.resources import Resources


def test_a_full_disk_ends_the_attempt_with_a_cause_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a spawner whose scratch disk is full
    ledger: Any = SimpleNamespace()
    gate: Any = SimpleNamespace(seen=Phase.CLOSED)
    nothing: Any = None
    spawner = Spawner(Resources(Settings(), ledger, nothing, nothing), nothing, gate)
    failed: list[Cause] = []

    async def full(*_: object) -> Any:
        raise OSError(28, "No space left on device")

    def failing(_: object, cause: Cause, message: str) -> Any:
        failed.append(cause)
        return lambda: str(cause)

    monkeypatch.setattr(spawner, "_prepared", full)
    monkeypatch.setattr(spawner, "_failing", failing)
    # When it spawns
    with ThreadPoolExecutor(1) as threads:
        outcome = asyncio.run(spawner._spawn(nothing, nothing, threads))
    # Then the attempt has ended, and no call is waited for
    assert (outcome, failed) == ("error", [Cause.ERROR])
