"""What followers and spawners share through the ledger: partitions, hints, the rate, what is given back."""

import asyncio

from ledger import Kind, Ledger, State
from ledger.outcomes import Delivering
from ledger.polling import Announced, Hint, Release, SpawnRate
from modal_apps.hints import PARTITIONS
from tests.support.ledgers import MODAL, claim_spawns, move_clock, place, submit
from workers.overflow.schedule import Pace, Schedule

RATE = SpawnRate(per_s=10, burst=3)


def _running(ledger: Ledger, *, first_check_s: float = 60) -> str:
    """A job whose call is recorded and is not due for a while."""
    job_id = submit(ledger)
    place(ledger, MODAL)
    claim_spawns(ledger, worker="o", limit=1, lease_s=10)
    assert ledger.modal_calls.record_call(
        job_id, 1, call_id=f"fc-{job_id}", first_check_s=first_check_s, deadline_s=600
    )
    return job_id


def _hint(job_id: str, what: str, **fields: object) -> Hint:
    return Hint(job_id, 1, f"fc-{job_id}", what, **fields)  # type: ignore[arg-type]  # the words of a hint


def test_partitions_are_shared_fairly_and_a_dead_followers_are_taken_over(ledger: Ledger) -> None:
    def share(owner: str, lease_s: float = 10) -> set[int]:
        return set(ledger.modal_calls.share_partitions(owner=owner, lease_s=lease_s, partitions=PARTITIONS).partitions)

    # Given one follower with all partitions, and a second one that comes
    assert share("a") == set(range(PARTITIONS))
    assert share("b") == set()
    # When the first one renews, it gives up what is beyond its part, and the second one takes it
    mine = share("a")
    assert len(mine) == PARTITIONS / 2
    assert share("b") == set(range(PARTITIONS)) - mine
    # When the first one dies, the second one has all; when it leaves, nobody is waited for
    move_clock(ledger, 11)
    assert share("b") == set(range(PARTITIONS))
    assert share("b", lease_s=0) == set()
    assert share("c") == set(range(PARTITIONS))


def test_a_hint_shows_progress_and_an_end_puts_its_call_first_in_line(ledger: Ledger) -> None:
    # Given two calls that are due in a minute
    first, second = _running(ledger), _running(ledger)
    assert ledger.modal_calls.claim_due(limit=5, lease_s=10).calls == []
    # When one tells how far it is, and the other that it ends
    hints = [
        _hint(first, "started"), _hint(first, "progress", progress=40), _hint(first, "progress", progress=20),
        _hint(second, "done", progress=100, peak_gpu_memory_bytes=5, look_in_s=0.0),
    ]  # fmt: skip
    assert ledger.modal_calls.note_hints(hints) == []
    # Then progress only grows, an end is never said by a hint alone, and the one that ends is polled now
    assert ledger.jobs.get(first).progress == 40
    assert ledger.jobs.get(second).progress == 99
    due = ledger.modal_calls.claim_due(limit=5, lease_s=10)
    assert [call.job_id for call in due.calls] == [second]
    assert due.calls[0].said_ended_ms is not None
    assert due.in_flight == 2
    assert ledger.jobs.get(second).state is State.RUNNING


def test_an_end_that_was_said_while_a_follower_held_the_call_is_not_slept_over(ledger: Ledger) -> None:
    # Given a call that a follower holds and, before its poll came, said that it ends
    job_id = _running(ledger, first_check_s=0)
    assert ledger.modal_calls.claim_due(limit=5, lease_s=10).calls
    ledger.modal_calls.note_hints([_hint(job_id, "done")])
    # When the poll was slow, too early all the same, and the follower, not knowing of the end, gives it back for long
    move_clock(ledger, 4)
    ledger.modal_calls.release_claims([Release(job_id, 1, again_in_s=180)])
    # Then it falls due after half of the time since, not after what the follower thought
    assert ledger.modal_calls.claim_due(limit=5, lease_s=10).calls == []
    move_clock(ledger, 2.2)
    assert [call.job_id for call in ledger.modal_calls.claim_due(limit=5, lease_s=10).calls] == [job_id]


