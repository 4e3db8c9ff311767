"""The loss curve as people see it."""

import math

from overspill.terminal.curves import in_words, line, losses, sparkline

ROWS = [
    {"attempt": 1, "n": 1, "at": 0.0, "kind": "started", "step": 0, "steps": 40},
    {"attempt": 1, "n": 2, "at": 1.0, "kind": "progress", "step": 10, "steps": 40, "loss": 2.0, "examples_per_s": 99.6},
    {"attempt": 1, "n": 3, "at": 2.0, "kind": "progress", "step": 20, "steps": 40, "loss": 1.0},
    {"attempt": 2, "n": 1, "at": 3.0, "kind": "progress", "step": 20, "steps": 40, "loss": 0.5},
    {"attempt": 2, "n": 2, "at": 4.0, "kind": "evaluated", "step": 20, "steps": 40, "metrics": {"accuracy": 0.75}},
]


def test_of_steps_that_were_done_twice_the_last_time_counts() -> None:
    assert losses(ROWS) == [2.0, 0.5]


def test_a_sparkline_falls_as_the_loss_does_and_fits_its_width() -> None:
    assert sparkline([4, 3, 2, 1]) == "█▆▃▁"
    assert sparkline([1, 1, 1]) == "▁▁▁"
    assert sparkline([]) == ""
    assert sparkline([math.nan, 1.0, math.inf]) == "▁"
    assert len(sparkline([1 / (n + 1) for n in range(1000)], width=32)) == 32


def test_words_say_step_loss_speed_and_the_last_evaluation() -> None:
    assert in_words(ROWS) == "step 20/40, loss 0.5, 100 examples/s, accuracy 0.75"
    assert in_words([]) == ""


def test_a_row_is_a_line() -> None:
    assert line(ROWS[1]) == ("1970-01-01 00:00:01  attempt 1  progress    step 10/40  loss=2  examples_per_s=99.6")
