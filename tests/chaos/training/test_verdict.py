"""The verdict on a struck run: what its log tells, and what is complained about."""

from dataclasses import replace

from tests.chaos.training.told import begun_again, in_order, reached, read_log, read_rows, starts
from tests.chaos.training.verdict import Struck, Verdict

LOG = """\
2026-11-22 09:00:00+00:00 step 0/100  started
2026-11-22 09:00:01+00:00 step 27/100  progress  loss 0.5
2026-11-22 09:00:09+00:00 step 20/100  started  /overspill/checkpoints/x/step-20
2026-11-22 09:00:10+00:00 step 33/100  stopped
2026-11-22 09:00:15+00:00 step 33/100  started
2026-11-22 09:00:16+00:00 step 50/100  stopped
2026-11-22 09:00:17+00:00 something else
2026-11-22 09:00:18+00:00 step 50/100  started
"""
WELL = Verdict(
    seed=1,
    strikes=[Struck("modal", "killed", 7)] * 3
    + [Struck("inhouse", "killed", 20)] * 2
    + [Struck("modal", "preempted", 0), Struck("inhouse", "asked to stop", 0)],
    outcomes={"crash": 2, "preempted": 1, "segment_ended": 2, "completed": 1},
    begun_again=4,
    interval_steps=20,
    weights_equal=True,
    took_s=100.0,
)


def test_what_modal_began_again_is_told_from_new_attempts() -> None:
    said = read_log(LOG)
    assert starts(said) == [0, 20, 33, 50]
    # Two attempts: the first was begun three times, and ended with its segment; and one that never began
    first, second = said[0].at, said[-1].at
    assert begun_again(said, [first + 0.4, second + 0.4, second + 20]) == 2


def test_what_was_said_at_home_comes_in_its_place() -> None:
    containers = read_log(LOG)
    at_home = read_rows([{"at": containers[1].at + 4.0, "kind": "started", "step": 20}])
    said = in_order(containers, at_home)
    assert starts(said) == [0, 20, 20, 33, 50]
    assert reached(said[:2]) == 27


def test_a_run_that_went_as_it_should() -> None:
    assert WELL.all_complaints == []
    assert WELL.last_line == (
        "chaos-train: seed 1, 5 kills (2 in-house, 3 on Modal), 2 orderly ends, 2 segments, weights equal, "
        "steps lost 7/7/7/20/20 of 20 at most, 100 s"
    )


def test_a_move_after_a_strike_may_cost_a_checkpoint_that_was_not_brought_to_s3() -> None:
    moved = [Struck("modal", "killed", 40, moved=True), *WELL.strikes[1:]]
    assert replace(WELL, strikes=moved, begun_again=3).all_complaints == []


def test_each_thing_that_did_not_hold_is_said() -> None:
    too_dear = [*WELL.strikes[:-3], Struck("inhouse", "killed", 21), *WELL.strikes[-2:]]
    worse = {
        "the weights differ": replace(WELL, weights_equal=False),
        "at most 20 steps": replace(WELL, strikes=too_dear),
        "cost nothing": replace(WELL, strikes=[*WELL.strikes[:-1], Struck("inhouse", "asked to stop", 1)]),
        "killed, in-house": replace(WELL, outcomes={**WELL.outcomes, "crash": 1}),
        "begun again": replace(WELL, begun_again=5),
        "a segment": replace(WELL, outcomes={**WELL.outcomes, "segment_ended": 0}),
        "expected 5 kills": replace(WELL, strikes=WELL.strikes[1:], begun_again=3),
    }  # fmt: skip
    for words, verdict in worse.items():
        assert any(words in complaint for complaint in verdict.all_complaints), (words, verdict.all_complaints)