def test_a_hint_of_another_call_or_an_old_attempt_changes_nothing(ledger: Ledger) -> None:
    job_id = _running(ledger)
    stale = [
        Hint(job_id, 1, "fc-other", "done"),
        Hint(job_id, 2, f"fc-{job_id}", "done"),
        Hint("video_never", 1, "fc", "done"),
    ]
    assert ledger.modal_calls.note_hints(stale) == []
    assert ledger.modal_calls.claim_due(limit=5, lease_s=10).calls == []
    assert ledger.counters()["hints_total|what=stale"] == 3


def test_a_hint_of_a_call_that_nobody_recorded_is_told_to_the_follower(ledger: Ledger) -> None:
    job_id = submit(ledger)
    place(ledger, MODAL)
    claim_spawns(ledger, worker="dies", limit=1, lease_s=10)
    assert ledger.modal_calls.note_hints([_hint(job_id, "started")]) == [Announced(job_id, 1, f"fc-{job_id}")]


def test_a_late_answer_of_the_spawner_that_was_adopted_meanwhile_changes_nothing(ledger: Ledger) -> None:
    # Given an attempt whose call was adopted by its announcement
    job_id = submit(ledger)
    place(ledger, MODAL)
    claim_spawns(ledger, worker="slow", limit=1, lease_s=10)
    adopted = ledger.modal_calls.stop_orphan(job_id, 1, call_id="fc-1", announced_at=0, first_check_s=0, deadline_s=600)
    assert adopted == "adopted"
    # When its spawner says the same id, it is known; another id is a second call, which leaves by itself
    assert ledger.modal_calls.record_call(job_id, 1, call_id="fc-1", first_check_s=0, deadline_s=600)
    assert not ledger.modal_calls.record_call(job_id, 1, call_id="fc-2", first_check_s=0, deadline_s=600)
    # Then nothing is stopped, and the attempt still runs by the first
    assert ledger.modal_calls.claim_cancels(limit=5, again_in_s=5) == []
    assert (ledger.jobs.get(job_id).state, ledger.jobs.get(job_id).call_id) == (State.RUNNING, "fc-1")
    assert ledger.audit() == []


def test_a_spawn_that_took_so_long_that_its_call_was_let_go_is_booked_all_the_same(ledger: Ledger) -> None:
    # Given an attempt that was cancelled during its spawn, and whose call was let go as one that nobody will ever know
    job_id = submit(ledger)
    place(ledger, MODAL)
    claim_spawns(ledger, worker="slow", limit=1, lease_s=10)
    ledger.jobs.cancel(job_id)
    ledger.modal_calls.settle_cancel(job_id, 1)
    assert ledger.modal_calls.claim_cancels(limit=5, again_in_s=5) == []
    # When the spawn answers after all
    assert not ledger.modal_calls.record_call(job_id, 1, call_id="fc-late", first_check_s=0, deadline_s=600)
    # Then its call is stopped, with its own deadline, and what it cost is booked
    (cancel,) = ledger.modal_calls.claim_cancels(limit=5, again_in_s=5)
    assert cancel.call_id == "fc-late"
    assert cancel.call_deadline_ms == (cancel.spawned_ms or 0) + 600_000
    ledger.modal_calls.settle_cancel(job_id, 1, cost_usd_micros=70)
    assert ledger.jobs.get(job_id).cost_usd_micros == 70
    # And when its spawner says the same again, its books stay closed
    assert not ledger.modal_calls.record_call(job_id, 1, call_id="fc-late", first_check_s=0, deadline_s=600)
    ledger.modal_calls.settle_cancel(job_id, 1, cost_usd_micros=70)
    assert ledger.jobs.get(job_id).cost_usd_micros == 70
    assert ledger.audit() == []


