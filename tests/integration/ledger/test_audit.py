"""The audit is empty while the promise is kept, and names each way of breaking it."""

from collections.abc import Callable

import pytest

from ledger import Ledger
from ledger.decisions import RunInhouse
from ledger.limits import Limits
from tests.support.ledgers import MODAL, ROOMY, place, start_inhouse, submit


def _prefix(ledger: Ledger, name: str) -> str:
    return f"{ledger.prefix}:{name}"


def test_a_ledger_at_work_has_no_violations(ledger: Ledger) -> None:
    submit(ledger)
    place(ledger, RunInhouse())
    submit(ledger)
    place(ledger, MODAL)
    submit(ledger)
    start_inhouse(ledger)
    submit(ledger)
    assert ledger.audit(ROOMY) == []


BREAKS: dict[str, tuple[int, Callable[[Ledger, str], object]]] = {
    "forgotten by its queue": (1, lambda ledger, _: ledger.client.delete(_prefix(ledger, "waiting:inhouse:render"))),
    "in two places": (1, lambda ledger, job: ledger.client.zadd(_prefix(ledger, "held"), {job: 1})),
    "state set by hand": (1, lambda ledger, job: ledger.client.hset(_prefix(ledger, f"job:{job}"), "state", "held")),
    "an index without its job": (1, lambda ledger, _: ledger.client.zadd(_prefix(ledger, "leases"), {"video_no": 1})),
    "an artifact too early": (
        2, lambda ledger, job: ledger.client.hset(_prefix(ledger, f"job:{job}"), "artifact", "{}"),
    ),
    "an attempt without a record": (3, lambda ledger, job: ledger.client.delete(_prefix(ledger, f"attempt:{job}:1"))),
    "dollars that nobody reserved": (
        4, lambda ledger, _: ledger.client.hincrby(_prefix(ledger, "money"), "reserved_usd_micros", 5),
    ),
    "no receipt": (7, lambda ledger, job: ledger.client.delete(_prefix(ledger, f"receipts:{job}"))),
    "a counter that was touched": (
        7, lambda ledger, _: ledger.client.hincrby(_prefix(ledger, "counters"), "jobs_total|kind=render|x=y", 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_each_way_of_breaking_it_is_named(ledger: Ledger, name: str) -> None:
    job_id = submit(ledger)
    place(ledger, RunInhouse())
    invariant, break_it = BREAKS[name]
    assert ledger.audit() == []
    break_it(ledger, job_id)
    assert invariant in {violation.invariant for violation in ledger.audit()}


def test_a_passed_cap_is_a_violation(ledger: Ledger) -> None:
    submit(ledger)
    place(ledger, MODAL)
    assert ledger.audit(Limits(month_cap_usd_micros=1_000_000, max_modal_attempts=1)) == []
    over = ledger.audit(Limits(month_cap_usd_micros=999_999, max_modal_attempts=0))
    assert [violation.invariant for violation in over] == [4, 4]
