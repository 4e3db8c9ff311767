"""When a call is polled again: by its hints if they come, else by its age, and never too often in all."""

from dataclasses import replace

from ledger.models import Kind
from ledger.outcomes import DueCall
from workers.overflow.schedule import LONGEST_S, Pace, hints_suffice, next_poll_s, predicted_remaining_s

PACE = Pace(first_s=0.5, unhinted_max_s=5, hinted_s=30, polls_per_s=100)
CALL = DueCall("video_1", 1, Kind.RENDER, "H100", "fc", now_ms=100_000, spawned_ms=0, call_deadline_ms=1_800_000)


def _after(age_s: float, **fields: object) -> DueCall:
    return replace(CALL, now_ms=round(age_s * 1000), **fields)  # type: ignore[arg-type]  # of the dataclass


def test_without_hints_it_follows_the_calls_age() -> None:
    assert [next_poll_s(_after(age_s), PACE, in_flight_each=1) for age_s in (0, 10, 600)] == [0.5, 1, 5]


def test_while_hints_come_polls_are_rare() -> None:
    call = _after(40, hinted_ms=39_000, begun_ms=5_000)
    assert next_poll_s(call, PACE, in_flight_each=1) == 30


def test_a_call_that_tells_how_far_it_is_is_polled_after_its_predicted_end() -> None:
    # Given a call that was half done after 40 s of work, 10 s ago
    call = _after(60, begun_ms=10_000, hinted_ms=50_000, progress=50)
    assert predicted_remaining_s(call) == 30
    assert 30 < next_poll_s(call, PACE, in_flight_each=1) < 45
    # One that should have ended already is polled sooner: its last hint may be lost
    late = replace(call, now_ms=100_000)
    assert next_poll_s(late, PACE, in_flight_each=1) == 7.5


def test_a_call_that_said_that_it_ended_is_polled_at_once_and_then_a_little_later_each_time() -> None:
    polls = [next_poll_s(_after(60 + since_s, said_ended_ms=60_000), PACE, in_flight_each=10_000) for since_s in (0, 4)]
    assert polls == [0.25, 2]


def test_ten_thousand_calls_make_no_more_polls_than_a_follower_can() -> None:
    assert next_poll_s(_after(10), PACE, in_flight_each=10_000) == 100
    assert next_poll_s(_after(10), PACE, in_flight_each=10**6) == LONGEST_S


def test_a_calls_deadline_is_never_slept_over() -> None:
    call = replace(CALL, now_ms=1_799_000)
    assert next_poll_s(call, PACE, in_flight_each=10_000) == 1
    assert next_poll_s(replace(call, now_ms=1_900_000), PACE, in_flight_each=1) == 0.1


def test_a_fresh_hint_with_a_while_to_go_says_as_much_as_a_poll() -> None:
    # Given a call that was half done after 40 s of work, and said so 10 s ago
    call = _after(60, begun_ms=10_000, hinted_ms=50_000, progress=50)
    assert hints_suffice(call, PACE)
    # Then not when it has been silent for long, should have ended, said its end, is overdue, or never told how far
    assert not hints_suffice(replace(call, now_ms=80_001), PACE)
    assert not hints_suffice(replace(call, progress=80), PACE)
    assert not hints_suffice(replace(call, said_ended_ms=59_000), PACE)
    assert not hints_suffice(replace(call, call_deadline_ms=60_000), PACE)
    assert not hints_suffice(replace(call, progress=0), PACE)
    assert not hints_suffice(replace(call, hinted_ms=None), PACE)


def test_many_calls_make_none_later_whose_hints_vouch_for_it() -> None:
    # Given a call that was half done after 40 s of work, 10 s ago, among ten thousand
    call = _after(60, begun_ms=10_000, hinted_ms=50_000, progress=50)
    assert next_poll_s(call, PACE, in_flight_each=10_000) < 45
    # Then one that should have ended and did not say so is polled as rarely as the others
    assert next_poll_s(replace(call, now_ms=100_000), PACE, in_flight_each=10_000) == 200
