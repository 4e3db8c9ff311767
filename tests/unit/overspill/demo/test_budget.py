"""The demo of the budget: what its table shows, and what it takes for a success."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ledger.limits import Limits
from ledger.models import JobRecord
from ledger.states import Pool, State
from overspill.demo.budget import BudgetVerdict, judge, peak_usd_micros
from overspill.demo.picture import changes
from tests.unit.overspill.demo.test_render import drawn, jobs, picture

LIMITS = Limits(month_cap_usd_micros=48_000, max_modal_attempts=10)


def shed(record: JobRecord) -> JobRecord:
    return replace(record, state=State.FAILED, pool=None, gpu=None, error_code="budget_exhausted", cost_usd_micros=0)


def burst(completed: int = 7) -> list[JobRecord]:
    """Twelve jobs at their end; the first five of those that completed did so in-house."""
    return [record if number < completed else shed(record) for number, record in enumerate(jobs(12))]


def judged(records: Sequence[JobRecord], **changed: object) -> BudgetVerdict:
    facts: dict[str, object] = {
        "held": [record.id for record in records],
        "spent_usd_micros": 33_123,
        "peak": 47_900,
        "limits": LIMITS,
        **changed,
    }
    return judge(records, **facts)  # type: ignore[arg-type]  # the fields above


def test_success_is_a_budget_that_ran_out_and_was_never_passed() -> None:
    # given seven jobs that completed and five that were held and then refused / then it is a success
    verdict = judged(burst())
    assert verdict.complaints == []
    assert verdict.exit_code == 0
    assert verdict.last_line == (
        "demo-budget: 12 jobs, 7 completed, 5 shed (budget_exhausted), $0.0331 of $0.0480 spent, never over"
    )


@pytest.mark.parametrize(
    ("records", "changed", "complaint"),
    [
        (burst(12), {}, "expected the budget to run out"),
        (burst(5), {}, "expected some jobs to complete on Modal"),
        (burst()[:11], {}, "expected 12 jobs, 11 were accepted"),
        ([*burst()[:11], replace(jobs(1)[0], state=State.FAILED, error_code="crash")], {}, "is failed: crash"),
        ([*burst()[:11], replace(jobs(1)[0], state=State.RUNNING)], {}, "is running"),
        (burst(), {"held": []}, "was refused without being held first"),
        (burst(), {"peak": 48_001}, "the budget of $0.0480 was passed: $0.0480"),
        (burst(), {"spent_usd_micros": 50_000}, "the budget of $0.0480 was passed: $0.0500"),
        (burst(), {"broken": ["a sum is wrong"]}, "the ledger's audit: a sum is wrong"),
    ],
)
def test_everything_else_is_a_failure_with_its_reason(
    records: list[JobRecord], changed: dict[str, object], complaint: str
) -> None:
    # given something that is not as it should be / when it is judged / then the exit code is 1, and the reason is said
    verdict = judged(records, **changed)
    assert verdict.exit_code == 1
    assert any(complaint in said for said in verdict.complaints), verdict.complaints
    if "passed" in complaint:
        assert verdict.last_line.endswith("OVER IT")


def test_the_peak_is_of_whole_scripts() -> None:
    # given a journal in which one script books a call and gives its reservation back in two lines
    journal = [
        {"reserved": "30", "spent": "0", "rate": "5"},
        {"reserved": "0", "spent": "12"},
        {"reserved": "-30", "spent": "0", "rate": "-5"},
        {"reserved": "20", "spent": "0", "rate": "5"},
    ]
    # when its peak is looked for / then what stood between two lines of one script does not count
    assert peak_usd_micros(journal) == 32
    assert peak_usd_micros([]) == 0


def test_the_table_says_why_a_job_waits_or_was_refused() -> None:
    # given a held job, and one that was refused, under a budget
    held = replace(jobs(1)[0], state=State.HELD, pool=None, gpu=None, held_reason="month_budget")
    shown = replace(picture([held, shed(jobs(2)[1])]), cap_usd_micros=48_000)
    shown = replace(shown, view=replace(shown.view, held=1))
    # when it is drawn, or told line by line / then both reasons are there, and so is the budget
    text = drawn(shown, 100)
    for words in ("month_budget", "budget_exhausted", "of $0.0480", "held 1"):
        assert words in text
    assert max(map(len, drawn(shown, 80).splitlines())) <= 80
    assert any("held: month_budget" in line for line in changes(None, shown))
    assert Pool.MODAL in {record.pool for record in jobs(12)}
