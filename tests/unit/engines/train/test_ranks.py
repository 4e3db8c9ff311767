"""Two ranks by torchrun over gloo learn what one process does; events, stop and checkpoint reach the caller."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `torch`")

from safetensors.torch import load  # noqa: E402 - after the skip

from engines.train.contract import EventKind, TrainOutcome  # noqa: E402
from tests.support.train_runs import Heard, after, context, tiny_transformer, train  # noqa: E402


def test_two_ranks_learn_what_one_process_learns_from_the_whole_batch_and_stop_when_asked(
    tmp_path: Path, cache: Path
) -> None:
    # Given a run that would be long, on two ranks which share each batch, and cut their halves in two
    heard, committed = Heard(), []
    long = {"steps": 100_000, "checkpoint_every_steps": 100_000}
    where = context(
        tmp_path / "shared", cache, on_event=heard, on_checkpoint=committed.append, stop_requested=after(4, heard)
    )
    # When it is asked to stop after some steps
    shared = train(tiny_transformer(gpus=2, grad_accumulation=2, **long), where)
    # Then it has saved where it was, and all that happened was told to the caller
    assert shared.outcome is TrainOutcome.PREEMPTED
    assert committed == [tmp_path / "shared" / f"step-{shared.step}"]
    # And one process that takes each batch whole has the same losses, and the same weights to rounding
    alone_heard = Heard()
    stop = after(shared.step, alone_heard)
    alone = train(
        tiny_transformer(**long), context(tmp_path / "alone", cache, on_event=alone_heard, stop_requested=stop)
    )
    losses = [[event.loss for event in told.of(EventKind.PROGRESS)] for told in (heard, alone_heard)]
    assert len(losses[0]) == shared.step >= 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    weights = [load((run.checkpoint / "model.safetensors").read_bytes()) for run in (alone, shared)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-2, atol=1e-4, msg=name)
