"""Runs from start to end, and all the ways in which they end early."""

import math
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `torch`")

from engines.train import checkpoints, device, schedule  # noqa: E402 - after the skip
from engines.train.contract import EventKind, TrainConfig, TrainOutcome  # noqa: E402
from engines.train.data.batches import StepBatches  # noqa: E402
from engines.train.data.prepared import prepare  # noqa: E402
from engines.train.errors import (  # noqa: E402
    CheckpointProblem,
    DatasetProblem,
    OutOfMemory,
    TrainCancelled,
    TrainingDiverged,
    VolumeFull,
)
from engines.train.learner import Learner  # noqa: E402
from engines.train.ranks import ALONE  # noqa: E402
from engines.train.recipes.catalogue import recipe_for  # noqa: E402
from engines.train.recipes.diffusion_transformer import DiffusionRecipe  # noqa: E402
from engines.train.recipes.image_classifier import ClassifierRecipe  # noqa: E402
from tests.support.image_sets import in_folder, two_classes  # noqa: E402
from tests.support.train_runs import (  # noqa: E402
    Heard,
    after,
    context,
    files_of_at_most,
    tiny_classifier,
    tiny_transformer,
    train,
)

RECIPES = [tiny_classifier(), tiny_transformer()]


def _digests(folder: Path) -> dict[str, str]:
    return dict(checkpoints.read(folder).metadata["files"])


@pytest.mark.parametrize("config", RECIPES, ids=lambda config: config.recipe)
def test_a_run_leaves_checkpoints_events_and_measurements(tmp_path: Path, cache: Path, config: TrainConfig) -> None:
    # When a config is trained
    heard, committed = Heard(), []
    result = train(config, context(tmp_path, cache, on_event=heard, on_checkpoint=committed.append, job="ftjob_1"))
    # Then it is done, each checkpoint was handed over when it was whole, and the last one describes the run
    assert result.outcome is TrainOutcome.FINISHED
    assert (result.step, result.steps_run, result.resumed_from) == (12, 12, None)
    assert committed == [tmp_path / f"step-{step}" for step in (4, 8, 12)]
    metadata = checkpoints.read(result.checkpoint).metadata
    assert (metadata["job"], metadata["kind"], metadata["step"]) == ("ftjob_1", config.recipe, 12)
    assert TrainConfig.from_wire(metadata["config"]) == config
    assert metadata["metrics"] == dict(result.metrics)
    assert len(metadata["classes"]) == 12
    # And every step was told, with finite numbers, and the evaluations beside them
    progress = heard.of(EventKind.PROGRESS)
    assert [event.step for event in progress] == list(range(1, 13))
    assert all(event.loss and math.isfinite(event.loss) and event.examples_per_s for event in progress)
    assert [event.step for event in heard.of(EventKind.EVALUATED)] == [4, 8, 12]
    assert result.best in committed
    assert result.peak_memory_bytes > 0


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path, cache: Path) -> None:
    runs = {
        name: train(tiny_classifier(steps=3, seed=seed), context(tmp_path / name, cache)).checkpoint
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    }
    assert _digests(runs["one"]) == _digests(runs["again"])
    assert _digests(runs["one"]) != _digests(runs["other"])


