"""What a training container is asked for and answers, without one."""

import datetime as dt
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.train.allocator import estimate
from engines.train.contract import EventKind, TrainConfig, TrainContext, TrainEvent, TrainOutcome, TrainResult
from engines.train.errors import DatasetProblem, DoesNotFit, InvalidTrainConfig, OutOfMemory, TrainError, VolumeFull
from modal_apps.gpu_table import as_markdown
from modal_apps.gpus import (
    CATALOGUE,
    Profile,
    UnknownGpuClass,
    WrongResources,
    parse,
    parse_resources,
    training_classes,
)
from modal_apps.images import TRAIN_PACKAGES
from modal_apps.training_errors import in_words
from modal_apps.training_request import TrainRequest, WrongConfigFile, by_hand, read_config_file
from modal_apps.training_rows import ROWS_PER_RUN, RowFile, Thinner, parse_rows
from modal_apps.training_run import TrainingRun, unless_open
from modal_apps.training_size import check_class, choose_class, training_class

REPOSITORY = Path(__file__).parents[3]
CONFIG = TrainConfig(recipe="image_classifier", steps=1000, batch_size=64)


def test_the_page_of_gpu_classes_is_made_from_the_catalogue() -> None:
    assert (REPOSITORY / "docs" / "gpu-classes.md").read_text() == as_markdown(), (
        "run: python -m modal_apps.gpu_table > docs/gpu-classes.md"
    )


def test_the_images_pins_are_the_projects_own() -> None:
    locked = set(re.findall(r"^(\S+==\S+?)(?: |$)", (REPOSITORY / "requirements.lock").read_text(), re.MULTILINE))
    others = {package for package in TRAIN_PACKAGES if not package.startswith("torch==")}
    assert others <= locked
    assert f'"{next(iter(set(TRAIN_PACKAGES) - others))}"' in (REPOSITORY / "pyproject.toml").read_text()


def test_cores_and_memory_follow_the_profile_and_the_setting_and_are_paid_for() -> None:
    render, train = parse("A100-80GB"), parse("A100-80GB", Profile.TRAIN)
    assert (render.cpu_cores, render.memory_gib) == (2, 8)
    assert train.price_usd_nanos_per_s() - render.price_usd_nanos_per_s() == (30 * 13_100 + 120 * 2_220)
    own = parse("A100-80GB:2", Profile.TRAIN, parse_resources('{"A100-80GB": [16, 64]}'))
    assert (own.cpu_cores, own.memory_gib) == (32, 128)
    assert own.for_profile(Profile.RENDER).cpu_cores == 2


def test_no_alias_stands_for_two_classes_and_none_asks_for_more_than_a_host_has() -> None:
    classes = training_classes()
    assert len({gpu.alias for gpu in classes}) == len(classes) >= 4 * len(CATALOGUE) - 1
    assert max(gpu.cpu_cores for gpu in classes) == 64
    assert max(gpu.memory_gib for gpu in classes) == 256
    assert all(re.fullmatch(r"TrainingSession(_[A-Z0-9]+)+", gpu.alias) for gpu in classes)


@pytest.mark.parametrize("text", ["[]", "{", '{"H1000": [1, 1]}', '{"H100": [0, 1]}', '{"H100": 3}'])
def test_a_table_of_resources_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(WrongResources, match="MODAL_TRAIN_RESOURCES"):
        parse_resources(text)


def test_the_class_is_the_cheapest_that_holds_the_model() -> None:
    assert choose_class(CONFIG).name == "T4"
    large = TrainConfig(recipe="diffusion_transformer", width=2048, heads=16, depth=24, batch_size=8)
    chosen = choose_class(large, counts=(1,))
    check_class(large, chosen)
    cheaper = [
        g for g in training_classes() if g.count == 1 and g.price_usd_nanos_per_s() < chosen.price_usd_nanos_per_s()
    ]
    assert cheaper
    for gpu in cheaper:
        with pytest.raises(DoesNotFit):
            check_class(large, gpu)
    with pytest.raises(DoesNotFit, match="T4"):
        choose_class(large, allowed=("T4",))
    assert choose_class(CONFIG, without=("T4",)).name == "L4"
    assert choose_class(CONFIG, above_gib=48).vram_gib > 48


