"""A spawn that this machine could not send: on a real ledger, nothing stays reserved and the job comes again."""

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from infra.artifacts import ArtifactStore
from ledger import Ledger
from ledger.errors import LedgerUnavailable
from ledger.retries import RULES, Cause
from tests.integration.workers.conftest import RecordingNudger, settings_for
from tests.support.ledgers import MODAL, move_clock, place, submit
from workers.overflow import spawner as spawning
from workers.overflow.breaker import BreakerRules, Gate
from workers.overflow.spawner import Spawner
from workers.resources import Resources

FULL_DISK = OSError(errno.ENOSPC, "No space left on device")


class _Modal:
    """Raises what it is told instead of spawning."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.spawned: list[str] = []

    async def spawn(self, *_: object, attempt_of: tuple[str, int], **__: object) -> str:
        self.spawned.append(attempt_of[0])
        raise self.error


def _spawn(ledger: Ledger, error: Exception = FULL_DISK) -> tuple[dict[str, int], RecordingNudger]:
    values, nudger = settings_for(ledger, spawn_timeout_s=0.2), RecordingNudger()
    resources = Resources(values, ledger, ArtifactStore(values), nudger)  # type: ignore[arg-type]  # one method is used
    modal: Any = _Modal(error)
    return Spawner(resources, modal, Gate(ledger, BreakerRules())).run(worker="o"), nudger


def _full_disk(*_: object) -> Any:
    raise FULL_DISK


def _disk_is_full_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawning, "render_request", _full_disk)


def _disk_is_full_within(_: pytest.MonkeyPatch) -> None:
    """The SDK raises it; so does `_Modal`."""


@pytest.mark.parametrize("where", [_disk_is_full_before, _disk_is_full_within])
def test_a_full_disk_costs_the_job_nothing_but_time(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, where: Callable[[pytest.MonkeyPatch], None]
) -> None:
    # Given a job that is placed on Modal, a dollar reserved, and an overflow worker whose disk is full
    job_id = submit(ledger)
    place(ledger, MODAL)
    where(monkeypatch)
    # When it is spawned
    outcome, nudger = _spawn(ledger)
    # Then the attempt ended by a cause of its own, and nothing is reserved or to be stopped
    assert outcome == {"spawn_not_prepared": 1}
    attempt = ledger.jobs.attempt(job_id, 1)
    assert (attempt["outcome"], attempt["settled"]) == ("spawn_not_prepared", "1")
    assert "No space left on device" in attempt["message"]
    assert ledger.placement.view().money.reserved_usd_micros == 0
    assert ledger.modal_calls.claim_cancels(limit=5, again_in_s=1) == []
    # And the job waits in the queue, whoever decides is nudged, and the breaker has heard nothing against Modal
    assert (str(ledger.jobs.get(job_id).state), len(nudger.sent)) == ("queued", 1)
    assert ledger.modal_calls.breaker().phase == "closed"


def test_the_pauses_grow_and_come_to_an_end(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an overflow worker whose disk stays full
    monkeypatch.setattr(spawning, "render_request", _full_disk)
    rule = replace(RULES[Cause.SPAWN_NOT_PREPARED], retries=2)
    monkeypatch.setitem(RULES, Cause.SPAWN_NOT_PREPARED, rule)  # type: ignore[arg-type]  # a dict underneath
    job_id = submit(ledger)
    # When the job comes again and again
    for _ in range(rule.retries + 1):
        place(ledger, MODAL)
        _spawn(ledger)
        move_clock(ledger, 121)
    # Then it has failed in the end, with the reason
    record = ledger.jobs.get(job_id)
    assert (str(record.state), record.error_code, record.attempt) == ("failed", "spawn_not_prepared", rule.retries + 1)
    assert ledger.placement.view().money.reserved_usd_micros == 0


def test_a_lost_answer_is_still_one_of_which_a_call_may_exist(ledger: Ledger) -> None:
    # Given a network that breaks while Modal is asked
    job_id = submit(ledger)
    place(ledger, MODAL)
    # When the job is spawned / then the attempt is lost, and what it may cost stays reserved until it is settled
    assert _spawn(ledger, ConnectionResetError(errno.ECONNRESET, "reset"))[0] == {"spawn_lost": 1}
    assert ledger.placement.view().money.reserved_usd_micros > 0
    assert [due.job_id for due in ledger.modal_calls.claim_cancels(limit=5, again_in_s=1)] == [job_id]


def test_a_ledger_that_is_away_meanwhile_takes_no_retry(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a spawn during whose preparation the ledger does not answer
    def away(*_: object) -> Any:
        raise LedgerUnavailable("redis", "away")

    monkeypatch.setattr(spawning, "render_request", away)
    job_id = submit(ledger)
    place(ledger, MODAL)
    # When it is spawned / then it is decided about again, and nothing is reserved
    assert _spawn(ledger)[0] == {"ledger_away": 1}
    assert str(ledger.jobs.get(job_id).state) == "queued"
    assert ledger.placement.view().money.reserved_usd_micros == 0
