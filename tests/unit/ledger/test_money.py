"""Stages, periods, Retry-After and refusals: the pure part of the budget."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.budget import projection
from ledger.periods import month_end_ms, month_of, month_start_ms, next_day_ms
from ledger.refusals import Refusal, is_about_dollars, public_code
from ledger.retry_after import LEAST_S, OFF_S, UNKNOWN_S, Expected, Facts, Spent, retry_after_s
from ledger.stages import Stage, as_lua, stage_of


def _ms(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]  # year, month, day, ...


@pytest.mark.parametrize(
    ("committed", "stage"),
    [
        (0, Stage.OK), (499, Stage.OK), (500, Stage.WARN_50), (799, Stage.WARN_50), (800, Stage.WARN_80),
        (899, Stage.WARN_80), (900, Stage.DRAIN), (999, Stage.DRAIN), (1000, Stage.STOP), (5000, Stage.STOP),
    ],
)  # fmt: skip
def test_the_stages_of_a_budget(committed: int, stage: Stage) -> None:
    assert stage_of(committed, 1000) is stage


def test_a_budget_without_a_cap_is_always_well_and_one_of_nothing_never() -> None:
    assert stage_of(10**12, None) is Stage.OK
    assert stage_of(0, 0) is Stage.STOP


def test_it_has_stopped_when_the_least_wish_does_not_fit() -> None:
    assert stage_of(950, 1000, least_usd_micros=50) is Stage.DRAIN
    assert stage_of(951, 1000, least_usd_micros=50) is Stage.STOP


@given(st.integers(0, 2000), st.integers(0, 2000), st.floats(0.01, 1))
def test_more_committed_is_never_a_lower_stage(one: int, other: int, drain_ratio: float) -> None:
    low, high = sorted((one, other))
    assert stage_of(low, 1000, drain_ratio=drain_ratio) <= stage_of(high, 1000, drain_ratio=drain_ratio)


def test_lua_gets_the_same_words_and_thresholds() -> None:
    assert dict(re.findall(r"\[(\d)\] = '(\w+)'", as_lua())) == {str(stage.value): stage.word for stage in Stage}
    for ratio in ("0.5", "0.8"):
        assert f"committed >= {ratio} * cap" in as_lua()


@pytest.mark.parametrize(
    ("month", "start", "end"),
    [
        ("2031-01", _ms(2031, 1, 1), _ms(2031, 2, 1)),
        ("2032-02", _ms(2032, 2, 1), _ms(2032, 3, 1)),
        ("2031-12", _ms(2031, 12, 1), _ms(2032, 1, 1)),
    ],
)
def test_months_begin_and_end(month: str, start: int, end: int) -> None:
    assert (month_start_ms(month), month_end_ms(month)) == (start, end)
    assert (month_of(start), month_of(end - 1)) == (month, month)


def test_a_day_ends_at_the_next_ones_midnight() -> None:
    assert next_day_ms(_ms(2031, 12, 31, 23, 59)) == _ms(2032, 1, 1)
    assert next_day_ms(_ms(2031, 5, 1)) == _ms(2031, 5, 2)


NOW = _ms(2031, 6, 30, 22)
#: A training run that was placed first and has 23 hours to go, and two renders.
TRAIN_AND_RENDERS = (
    Expected(NOW + 23 * 3_600_000, 90, "beta", "train"),
    Expected(NOW + 41_500, 10, "beta", "render"),
    Expected(NOW + 80_000, 10, "acme", "render"),
)


@pytest.mark.parametrize(
    ("reason", "facts", "seconds"),
    [
        ("month_budget", Facts(NOW - 86_400_000), 26 * 3600),
        ("tenant_drain", Facts(NOW), 2 * 3600),
        ("day_budget", Facts(NOW - 86_400_000), 2 * 3600),
        ("day_drain", Facts(NOW), 2 * 3600),
        ("gpus_at_cap", Facts(NOW, TRAIN_AND_RENDERS), 42),
        ("gpus_at_cap", Facts(NOW, TRAIN_AND_RENDERS, idle_until_ms=NOW + 7_000), 7),
        ("modal_calls_at_cap", Facts(NOW, TRAIN_AND_RENDERS, idle_until_ms=NOW + 7_000), 42),
        ("modal_calls_at_cap", Facts(NOW, TRAIN_AND_RENDERS, is_stopping=True), LEAST_S),
        ("hour_rate", Facts(NOW, [Expected(NOW - 1, 1)]), LEAST_S),
        ("modal_calls_at_cap", Facts(NOW), LEAST_S),
        # Of a cap of 100, 40 are spent: what is set aside comes back
        ("month_budget", Facts(NOW, TRAIN_AND_RENDERS, budgets={"month": Spent(40, 100)}), 42),
        # 95 are: not even the smallest fits before the period's end; nor is there anything that drains any more
        ("month_budget", Facts(NOW, TRAIN_AND_RENDERS, budgets={"month": Spent(95, 100)}), 2 * 3600),
        ("month_drain", Facts(NOW, TRAIN_AND_RENDERS, budgets={"month": Spent(75, 100)}, drain_ratio=0.8), 2 * 3600),
        ("day_drain", Facts(NOW, TRAIN_AND_RENDERS, budgets={"day": Spent(65, 100)}, drain_ratio=0.8), 42),
        # What comes back to others does not help
        ("tenant_budget", Facts(NOW, TRAIN_AND_RENDERS, budgets={"tenant": Spent(0, 100)}, tenant="acme"), 80),
        ("kind_budget", Facts(NOW, TRAIN_AND_RENDERS, budgets={"kind": Spent(0, 100)}, kind="train"), 2 * 3600),
        ("day_budget", Facts(NOW, budgets={"day": Spent(0, 100)}), 2 * 3600),
        ("spill_off", Facts(NOW, override_until_ms=NOW + 60_000), 60),
        ("spill_off", Facts(NOW), OFF_S),
        ("breaker_open", Facts(NOW, probe_in_s=12.2), 13),
        ("breaker_open", Facts(NOW), UNKNOWN_S),
        ("something else", Facts(NOW), UNKNOWN_S),
    ],
)
def test_when_to_come_back(reason: str, facts: Facts, seconds: int) -> None:
    assert retry_after_s(reason, facts) == seconds


def test_the_outside_is_told_what_it_was_about() -> None:
    dollars = {reason for reason in Refusal if is_about_dollars(reason)}
    assert {reason.split("_")[0] for reason in dollars} == {"month", "day", "tenant", "kind"}
    assert {public_code(reason) for reason in dollars} == {"budget_exhausted"}
    assert {public_code(reason) for reason in set(Refusal) - dollars} == {"overloaded"}


def test_a_projection_needs_an_hour_at_least_and_looks_back_a_day_at_most() -> None:
    hour = 3_600_000
    at = NOW
    # A minute after the first dollar: it counts as an hour's
    begun = {"2031-06-30T22": 100}
    left = 2 * hour
    assert projection(spent_usd_micros=100, by_hour=begun, now_ms=at + 60_000, left_ms=left) == 300
    # A day at 10 an hour goes on at 10 an hour
    day = {f"2031-06-{29 + (22 + back) // 24:02d}T{(22 + back) % 24:02d}": 10 for back in range(24)}
    assert projection(spent_usd_micros=240, by_hour=day, now_ms=at, left_ms=left) == 260
    assert projection(spent_usd_micros=7, by_hour={}, now_ms=at, left_ms=left) == 7
