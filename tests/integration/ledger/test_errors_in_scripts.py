"""Redis takes nothing back of what a script has written before it fails: the books must agree all the same."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from ledger import Ledger, scripts
from ledger.errors import IllegalTransition
from ledger.states import State
from tests.support.ledgers import MODAL, place, submit

USAGE = {"usd_nanos_per_s": 1, "idle_window_ms": 1}
WHOLE_USE = {"container_id": "ta-1", "started_ms": 1, "finished_ms": 2}
WRONG_USE = {**WHOLE_USE, "finished_ms": "x"}
TWO_USES = [WHOLE_USE, WRONG_USE]
END = {"cost_usd_micros": 0, "must_stop": False, "cause": "error", "message": "", "jitter": 0.0, "max_attempts": 3}
RULE = {"retries": 1, "first_ms": 1, "longest_ms": 1}


def everything(ledger: Ledger) -> dict[str, Any]:
    """All that the ledger holds."""
    return {key: ledger.client.dump(key) for key in ledger.client.scan_iter(f"{ledger.prefix}:*")}


@pytest.fixture
def failing_script(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A script that moves money, and fails then."""
    source = scripts._source
    text = """--[[ needs
needs: settling
]]
local job = load(a.id)
reserve('someone:1', job, 5)
book('modal', job, 'H100', 'execution', 7, 'someone:1')
if a.how == 'a bug' then return a.missing.field end
if a.how == 'an illegal transition' then return transition(job, 'running') end
return redis.call('GET', K('jobs:render'))
"""
    monkeypatch.setattr(scripts, "_source", lambda name: text if name == "fails" else source(name))
    scripts.script_text.cache_clear()
    yield "fails"
    scripts.script_text.cache_clear()


@pytest.mark.parametrize("how", ["a bug", "an illegal transition", "an error of Redis"])
def test_what_a_script_has_moved_is_in_the_sums_even_if_it_fails(ledger: Ledger, failing_script: str, how: str) -> None:
    # given a job, and a script that fails after it has moved money / when it is called
    job_id = submit(ledger)
    with pytest.raises((redis.exceptions.ResponseError, IllegalTransition)):
        ledger.runner.call(failing_script, id=job_id, how=how)
    # then the sums are those of their parts
    view = ledger.money.view()
    assert (view.month.reserved_usd_micros, view.month.spent_usd_micros) == (5, 7)
    assert (view.kinds["render"].reserved_usd_micros, view.kinds["render"].spent_usd_micros) == (5, 7)
    assert [row["reserved"] for row in ledger.stats.journal()] == ["5"]


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("fail_attempt", {**END}),
        ("fail_attempt", {**END, "rule": {**RULE, "first_ms": None}}),
        ("fail_attempt", {**END, "rule": RULE, "jitter": None}),
        ("fail_attempt", {**END, "rule": RULE, "usage": {**USAGE, "containers": [{}]}}),
        ("complete", {"artifact": "{}", "measurements": "{", "cost_usd_micros": 0}),
        ("complete", {"artifact": "{}", "measurements": "{}", "usage": {"containers": [WHOLE_USE]}}),
        ("complete", {"artifact": "{}", "measurements": "{}", "usage": {**USAGE, "containers": TWO_USES}}),
        ("settle_cancel", {"usage": {"usd_nanos_per_s": 1, "containers": [WHOLE_USE]}}),
        ("record_call", {"call_id": "fc-2", "first_check_ms": 1}),
        ("stop_orphan", {"call_id": "fc-2", "announced_ms": None, "first_check_ms": 1, "deadline_ms": 1}),
        ("reschedule_spawns", {"limit": 5, "reason": "x"}),
    ],
)  # fmt: skip
def test_arguments_are_checked_before_the_first_write(ledger: Ledger, script: str, arguments: dict[str, Any]) -> None:
    # given a live attempt on Modal that delivers (or, where that is asked, waits for its spawn)
    job_id = submit(ledger)
    place(ledger, MODAL)
    if script in {"fail_attempt", "complete"}:
        ledger.modal_calls.record_call(job_id, 1, call_id="fc-1", first_check_s=1, deadline_s=9)
        ledger.attempts.begin_delivery(job_id, 1)
        assert ledger.jobs.get(job_id).state is State.DELIVERING
    before = everything(ledger)
    # when a script is called with an argument that is wrong / then it changes nothing
    with pytest.raises(redis.exceptions.ResponseError):
        ledger.runner.call(script, id=job_id, attempt=1, **arguments)
    assert everything(ledger) == before