def test_two_spawners_share_one_bucket(ledger: Ledger) -> None:
    # Given ten attempts, and a bucket of three
    for _ in range(10):
        submit(ledger)
        place(ledger, MODAL)
    take = [
        ledger.modal_calls.claim_spawns(worker=worker, limit=2, lease_s=10, rate=RATE) for worker in ("a", "b", "c")
    ]
    # Then they get three in all, and are told when to come back
    assert sum(len(claim.records) for claim in take) in {3, 4}
    assert take[-1].waiting >= 6
    # When half a second has passed, the bucket is full again, and no fuller
    move_clock(ledger, 100)
    assert len(ledger.modal_calls.claim_spawns(worker="a", limit=9, lease_s=10, rate=RATE).records) == 3


def test_what_is_given_back_costs_no_retry_and_no_dollar(ledger: Ledger) -> None:
    # Given one attempt that runs, and one that waits for its spawn
    other = _running(ledger)
    job_id = submit(ledger)
    place(ledger, MODAL)
    # When all that wait are given back, only the second is
    assert ledger.modal_calls.reschedule_spawns(None, reason="breaker_open", pause_s=0) == [job_id]
    record = ledger.jobs.get(job_id)
    assert (record.state, record.pool) == (State.QUEUED, None)
    assert ledger.placement.view().money.reserved_usd_micros == MODAL.reserve_usd_micros
    assert not any(field.startswith("tries:") for field in ledger.client.hkeys(f"{ledger.prefix}:job:{job_id}"))
    # One that runs is not given back, even by name
    assert ledger.modal_calls.reschedule_spawns([(other, 1)], reason="breaker_open", pause_s=0) == []
    assert ledger.audit() == []
    assert ledger.placement.view().of(Kind.RENDER).queued == 1


def test_a_call_that_is_being_concluded_stays_with_its_follower_until_that_one_dies(ledger: Ledger) -> None:
    # Given a call that its follower has begun to deliver
    job_id = _running(ledger, first_check_s=0)
    assert [call.job_id for call in ledger.modal_calls.claim_due(limit=5, lease_s=10).calls] == [job_id]
    assert ledger.attempts.begin_delivery(job_id, 1) == Delivering()
    # When the delivery takes longer than a claim, and the claim is renewed
    for _ in range(3):
        move_clock(ledger, 8)
        assert ledger.modal_calls.keep_claims([(job_id, 1)], lease_s=10) == []
        # Then nobody else gets it
        assert ledger.modal_calls.claim_due(limit=5, lease_s=10).calls == []
    # When the follower dies, then another has it one claim later, and the dead one's renewal comes too late
    move_clock(ledger, 11)
    assert ledger.modal_calls.keep_claims([(job_id, 1)], lease_s=10) == [job_id]
    assert [call.job_id for call in ledger.modal_calls.claim_due(limit=5, lease_s=10).calls] == [job_id]
    # And a renewal with the token of an old attempt is none
    assert ledger.modal_calls.keep_claims([(job_id, 2)], lease_s=10) == [job_id]


def test_a_follower_renews_what_it_concludes_and_nothing_else(ledger: Ledger) -> None:
    async def follow() -> tuple[list[str], list[str]]:
        # Given a follower with two calls in hand, one of which it concludes
        schedule = Schedule(ledger, Pace(0.5, 30, 30, 100))
        concluding, polled = (await schedule.claim_due(5)).calls
        with schedule.kept(concluding):
            # When a claim's time passes, with a renewal half way
            move_clock(ledger, 6)
            await schedule.keep()
            move_clock(ledger, 6)
            # Then another follower gets only the one that was not renewed
            lapsed = [call.job_id for call in ledger.modal_calls.claim_due(limit=5, lease_s=10).calls]
            assert lapsed == [polled.job_id]
        # When it has concluded, then its claim is not renewed any more
        move_clock(ledger, 6)
        await schedule.keep()
        return [concluding.job_id], [call.job_id for call in ledger.modal_calls.claim_due(limit=1, lease_s=10).calls]

    for _ in range(2):
        _running(ledger, first_check_s=0)
    concluded, taken_over = asyncio.run(follow())
    assert taken_over == concluded