def test_a_request_survives_the_wire_and_stays_inside_its_volume() -> None:
    request = by_hand(CONFIG, day=dt.date(2026, 11, 22), stop_after_s=5.0)
    assert TrainRequest.from_wire(request.to_wire()) == request
    assert request.folder == f"image_classifier/2026-11-22/{request.job}"
    assert by_hand(CONFIG, day=dt.date(2026, 11, 22)).job == request.job
    for wrong in (
        {"folder": "../etc"},
        {"data": "/etc"},
        {"folder": ""},
        {"colour": "red"},
        {"config": {"recipe": "x"}},
    ):
        with pytest.raises(InvalidTrainConfig):
            TrainRequest.from_wire({**request.to_wire(), **wrong})


@pytest.mark.parametrize(("name", "text"), [("a.toml", "recipe = "), ("a.json", "[1]"), ("a.toml", None)])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(WrongConfigFile, match=name):
        read_config_file(tmp_path / name)


@pytest.mark.parametrize(
    ("error", "cause", "retryable"),
    [
        (InvalidTrainConfig("steps", 0, "more"), "invalid_request", False),
        (DatasetProblem("one_class", "x", "cat"), "dataset_problem", False),
        (VolumeFull("x", 2, 1, None), "volume_full", False),
        (OutOfMemory("cuda", 3, None), "out_of_memory", True),
        (MemoryError(), "out_of_memory", True),
        (RuntimeError("odd"), "error", True),
        (UnknownGpuClass("x"), "error", True),
    ],
)
def test_what_the_engine_raises_is_a_word_and_a_sentence(error: Exception, cause: str, retryable: bool) -> None:
    said = in_words(error)
    assert (said.cause, said.retryable) == (cause, retryable)
    assert said.message


def _progress(step: int, steps: int = 100_000) -> TrainEvent:
    return TrainEvent(kind=EventKind.PROGRESS, step=step, steps=steps, loss=1.0)


def test_a_long_run_tells_a_bounded_number_of_rows() -> None:
    thinner = Thinner(clock=lambda: 1.0)
    rows = [row for step in range(10, 100_001, 10) if (row := thinner.row(_progress(step)))]
    assert len(rows) <= ROWS_PER_RUN + 2
    assert rows[-1]["step"] == 100_000
    assert [row["n"] for row in rows] == list(range(1, len(rows) + 1))


def test_a_second_container_of_an_attempt_goes_on_with_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows" / "1.jsonl"
    first = RowFile(path, clock=lambda: 1.0)
    first.note(_progress(10))
    first.write()
    second = RowFile(path, clock=lambda: 2.0)
    second.note(_progress(5000))
    second.write()
    assert [(row["n"], row["step"]) for row in parse_rows(path.read_bytes() + b'{"n": 3, "st')] == [(1, 10), (2, 5000)]


class _Volume:
    """Counts."""

    def __init__(self) -> None:
        self.commits = 0

    def commit(self) -> None:
        self.commits += 1

    def reload(self) -> None:
        """Nothing is new."""


class _Engine:
    """Works until it is told to stop, as the real one does between steps."""

    def __init__(self) -> None:
        self.works = threading.Event()
        self.fails: TrainError | None = None

    def train(self, config: TrainConfig, context: TrainContext) -> TrainResult:
        self.works.set()
        if self.fails is not None:
            raise self.fails
        while not context.stop_requested():
            self.works.wait(0.01)
            threading.Event().wait(0.01)
        path = context.folder / "step-7"
        context.on_checkpoint(path)
        return TrainResult(
            outcome=TrainOutcome.PREEMPTED, checkpoint=path, step=7, steps_run=7, metrics={}, best=None, seconds=1,
            cpu_s=1, examples_per_s=5, peak_memory_bytes=1, peak_gpu_memory_bytes=None, resumed_from=None,
        )  # fmt: skip