def test_a_run_whose_evaluation_lacks_memory_keeps_what_it_learnt_and_is_scored_by_the_next(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a run that was not disturbed, and another whose second evaluation finds too little memory
    config = tiny_transformer(eval_every_steps=6)
    undisturbed = train(config, context(tmp_path / "undisturbed", cache))
    sound, looks = DiffusionRecipe.evaluate, iter(range(1, 99))

    def short_of_memory(*given: object) -> object:
        if next(looks) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sound(*given)  # type: ignore[arg-type]  # what it was given

    monkeypatch.setattr(DiffusionRecipe, "evaluate", short_of_memory)
    with pytest.raises(OutOfMemory) as caught:
        train(config, context(tmp_path / "job", cache))
    # Then all its steps are saved, without a score
    last = tmp_path / "job" / "step-12"
    assert (caught.value.where, caught.value.last_good) == ("cuda", str(last))
    assert checkpoints.read(last).score is None
    # When another attempt has more memory
    heard, committed = Heard(), []
    again = train(config, context(tmp_path / "job", cache, on_event=heard, on_checkpoint=committed.append))
    # Then it learns nothing twice, and checkpoint and score are those of the undisturbed run
    assert (again.steps_run, again.metrics, committed) == (0, undisturbed.metrics, [last])
    assert [event.step for event in heard.of(EventKind.EVALUATED)] == [12]
    assert _digests(last) == _digests(undisturbed.checkpoint)
    assert checkpoints.read(last).score == checkpoints.read(undisturbed.checkpoint).score
    assert train(config, context(tmp_path / "job", cache, on_event=heard)).metrics == undisturbed.metrics
    assert len(heard.of(EventKind.EVALUATED)) == 1


@pytest.mark.parametrize("config", RECIPES, ids=lambda config: config.recipe)
def test_an_evaluation_computes_as_training_does_and_takes_no_more_at_once_than_a_part_of_its_batch(
    tmp_path: Path, cache: Path, config: TrainConfig
) -> None:
    # Given the same model, which learns from a batch whole or in four parts, and a judge for the transformer's samples
    judge = train(tiny_classifier(steps=1), context(tmp_path / "judge", cache)).checkpoint
    data = prepare(dataset="shapes", data=None, cache=cache, side_px=8, threads=1)
    found = []
    for parts, arithmetic in ((1, torch.float32), (4, torch.float32), (4, torch.bfloat16)):
        cut = replace(config, grad_accumulation=parts)
        recipe = recipe_for(cut, data.classes, judge if cut.recipe == "diffusion_transformer" else None)
        learner = Learner(recipe, cut, device=torch.device("cpu"), arithmetic=arithmetic, ranks=ALONE)
        taken: list[tuple[int, torch.dtype]] = []
        layer = next(module for module in learner.model.modules() if isinstance(module, torch.nn.Linear))
        layer.register_forward_hook(lambda _, given, said, taken=taken: taken.append((len(given[0]), said.dtype)))
        # When it is evaluated
        with device.deterministic(1), learner.for_evaluation() as model:
            found.append(recipe.evaluate(model, data.evaluation))
        # Then no pass took more examples than one of training, and each was computed as training's are
        assert max(count for count, _ in taken) == 8 // parts
        assert {kind for _, kind in taken} == {arithmetic}
    # And the measurements are the same to rounding
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=0.05, abs=0.1)


@pytest.mark.parametrize("config", RECIPES, ids=lambda config: config.recipe)
def test_a_run_that_is_asked_to_stop_saves_where_it_is_and_goes_on_to_the_same_end(
    tmp_path: Path, cache: Path, config: TrainConfig
) -> None:
    # Given a run that was not disturbed
    undisturbed = train(config, context(tmp_path / "undisturbed", cache))
    # When another is asked to stop after step 6, and then resumed
    heard = Heard()
    stopped = train(config, context(tmp_path / "job", cache, on_event=heard, stop_requested=after(6, heard)))
    resumed = train(config, context(tmp_path / "job", cache))
    # Then no step was lost, and the end is the same to the bit
    assert (stopped.outcome, stopped.step, stopped.checkpoint.name) == (TrainOutcome.PREEMPTED, 6, "step-6")
    assert (resumed.outcome, resumed.steps_run, resumed.resumed_from) == (TrainOutcome.FINISHED, 6, stopped.checkpoint)
    assert _digests(resumed.checkpoint) == _digests(undisturbed.checkpoint)


def test_a_finished_run_is_finished_again_at_once(tmp_path: Path, cache: Path) -> None:
    done = train(tiny_classifier(steps=3), context(tmp_path, cache))
    again = train(tiny_classifier(steps=3), context(tmp_path, cache))
    assert (again.outcome, again.steps_run, again.checkpoint) == (TrainOutcome.FINISHED, 0, done.checkpoint)
    assert again.metrics == done.metrics


def test_a_torn_checkpoint_is_skipped_with_a_warning_and_written_anew(tmp_path: Path, cache: Path) -> None:
    # Given a finished run whose last checkpoint lost its end
    whole = train(tiny_transformer(), context(tmp_path, cache))
    before = _digests(whole.checkpoint)
    optimizer = whole.checkpoint / "optimizer.safetensors"
    optimizer.write_bytes(optimizer.read_bytes()[:-1])
    # When it is run again
    heard = Heard()
    again = train(tiny_transformer(), context(tmp_path, cache, on_event=heard))
    # Then it went on from the one before, said so, and came to the same end
    assert again.resumed_from == tmp_path / "step-8"
    assert "optimizer.safetensors" in str(heard.of(EventKind.WARNING)[0].message)
    assert _digests(again.checkpoint) == before


