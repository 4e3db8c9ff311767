"""SIGKILL at random moments: the end is that of a run that nobody disturbed, and little work is done twice."""

import random
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs the extra `torch`")

from engines.train import checkpoints
from engines.train.contract import EventKind
from tests.support.train_runs import KillableRun, context, tiny_transformer, train

KILLS = 5
INTERVAL_STEPS = 4


def test_five_kills_change_nothing_but_time(tmp_path: Path, cache: Path) -> None:
    # Given a run that was not disturbed
    seed = random.randrange(10_000)
    print(f"seed {seed}")  # noqa: T201 - a test that failed must show it
    chance = random.Random(seed)
    config = tiny_transformer(steps=36, checkpoint_every_steps=INTERVAL_STEPS, eval_every_steps=36)
    undisturbed = train(config, context(tmp_path / "undisturbed", cache))
    # When another is killed five times, each time some steps after it started, at any moment of a step or a checkpoint
    reached = 0
    for _ in range(KILLS):
        run = KillableRun(config, tmp_path / "job", cache)
        started = run.next_event()
        assert started is not None
        assert started.kind is EventKind.STARTED
        # Then at most one interval's work was lost by the kill before
        assert reached - started.step <= INTERVAL_STEPS
        target = started.step + chance.randint(1, 6)
        while (event := run.next_event()) is not None and event.step < target:
            pass
        assert event is not None
        reached = event.step
        time.sleep(chance.uniform(0, 0.02))  # the moment is what is random: in a step, or halfway through a checkpoint
        run.kill()
    last = KillableRun(config, tmp_path / "job", cache)
    while last.next_event() is not None:
        pass
    assert last.end() == 0
    # And the end is the same to the bit: weights, average and optimizer
    end = checkpoints.read(tmp_path / "job" / "step-36")
    assert end.metadata["files"] == checkpoints.read(undisturbed.checkpoint).metadata["files"]
    assert end.metadata["metrics"] == dict(undisturbed.metrics)