def _run(tmp_path: Path, engine: _Engine, volume: _Volume) -> TrainingRun:
    return TrainingRun(
        engine, root=tmp_path, cache=tmp_path, data_root=tmp_path / "none", volume=volume, on_percent=lambda _: None
    )


def _wire(**more: Any) -> dict[str, Any]:
    return by_hand(CONFIG, day=dt.date(2026, 11, 22), **more).to_wire()


def test_a_segment_ends_with_a_checkpoint_when_its_time_is_over(tmp_path: Path) -> None:
    volume = _Volume()
    answer = _run(tmp_path, _Engine(), volume).go(_wire(stop_after_s=0.05))
    assert answer.value is not None
    assert (answer.value["outcome"], answer.value["step"]) == ("preempted", 7)
    assert str(answer.value["checkpoint"]).endswith("/step-7")
    assert volume.commits >= 1


def test_the_exit_hook_has_the_engine_save(tmp_path: Path) -> None:
    # Given a run under way
    engine, volume = _Engine(), _Volume()
    run = _run(tmp_path, engine, volume)
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(run.go(_wire())))
    caller.start()
    assert engine.works.wait(10)
    # When the container is taken away, then a checkpoint is committed before the hook returns
    run.save_and_end()
    assert volume.commits >= 1
    caller.join(10)
    assert answers[0].value["outcome"] == "preempted"


def test_the_signal_that_takes_the_container_away_leaves_the_engine_its_time(tmp_path: Path) -> None:
    # Given a run that the main thread waits for, as in a container
    engine, volume = _Engine(), _Volume()
    run = _run(tmp_path, engine, volume)

    def strike() -> None:
        assert engine.works.wait(10)
        time.sleep(0.3)  # the main thread is in its wait by now
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=strike).start()
    # When SIGINT strikes it there
    with pytest.raises(KeyboardInterrupt):
        run.go(_wire())
    assert volume.commits == 0
    # Then the exit hook, which comes next, still waits for the checkpoint
    run.save_and_end()
    assert volume.commits == 1


def test_what_goes_wrong_is_answered_and_never_raised(tmp_path: Path) -> None:
    engine = _Engine()
    engine.fails = VolumeFull("x", 2, 1, None)
    answer = _run(tmp_path, engine, _Volume()).go(_wire())
    assert answer.error is not None
    assert answer.error.cause == "volume_full"
    no_bucket = _run(tmp_path, engine, _Volume()).go(_wire(data="some/set"))
    assert no_bucket.error is not None
    assert no_bucket.error.cause == "dataset_problem"
    assert _run(tmp_path, engine, _Volume()).go({"config": {}}).error is not None


def _raises(text: str) -> Callable[[], None]:
    def operation() -> None:
        raise RuntimeError(text)

    return operation


def test_a_commit_stands_though_the_reload_after_it_is_refused() -> None:
    unless_open(_raises("there are open files preventing the operation: x"))
    with pytest.raises(RuntimeError, match="gone"):
        unless_open(_raises("the volume is gone"))


def test_a_card_without_flash_attention_is_not_taken_for_long_sequences() -> None:
    # given a transformer of a thousand tokens, which a T4 would hold if it had flash attention
    sizes = {"image_size": 64, "patch_size": 2, "width": 256, "heads": 8, "depth": 8, "batch_size": 48}
    long = TrainConfig.from_wire({"recipe": "diffusion_transformer", **sizes})
    assert estimate(long).needed_gib < 16 < estimate(long, has_flash=False).needed_gib
    # then it goes to another class, and a T4 that somebody names is refused
    assert choose_class(long).name != "T4"
    with pytest.raises(DoesNotFit, match="T4"):
        check_class(long, training_class("T4"))