def test_a_checkpoint_of_another_model_is_refused_before_a_step_is_done(tmp_path: Path, cache: Path) -> None:
    train(tiny_classifier(steps=2), context(tmp_path, cache))
    for other in (tiny_classifier(width=16), tiny_transformer()):
        with pytest.raises(CheckpointProblem) as caught:
            train(other, context(tmp_path, cache))
        assert caught.value.flaw == "other_model"


def test_a_folder_with_checkpoints_is_not_trained_over(tmp_path: Path, cache: Path) -> None:
    train(tiny_classifier(steps=2), context(tmp_path, cache))
    with pytest.raises(CheckpointProblem) as caught:
        train(tiny_classifier(steps=2), context(tmp_path, cache, resume=False))
    assert caught.value.flaw == "exists"


def test_another_learning_rate_is_allowed_with_a_warning(tmp_path: Path, cache: Path) -> None:
    train(tiny_classifier(steps=2), context(tmp_path, cache))
    heard = Heard()
    train(tiny_classifier(steps=3, learning_rate=5e-4), context(tmp_path, cache, on_event=heard))
    assert "learning_rate, steps" in str(heard.of(EventKind.WARNING)[0].message)


def test_a_cancelled_run_stops_at_the_next_step_and_keeps_what_is_whole(tmp_path: Path, cache: Path) -> None:
    heard = Heard()
    with pytest.raises(TrainCancelled) as caught:
        train(tiny_classifier(), context(tmp_path, cache, on_event=heard, is_cancelled=after(6, heard)))
    assert caught.value.steps_done == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-4", "tensorboard"]


