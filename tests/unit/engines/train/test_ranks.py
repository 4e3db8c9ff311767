"""Two ranks by torchrun over gloo learn what one process does; events, stop and checkpoint reach the caller."""

import json
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `torch`")

from safetensors.torch import load  # noqa: E402 - after the skip

from engines.train import rank, torchrun  # noqa: E402
from engines.train.contract import EventKind, TrainOutcome  # noqa: E402
from engines.train.data.batches import StepBatches, loader, worker_count  # noqa: E402
from engines.train.data.prepared import prepare  # noqa: E402
from engines.train.errors import OutOfMemory  # noqa: E402
from engines.train.ranks import Ranks  # noqa: E402
from engines.train.recipes.catalogue import recipe_for  # noqa: E402
from tests.support.train_runs import Heard, after, context, tiny_transformer, train  # noqa: E402


def test_what_a_rank_fails_of_reaches_the_caller_whichever_rank_it_is(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two ranks: the second runs out of memory, the first loses its connection then, or before that is known
    job = {"config": tiny_transformer(gpus=2).to_wire(), "context": torchrun._plain(context(tmp_path / "run", cache))}
    (tmp_path / torchrun.JOB_FILE).write_text(json.dumps({**job, "launcher": os.getpid()}))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(rank, "joined", lambda **given: nullcontext(Ranks(given["rank"], given["world"])))
    fails = {0: RuntimeError("Connection closed by peer"), 1: OutOfMemory("cuda", 7, None)}

    def fail(_config: object, _context: object, ranks: Ranks) -> None:
        raise fails[ranks.rank]

    monkeypatch.setattr(rank, "train", fail)
    assert torchrun._error_of(tmp_path) is None
    for number in (0, 1):
        # When each has ended
        monkeypatch.setenv("RANK", str(number))
        assert rank.main(tmp_path) == 1
        # Then the caller is told the error that has a name, else what there is
        told = torchrun._error_of(tmp_path)
        assert told is not None
        assert (told.code, "Connection closed by peer" in str(told)) == (
            ("rank_failed", True) if number == 0 else ("train_out_of_memory", False)
        )


def test_two_reading_processes_give_the_batches_that_none_gives(cache: Path) -> None:
    # Given a run's batches from its third step on
    config = tiny_transformer(grad_accumulation=2)
    data = prepare(dataset="shapes", data=None, cache=cache, side_px=8, threads=1)
    batches = StepBatches(data.train, config, recipe_for(config, data.classes, None).draws, rank=0, world=1)
    # When two processes read ahead, then every bit comes as without them, and in order
    ahead = list(loader(batches, first=3, steps=8, workers=2, pinned=False))
    alone = [batches[step] for step in range(3, 8)]
    for parts, expected in zip(ahead, alone, strict=True):
        for part, wanted in zip(parts, expected, strict=True):
            assert all(torch.equal(part[name], wanted[name]) for name in wanted)


def test_ranks_share_the_readers_of_their_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    assert [worker_count(None, world) for world in (1, 4, 8, 32)] == [16, 4, 2, 0]
    assert worker_count(3, 8) == 3


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
