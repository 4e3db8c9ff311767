"""A record that cannot be read is put aside with a reason, and everything else goes on."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from ledger import Kind, Ledger
from ledger.decisions import RunInhouse
from ledger.errors import RecordUnreadable
from ledger.polling import SpawnRate
from tests.support.ledgers import MODAL, claim_spawns, move_clock, place, submit

Damage = Callable[[Ledger, str], object]
DAMAGES: dict[str, tuple[str, Damage]] = {
    "a newer schema": ("schema 2", lambda ledger, key: ledger.client.hset(key, "schema", "2")),
    "a missing field": ("created_ms", lambda ledger, key: ledger.client.hdel(key, "created_ms")),
    "a word for a number": ("priority", lambda ledger, key: ledger.client.hset(key, "priority", "high")),
    "an unknown state": ("pondering", lambda ledger, key: ledger.client.hset(key, "state", "pondering")),
    "an unknown kind": ("paint", lambda ledger, key: ledger.client.hset(key, "kind", "paint")),
    "an unknown burst": ("perhaps", lambda ledger, key: ledger.client.hset(key, "burst", "perhaps")),
    "no JSON": ("artifact", lambda ledger, key: ledger.client.hset(key, "artifact", "{")),
    "no artifact": ("field is missing", lambda ledger, key: ledger.client.hset(key, "artifact", "[1]")),
    "another type": (
        "another type", lambda ledger, key: (ledger.client.delete(key), ledger.client.rpush(key, "x")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_queued_job_does_not_stop_the_others(ledger: Ledger, name: str) -> None:
    reason, damage = DAMAGES[name]
    # Given three jobs of which the first is damaged
    broken, second, third = submit(ledger, priority=9), submit(ledger), submit(ledger)
    damage(ledger, f"{ledger.prefix}:job:{broken}")
    # When they are claimed, then the others are, and the first is put aside with its reason
    claimed = ledger.placement.claim_queued(Kind.RENDER, limit=10, lease_s=5)
    assert {claim.record.id for claim in claimed} == {second, third}
    assert reason in ledger.jobs.quarantined()[broken]
    with pytest.raises(RecordUnreadable):
        ledger.jobs.get(broken)
    assert {record.id for record in ledger.jobs.page(Kind.RENDER).records} == {second, third}
    # And it is in no queue any more
    for key in ledger.client.scan_iter(f"{ledger.prefix}:*"):
        if ledger.client.type(key) == "zset" and not any(part in key for part in (":jobs:", ":tenant:")):
            assert ledger.client.zscore(key, broken) is None, key


@pytest.mark.parametrize("where", ["waiting:inhouse", "spawn", "lease", "call", "held"])
def test_it_is_put_aside_wherever_it_is_met(ledger: Ledger, where: str) -> None:
    job_id = submit(ledger)
    place(ledger, RunInhouse() if where in ("waiting:inhouse", "lease") else MODAL)
    if where == "lease":
        ledger.attempts.start_inhouse(Kind.RENDER, worker="w", lease_s=5)
    if where == "call":
        claim_spawns(ledger, worker="o", limit=1, lease_s=5)
        ledger.modal_calls.record_call(job_id, 1, call_id="fc", first_check_s=0, deadline_s=9)
    if where == "held":
        ledger.client.zadd(f"{ledger.prefix}:held", {job_id: 1})
    ledger.client.hset(f"{ledger.prefix}:job:{job_id}", "schema", "9")
    move_clock(ledger, 60)
    assert ledger.attempts.start_inhouse(Kind.RENDER, worker="w", lease_s=5) is None
    assert claim_spawns(ledger, worker="o", limit=5, lease_s=5) == []
    assert ledger.modal_calls.claim_due(limit=5, lease_s=5).calls == []
    assert ledger.maintenance.expire_leases(limit=5, max_attempts=9) == []
    assert ledger.maintenance.due_held(limit=5) == ([], [])
    assert "schema 9" in ledger.jobs.quarantined()[job_id]


def test_a_record_that_only_python_cannot_read_does_not_stop_the_spawns_behind_it(ledger: Ledger) -> None:
    # Given two jobs placed on Modal, the first with an artifact that is none
    broken, healthy = submit(ledger, priority=9), submit(ledger)
    for _ in range(2):
        place(ledger, MODAL)
    ledger.client.hset(f"{ledger.prefix}:job:{broken}", "artifact", "[1]")
    # When they are claimed to be spawned
    claim = ledger.modal_calls.claim_spawns(worker="o", limit=5, lease_s=5, rate=SpawnRate(100, 100))
    # Then the other one is, and the first is put aside with its reason
    assert [record.id for record in claim.records] == [healthy]
    assert "field is missing or wrong" in ledger.jobs.quarantined()[broken]


def test_a_call_of_an_unknown_kind_does_not_keep_others_from_being_stopped(ledger: Ledger) -> None:
    # Given two calls that must be stopped, one of a kind of a newer version
    newer, ours = submit(ledger), submit(ledger)
    for number in (1, 2):
        place(ledger, MODAL)
        (record,) = claim_spawns(ledger, worker="o", limit=1, lease_s=5)
        ledger.modal_calls.record_call(record.id, 1, call_id=f"fc-{number}", first_check_s=0, deadline_s=9)
        ledger.jobs.cancel(record.id)
    ledger.client.hset(f"{ledger.prefix}:attempt:{newer}:1", "kind", "paint")
    # When a follower takes them / then it gets the one that it can stop
    assert [due.job_id for due in ledger.modal_calls.claim_cancels(limit=5, again_in_s=1)] == [ours]


def test_the_command_line_shows_what_was_put_aside(ledger: Ledger) -> None:
    job_id = submit(ledger)
    ledger.client.hset(f"{ledger.prefix}:job:{job_id}", "schema", "2")
    ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5)
    listed = subprocess.run(
        [sys.executable, "-m", "overspill.cli", "jobs", "--quarantined"],
        env={
            "PATH": "/usr/bin:/bin",
            "OVERSPILL_LEDGER_URL": ledger.settings.url.get_secret_value(),
            "OVERSPILL_LEDGER_PREFIX": ledger.prefix,
        },
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert job_id in listed.stdout
    assert "schema 2" in listed.stdout
