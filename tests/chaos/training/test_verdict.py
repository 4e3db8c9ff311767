"""The verdict on a struck run: what its log tells, and what is complained about."""

from dataclasses import replace

from tests.chaos.training.told import Restarts, in_order, reached, read_log, read_rows, restarts, starts
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
    restarts=Restarts(preempted=1, killed=3),
    interval_steps=20,
    weights_equal=True,
    took_s=100.0,
)


def test_a_log_tells_preemptions_kills_and_segments_apart() -> None:
    said = read_log(LOG)
    assert starts(said) == [0, 20, 33, 50]
    # Two attempts: the first was killed once and preempted once, and ended with its segment
    assert restarts(said, attempts=2, segments=1) == Restarts(preempted=1, killed=1)


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


def test_each_thing_that_did_not_hold_is_said() -> None:
    too_dear = [*WELL.strikes[:-3], Struck("inhouse", "killed", 21), *WELL.strikes[-2:]]
    worse = {
        "the weights differ": replace(WELL, weights_equal=False),
        "at most 20 steps": replace(WELL, strikes=too_dear),
        "cost nothing": replace(WELL, strikes=[*WELL.strikes[:-1], Struck("inhouse", "asked to stop", 1)]),
        "crash": replace(WELL, outcomes={**WELL.outcomes, "crash": 1}),
        "a segment": replace(WELL, outcomes={**WELL.outcomes, "segment_ended": 0}),
        "expected 5 kills": replace(WELL, strikes=WELL.strikes[1:], restarts=Restarts(1, 2)),
    }  # fmt: skip
    for words, verdict in worse.items():
        assert any(words in complaint for complaint in verdict.all_complaints), (words, verdict.all_complaints)
