"""The `dit` engine: the prompt's classes in turn, neighbouring frames alike, and no video without a model."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from engines.render.contract import RenderEngine, RenderRequest
from engines.render.dit import script
from engines.render.dit.engine import DitEngine
from engines.render.dit.errors import NoModel
from engines.render.dit.model import checkpoint_path
from engines.render.errors import RenderCancelled, UnknownEngine
from engines.render.registry import get_engine

NAMES = ("blue circle", "blue square", "green cross", "red circle", "red square")


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("A red circle becomes a blue square.", ["red circle", "blue square"]),
        ("BLUE SQUARES, then red circles, then blue squares", ["blue square", "red circle", "blue square"]),
        ("crosses", []),
        ("one cross", ["green cross"]),
    ],
)
def test_the_prompt_s_classes_are_read_in_its_order(prompt: str, wanted: list[str]) -> None:
    found = [NAMES[number] for number in script.wanted_classes(prompt, NAMES, seed=1)]
    assert found == wanted if wanted else len(found) > 0


def test_a_part_of_a_name_means_one_of_its_classes_and_any_prompt_means_something() -> None:
    (circle,) = script.wanted_classes("a circle at dawn", NAMES, seed=1)
    assert NAMES[circle].endswith("circle")
    for prompt in ("夜の海", "!!!", "a boat"):
        assert script.wanted_classes(prompt, NAMES, seed=1) == script.wanted_classes(prompt, NAMES, seed=1) != []


def test_each_class_is_held_then_becomes_the_next_and_the_last_one_stays() -> None:
    # Given two classes in a video of 4 s
    moments = [script.moment([3, 1], time_s=index / 24, duration_s=4.0) for index in range(96)]
    # Then it begins with the first, ends with the second, and never jumps
    assert (moments[0].before, moments[0].share) == (3, 0)
    assert (moments[-1].before, moments[-1].after) == (1, 1)
    places = [0.0 if one.before == one.after == 3 else (1.0 if one.before == 1 else one.share) for one in moments]
    assert max(abs(after - before) for before, after in itertools.pairwise(places)) < 0.1


def test_the_registry_makes_it_with_or_without_a_model_s_name() -> None:
    assert isinstance(get_engine("dit"), RenderEngine)
    assert isinstance(get_engine("dit:ftjob_1"), DitEngine)
    with pytest.raises(UnknownEngine):
        get_engine("procedural:ftjob_1")


def test_a_checkpoint_is_found_by_variable_or_by_the_id_of_its_job(tmp_path: Path) -> None:
    job = tmp_path / "diffusion_transformer" / "2026-11-22" / "ftjob_1"
    job.mkdir(parents=True)
    environment = {"OVERSPILL_DIT_CHECKPOINT": "/models/dit", "OVERSPILL_DIT_CHECKPOINTS": str(tmp_path)}
    assert checkpoint_path("dit", environment) == Path("/models/dit")
    assert checkpoint_path("dit:ftjob_1", environment) == job


@pytest.mark.parametrize("engine", ["dit", "dit:ftjob_1", "dit:../../etc", "dit:/etc", "dit:*", "dit:ftjob_2"])
def test_no_model_is_a_typed_error_and_an_id_is_no_path(tmp_path: Path, engine: str) -> None:
    (tmp_path / "diffusion_transformer" / "2026-11-22" / "ftjob_1").mkdir(parents=True)
    known = {} if engine in ("dit", "dit:ftjob_1") else {"OVERSPILL_DIT_CHECKPOINTS": str(tmp_path)}
    with pytest.raises(NoModel) as caught:
        checkpoint_path(engine, known)
    assert caught.value.wanted == engine
    assert "OVERSPILL_DIT_CHECKPOINT" in str(caught.value)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="sampling needs the extra `torch`")
    from tests.support.train_runs import context, tiny_transformer, train

    root = tmp_path_factory.mktemp("dit")
    return train(tiny_transformer(steps=2), context(root / "job", root / "cache")).checkpoint


def _request(**changes: object) -> RenderRequest:
    fields = {"prompt": "a red circle", "width": 192, "height": 96, "seconds": 1, "fps": 15, "seed": 4, "engine": "dit"}
    return RenderRequest(**{**fields, **changes})  # type: ignore[arg-type]  # fields by name


def test_a_checkpoint_becomes_a_video_of_the_asked_shape(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import av

    # Given a checkpoint in the environment
    monkeypatch.setenv("OVERSPILL_DIT_CHECKPOINT", str(trained))
    # When a video is asked for, twice, and one of another seed
    told: list[float] = []
    result = get_engine("dit").render(_request(), on_progress=told.append, is_cancelled=lambda: False)
    again = DitEngine(trained).render(_request(), on_progress=lambda _: None, is_cancelled=lambda: False)
    other = DitEngine(trained).render(_request(seed=5), on_progress=lambda _: None, is_cancelled=lambda: False)
    # Then it has each frame at its size, the same request gives the same video, and progress ends at 1
    (tmp_path / "video.mp4").write_bytes(result.mp4)
    with av.open(str(tmp_path / "video.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert {frame.shape for frame in frames} == {(96, 192, 3)}
    assert len(frames) == 15
    assert result.sha256 == again.sha256 != other.sha256
    assert told == sorted(told)
    assert told[-1] == 1.0
    # And neighbouring frames are much more alike than the first and the last
    first, second, last = (frames[index].astype(float) for index in (0, 1, -1))
    assert np.abs(second - first).mean() < np.abs(last - first).mean() / 3


def test_a_cancelled_render_stops_and_a_classifier_is_no_model(trained: Path, tmp_path: Path) -> None:
    from tests.support.train_runs import context, tiny_classifier, train

    with pytest.raises(RenderCancelled):
        DitEngine(trained).render(_request(), on_progress=lambda _: None, is_cancelled=lambda: True)
    classifier = train(tiny_classifier(steps=1), context(tmp_path / "job", trained.parents[1] / "cache")).checkpoint
    for wrong in (classifier, tmp_path / "nothing"):
        with pytest.raises(NoModel):
            DitEngine(wrong).render(_request(), on_progress=lambda _: None, is_cancelled=lambda: False)