def test_a_volume_that_fills_up_ends_the_run_with_the_last_good_checkpoint(tmp_path: Path, cache: Path) -> None:
    # Given a finished half, and a disk on which weights still fit, but the optimizer's moments do not
    config = tiny_transformer()
    half = train(config, context(tmp_path, cache, stop_requested=(tmp_path / "step-4").exists))
    limit = (half.checkpoint / "optimizer.safetensors").stat().st_size - 1
    # When the run goes on
    with files_of_at_most(limit), pytest.raises(VolumeFull) as caught:
        train(config, context(tmp_path, cache))
    # Then it ends with the good one in its hands, and goes on from there when there is space again
    assert caught.value.last_good == str(half.checkpoint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-4", "tensorboard"]
    assert train(config, context(tmp_path, cache)).resumed_from == half.checkpoint


def test_a_volume_that_is_full_is_known_before_the_first_step(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "free_bytes", lambda _: 1_000)
    heard = Heard()
    with pytest.raises(VolumeFull) as caught:
        train(tiny_classifier(), context(tmp_path, cache, on_event=heard))
    assert caught.value.needed_bytes > 1_000
    assert not heard.of(EventKind.PROGRESS)


def test_a_journal_that_cannot_be_written_does_not_end_the_run(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engines.train.journal.Journal.add", full)
    heard = Heard()
    result = train(tiny_classifier(steps=4), context(tmp_path, cache, on_event=heard))
    assert result.outcome is TrainOutcome.FINISHED
    assert ["TensorBoard" in str(event.message) for event in heard.of(EventKind.WARNING)] == [True]


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a loss that is NaN from the fifth step on
    sound, calls = ClassifierRecipe.loss, iter(range(1, 99))
    monkeypatch.setattr(
        ClassifierRecipe, "loss", lambda *given: sound(*given) * (math.nan if next(calls) >= 5 else 1.0)
    )
    # When it trains, telling only every third step
    with pytest.raises(TrainingDiverged) as caught:
        train(tiny_classifier(log_every_steps=3), context(tmp_path, cache))
    # Then it ends at the first look, with the checkpoint from before
    assert (caught.value.step, caught.value.last_good) == (6, str(tmp_path / "step-4"))


def test_a_bad_data_set_ends_the_run_before_a_model_is_made(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetProblem) as caught:
        train(tiny_classifier(dataset=str(tmp_path / "empty")), context(tmp_path / "job", cache))
    assert caught.value.flaw == "empty"
    assert not (tmp_path / "job").exists()


def test_what_is_left_out_of_a_data_set_is_told_at_each_start(tmp_path: Path, cache: Path) -> None:
    # Given a set with files that are not read
    source = in_folder(tmp_path / "set", {**two_classes(), "dark/a.heic": b"x", "dark/b.heic": b"x"})
    for steps in (4, 8):
        # When a run begins, and when it goes on with a set that is in the cache
        heard = Heard()
        train(tiny_classifier(dataset=str(source), steps=steps), context(tmp_path / "job", cache, on_event=heard))
        # Then its events say how many, and which
        (warning,) = [str(one.message) for one in heard.of(EventKind.WARNING) if "left out" in str(one.message)]
        assert warning.endswith("files of no format that is read (2): dark/a.heic, dark/b.heic")


def test_parts_of_a_batch_add_up_to_the_whole(tmp_path: Path, cache: Path) -> None:
    # Given the same batch whole and in four parts
    learners = []
    for parts in (1, 4):
        config = tiny_transformer(grad_accumulation=parts)
        data = prepare(dataset="shapes", data=None, cache=cache, side_px=8, threads=1)
        recipe = recipe_for(config, data.classes, None)
        learner = Learner(recipe, config, device=torch.device("cpu"), arithmetic=torch.float32, ranks=ALONE)
        # When a step is done
        batches = StepBatches(data.train, config, recipe.draws, rank=0, world=1)
        assert len(batches[0]) == parts
        learner.learn(0, batches[0])
        learners.append(learner)
    # Then the gradients agree to rounding
    for whole, summed in zip(learners[0].model.parameters(), learners[1].model.parameters(), strict=True):
        assert whole.grad is not None
        torch.testing.assert_close(whole.grad, summed.grad, rtol=1e-4, atol=1e-7)


def test_the_average_follows_the_weights_and_is_what_is_evaluated(cache: Path) -> None:
    # Given a transformer in training
    config = tiny_transformer(warmup_steps=0, ema_decay=0.5)
    data = prepare(dataset="shapes", data=None, cache=cache, side_px=8, threads=1)
    recipe = recipe_for(config, data.classes, None)
    learner = Learner(recipe, config, device=torch.device("cpu"), arithmetic=torch.float32, ranks=ALONE)
    batches = StepBatches(data.train, config, recipe.draws, rank=0, world=1)
    weights = learner.model.get_parameter("outward.weight")
    expected = weights.detach().clone()
    # When it has done three steps
    for step in range(3):
        learner.learn(step, batches[step])
        expected.lerp_(weights.detach(), 1 - schedule.ema_decay(config, step))
    # Then it is evaluated with the average, and trains on with its own weights
    own = weights.detach().clone()
    with learner.for_evaluation() as model:
        assert not model.training
        torch.testing.assert_close(weights.detach(), expected)
        assert not torch.equal(weights, own)
    assert torch.equal(weights, own)
    assert learner.model.training


def test_what_reading_processes_are_sent_is_small_and_gives_the_same_batch(cache: Path) -> None:
    config = tiny_transformer()
    data = prepare(dataset="shapes", data=None, cache=cache, side_px=8, threads=1)
    batches = StepBatches(data.train, config, recipe_for(config, data.classes, None).draws, rank=0, world=1)
    sent = pickle.dumps(batches)
    arrived = pickle.loads(sent)  # noqa: S301 - our own pickle
    assert len(sent) < 5_000
    assert all(torch.equal(value, arrived[5][0][name]) for name, value in batches[5][0].items())


def test_the_rate_rises_falls_and_ends_at_its_floor() -> None:
    config = tiny_classifier(steps=100, warmup_steps=10, learning_rate=0.5)
    rates = [schedule.learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == rates[9] == rates[10] == 0.5
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.5 * schedule.FLOOR_RATIO)


def test_memory_that_is_not_there_is_known_by_the_error_it_gives() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert device.ran_out_of(caught.value) == "host"
    assert device.ran_out_of(torch.OutOfMemoryError("CUDA out of memory")) == "cuda"
    assert device.ran_out_of(RuntimeError("a shape is wrong")) is None


def test_bf16_arithmetic_trains_and_resumes_to_the_same_bits(tmp_path: Path, cache: Path) -> None:
    config = tiny_transformer(precision="bf16", steps=4, checkpoint_every_steps=2, grad_accumulation=2)
    whole = train(config, context(tmp_path / "whole", cache))
    train(config, context(tmp_path / "job", cache, stop_requested=(tmp_path / "job" / "step-2").exists))
    resumed = train(config, context(tmp_path / "job", cache))
    assert resumed.steps_run == 2
    assert _digests(resumed.checkpoint) == _digests(whole.checkpoint)
