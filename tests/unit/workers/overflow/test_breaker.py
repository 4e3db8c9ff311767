"""The breaker is a pure machine: what opens it, what closes it, and how long it rests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.overflow.breaker import (
    AT_ONCE,
    Breaker,
    BreakerRules,
    FailureReason,
    Phase,
    breaker_from_json,
    failed,
    probe_due,
    probed,
    probing,
    succeeded,
)

RULES = BreakerRules(failures=3, window_s=10, open_s=5, open_max_s=20, probes=2, probe_timeout_s=30)


def test_so_many_failures_within_the_window_open_it() -> None:
    breaker = Breaker()
    for at_ms in (0, 1000):
        breaker = failed(breaker, FailureReason.UNAVAILABLE, at_ms, RULES)
    assert breaker.phase is Phase.CLOSED
    breaker = failed(breaker, FailureReason.TIMED_OUT, 2000, RULES)
    assert (breaker.phase, breaker.reason, breaker.since_ms) == (Phase.OPEN, "timed_out", 2000)


def test_failures_that_are_far_apart_do_not() -> None:
    breaker = Breaker()
    for at_ms in range(0, 100_000, 6_000):
        breaker = failed(breaker, FailureReason.UNAVAILABLE, at_ms, RULES)
    assert breaker.phase is Phase.CLOSED


@pytest.mark.parametrize("trouble", sorted(AT_ONCE))
def test_a_token_or_an_app_that_is_not_there_opens_it_at_once(trouble: FailureReason) -> None:
    assert failed(Breaker(), trouble, 0, RULES).phase is Phase.OPEN


def test_it_asks_after_its_rest_and_only_one_asks() -> None:
    breaker = failed(Breaker(), FailureReason.TOKEN_REFUSED, 0, RULES)
    assert not probe_due(breaker, 4_999)
    assert probe_due(breaker, 5_000)
    # The one who asks keeps the others from it, until it should have had an answer
    asking = probing(breaker, 5_000, RULES)
    assert not probe_due(asking, 34_999)
    assert probe_due(asking, 35_000)


def test_it_closes_after_so_many_spawns_that_succeed() -> None:
    breaker = probed(failed(Breaker(), FailureReason.TOKEN_REFUSED, 0, RULES), None, 6_000, RULES)
    assert breaker.phase is Phase.HALF_OPEN
    breaker = succeeded(breaker, 6_100, RULES)
    assert breaker.phase is Phase.HALF_OPEN
    assert succeeded(breaker, 6_200, RULES) == Breaker(since_ms=6_200)


def test_each_time_that_it_opens_again_it_rests_for_longer_up_to_a_bound() -> None:
    breaker, now_ms, rests = failed(Breaker(), FailureReason.TOKEN_REFUSED, 0, RULES), 0, []
    for _ in range(5):
        rests.append((breaker.probe_at_ms - now_ms) / 1000)
        now_ms = breaker.probe_at_ms
        half_open = probed(breaker, None, now_ms, RULES)
        breaker = failed(half_open, FailureReason.UNAVAILABLE, now_ms, RULES)
    assert rests == [5, 10, 20, 20, 20]


def test_what_cannot_be_read_is_a_new_breaker() -> None:
    for text in (None, "", "nonsense", "[]", '{"phase": "ajar"}', '{"failures_ms": 7}', '{"later_field": 1}'):
        assert breaker_from_json(text) == Breaker()


@given(st.lists(st.sampled_from([*FailureReason, None]), max_size=40))
def test_it_survives_any_story_and_its_memory_a_round_trip(story: list[FailureReason | None]) -> None:
    breaker = Breaker()
    for now_ms, event in enumerate(story):
        breaker = succeeded(breaker, now_ms, RULES) if event is None else failed(breaker, event, now_ms, RULES)
        if probe_due(breaker, now_ms + 10**6):
            breaker = probed(breaker, event, now_ms, RULES)
        assert breaker_from_json(breaker.to_json()) == breaker
        assert len(breaker.failures_ms) < RULES.failures
