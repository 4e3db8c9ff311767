"""The comparison of the ledger's spend with the bill, on hand-made records."""

import pytest

from tests.chaos.bill import BillOf, compare
from tests.chaos.observations import JobFacts, LedgerFacts, ModalFacts

#: One second of a container costs so much here, micro-dollars.
PRICE = 1000


def _ledger(*costs: int, calls: tuple[str, ...] = ("fc-1", "fc-2")) -> LedgerFacts:
    attempts = {
        number: {"pool": "modal", "call_id": call, "cost_usd_micros": str(cost), "measurements": "{}"}
        for number, (call, cost) in enumerate(zip(calls, costs, strict=True), start=1)
    }
    job = JobFacts("video_1", {"state": "completed"}, [], attempts)
    return LedgerFacts({job.id: job}, {}, [], 0, [], sum(costs), [])


def _container(task_id: str, started_at: float, seconds: float) -> dict[str, object]:
    return {"task_id": task_id, "started_at": started_at, "seconds": seconds, "usd_micros": seconds * PRICE}


def _call(call_id: str, task_id: str, started_at: float | None, finished_at: float | None) -> dict[str, object]:
    entry = {"input_id": f"in-{call_id}", "task_id": task_id, "started_at": started_at, "finished_at": finished_at}
    return {"call_id": call_id, "inputs": [entry]}


def test_a_containers_life_is_split_into_start_inputs_and_idle_time() -> None:
    # Given a container of 20 s: 3 s of start, inputs of 2 s and 4 s, the rest idle
    modal = ModalFacts([_call("fc-1", "ta", 103, 105), _call("fc-2", "ta", 110, 114)], [_container("ta", 100, 20)])
    # When the ledger booked 9 s
    bill = compare(_ledger(4 * PRICE, 5 * PRICE), modal, of=BillOf.CALLS)
    # Then that is just what the calls caused
    assert (bill.starts, bill.inputs, bill.idle, bill.killed, bill.unknown) == (3000, 6000, 11_000, 0, 0)
    assert (bill.calls, bill.whole, bill.off_percent) == (9000, 20_000, 0.0)


def test_the_whole_bill_has_the_idle_time_in_it() -> None:
    modal = ModalFacts([_call("fc-1", "ta", 101, 105)], [_container("ta", 100, 10)])
    bill = compare(_ledger(9500, calls=("fc-1",)), modal, of=BillOf.WHOLE)
    assert bill.off_percent == pytest.approx(-5.0)
    assert bill.off_percent_of(bill.calls) == pytest.approx(90.0)


def test_calls_that_the_ledger_never_knew_and_killed_containers_are_told_apart() -> None:
    modal = ModalFacts(
        [_call("fc-1", "ta", 100, 101), _call("fc-stray", "ta", 101, 103), _call("fc-dead", "tb", None, None)],
        [_container("ta", 100, 3), _container("tb", 100, 7)],
    )
    bill = compare(_ledger(1000, calls=("fc-1",)), modal, of=BillOf.CALLS)
    assert (bill.inputs, bill.unknown, bill.killed) == (1000, 2000, 7000)
    assert bill.off_percent == pytest.approx(-90.0)


def test_inputs_that_overlap_are_counted_once() -> None:
    modal = ModalFacts([_call("fc-1", "ta", 100, 104), _call("fc-2", "ta", 102, 106)], [_container("ta", 100, 6)])
    bill = compare(_ledger(0, 0), modal, of=BillOf.CALLS)
    assert (bill.inputs, bill.idle, bill.whole) == (6000, 0, 6000)


def test_nothing_spent_and_nothing_billed_agree() -> None:
    nothing = compare(LedgerFacts({}, {}, [], 0, [], 0, []), ModalFacts([], []), of=BillOf.CALLS)
    assert nothing.off_percent == 0
    something = compare(LedgerFacts({}, {}, [], 0, [], 5, []), ModalFacts([], []), of=BillOf.CALLS)
    assert something.off_percent == 100


def test_a_restarted_server_has_forgotten_where_an_input_ran_and_the_result_tells() -> None:
    ledger = _ledger(4000, calls=("fc-1",))
    ledger.jobs["video_1"].attempts[1] = {  # type: ignore[index]  # made as a dict above
        **ledger.jobs["video_1"].attempts[1],
        "measurements": '{"container_id": "ta"}',
    }
    modal = ModalFacts([_call("fc-1", "", 101, 104)], [_container("ta", 100, 10)])
    bill = compare(ledger, modal, of=BillOf.CALLS)
    assert (bill.starts, bill.inputs, bill.killed, bill.idle) == (1000, 3000, 0, 6000)
