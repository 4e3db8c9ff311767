"""How long recovery took, told from events."""

from tests.chaos.injector import Strike
from tests.chaos.observations import Event, JobFacts, LedgerFacts
from tests.chaos.plan import Fault, PlannedFault
from tests.chaos.recovery import lengths_s, recoveries, standstills


def _event(at_ms: int, state: str, job_id: str = "video_1", *, pool: str = "", detail: str = "") -> Event:
    return Event(at_ms, f"job.{state}", job_id, state, 1, pool, detail)


def _strike(fault: Fault, at_ms: int, *jobs: str, number: int = 1) -> Strike:
    return Strike(PlannedFault(number, 0, fault, 0), "gpu.1", at_ms, jobs=jobs)


def _facts(*events: Event, jobs: dict[str, JobFacts] | None = None) -> LedgerFacts:
    return LedgerFacts(jobs or {}, {}, events, 0, [], 0, [])


def test_a_killed_worker_is_recovered_from_when_its_own_job_runs_again() -> None:
    ledger = _facts(
        _event(1000, "running"),
        _event(2500, "running", "video_other"),
        _event(9000, "queued"),
        _event(9100, "placed"),
        _event(9500, "running"),
    )
    (found,) = recoveries([_strike(Fault.KILL_GPU, 2000, "video_1")], ledger)
    assert found.seconds == (7.5,)
    assert (found.median_s, found.worst_s) == (7.5, 7.5)


def test_a_struck_redis_is_recovered_from_when_every_step_of_the_way_was_gone_again() -> None:
    ledger = _facts(
        _event(1000, "queued"),
        _event(4000, "placed"),
        _event(4500, "completed", "video_2"),
        _event(6000, "queued", "video_3"),
        _event(9000, "running"),
    )
    # The second strike comes so late that nothing is seen to complete any more: nothing can be told.
    strikes = [_strike(Fault.KILL_REDIS, 1500), _strike(Fault.KILL_REDIS, 5000, number=2)]
    (found,) = recoveries(strikes, ledger)
    assert found.seconds == (7.5,)
    assert found.strikes == 2


def test_what_nothing_tells_of_is_left_open_and_still_counted() -> None:
    (found,) = recoveries([_strike(Fault.KILL_GPU, 2000)], _facts())
    assert (found.strikes, found.seconds, found.median_s, found.worst_s) == (1, (), None, None)


def test_a_cancelled_modal_job_is_recovered_from_when_its_call_is_settled() -> None:
    job = JobFacts("video_1", {"finished_ms": "5000"}, [], {1: {"pool": "modal", "settled_ms": "6200"}})
    (found,) = recoveries([_strike(Fault.CANCEL, 4990, "video_1")], _facts(jobs={job.id: job}))
    assert found.seconds == (1.2,)


def test_kinds_come_in_one_order_whatever_the_order_of_the_strikes() -> None:
    strikes = [_strike(Fault.CANCEL, 1), _strike(Fault.KILL_API, 2), _strike(Fault.KILL_GPU, 3)]
    assert [row.fault for row in recoveries(strikes, _facts())] == [Fault.KILL_API, Fault.KILL_GPU, Fault.CANCEL]


def test_the_longest_standstills_come_first() -> None:
    ledger = _facts(
        _event(0, "queued"),
        _event(500, "queued", "video_2"),
        _event(1000, "running", pool="modal"),
        _event(2500, "completed", "video_2"),
        _event(9000, "delivering", pool="modal"),
    )
    assert [(one.seconds, one.job_id, one.state) for one in standstills(ledger, 2)] == [
        (8.0, "video_1", "running"),
        (2.0, "video_2", "queued"),
    ]
    assert lengths_s(ledger) == [2.0, 9.0]
