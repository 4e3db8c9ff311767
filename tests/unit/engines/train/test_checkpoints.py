"""Checkpoints as files: whole or not there, proven, kept by one rule. Needs no torch."""

import datetime as dt
import json
from pathlib import Path

import pytest

from engines.train import checkpoints
from engines.train.errors import CheckpointProblem, VolumeFull
from tests.support.train_runs import files_of_at_most


def _write(folder: Path, step: int, score: float | None = None) -> checkpoints.Checkpoint:
    return checkpoints.write(folder, step, {"model.safetensors": b"weights" * step}, {"score": score, "metrics": {}})


def test_a_job_has_one_folder_by_recipe_day_and_id() -> None:
    folder = checkpoints.job_folder(Path("checkpoints"), "image_classifier", dt.date(2026, 11, 2), "ftjob_1")
    assert folder == Path("checkpoints/image_classifier/2026-11-02/ftjob_1")


def test_what_was_written_is_whole_and_says_what_it_is(tmp_path: Path) -> None:
    # When a checkpoint is written
    written = _write(tmp_path, 3, score=0.5)
    # Then it reads back, with the digest of each file
    found = checkpoints.read(tmp_path / "step-3")
    assert found == written
    assert (found.step, found.score) == (3, 0.5)
    assert len(found.metadata["files"]["model.safetensors"]) == 64


@pytest.mark.parametrize("harm", ["cut", "flipped", "gone", "no metadata", "half metadata", "other metadata"])
def test_a_torn_checkpoint_is_told_and_an_older_one_found(tmp_path: Path, harm: str) -> None:
    # Given two checkpoints, the newer one torn
    _write(tmp_path, 3)
    torn = _write(tmp_path, 12).path
    weights, metadata = torn / "model.safetensors", torn / "metadata.json"
    match harm:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "flipped":
            weights.write_bytes(b"W" + weights.read_bytes()[1:])
        case "gone":
            weights.unlink()
        case "no metadata":
            metadata.unlink()
        case "half metadata":
            metadata.write_bytes(metadata.read_bytes()[: metadata.stat().st_size // 2])
        case _:
            metadata.write_text(json.dumps(["not", "ours"]))
    # When the newest whole one is looked for
    told: list[CheckpointProblem] = []
    found = checkpoints.newest_whole(tmp_path, told.append)
    # Then it is the older one, and the torn one was named
    assert found is not None
    assert found.step == 3
    assert [(problem.flaw, problem.path) for problem in told] == [("torn", str(torn))]


def test_the_last_five_and_the_best_are_kept(tmp_path: Path) -> None:
    # Given nine checkpoints, of which the second is the best
    for step in range(1, 10):
        _write(tmp_path, step * 10, score={20: 0.9}.get(step * 10, 0.1))
    # When the surplus goes
    removed = checkpoints.prune(tmp_path)
    # Then five and the best remain, and nothing else
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step}" for step in (20, 50, 60, 70, 80, 90)]
    assert {path.name for path in removed} == {"step-10", "step-30", "step-40"}
    assert checkpoints.find(tmp_path).step == 20


def test_a_full_volume_leaves_the_last_good_checkpoint_and_nothing_half_written(tmp_path: Path) -> None:
    # Given a checkpoint, and no space for a larger one
    good = _write(tmp_path, 3).path
    with files_of_at_most(4_096), pytest.raises(VolumeFull) as caught:
        # When a larger one is written
        _write(tmp_path, 4_000)
    # Then the error names the good one, which is still whole and alone
    assert caught.value.last_good == str(good)
    assert checkpoints.read(good).step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["step-3"]


def test_a_folder_that_cannot_be_written_is_its_own_error(tmp_path: Path) -> None:
    # Given a file where the folder should be
    (tmp_path / "job").write_text("in the way")
    # When a checkpoint is written into it
    with pytest.raises(CheckpointProblem) as caught:
        _write(tmp_path / "job", 3)
    # Then it says so
    assert caught.value.flaw == "unwritable"


def test_what_a_killed_run_had_begun_is_swept_and_never_read(tmp_path: Path) -> None:
    # Given a whole checkpoint and the beginning of another
    _write(tmp_path, 3)
    (tmp_path / ".unfinished-step-6").mkdir()
    (tmp_path / ".unfinished-step-6" / "model.safetensors").write_bytes(b"half")
    # When the next run starts
    checkpoints.sweep_unfinished(tmp_path)
    # Then only the whole one is there
    assert [path.name for path in tmp_path.iterdir()] == ["step-3"]
    assert checkpoints.step_folders(tmp_path) == [tmp_path / "step-3"]


def test_no_checkpoint_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointProblem) as caught:
        checkpoints.find(tmp_path)
    assert caught.value.flaw == "none"
