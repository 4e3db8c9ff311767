"""What earlier runs have left on a host goes by age; what a live run uses, or has just begun with, stays."""

import os
import time
from pathlib import Path

from workers.training.scratch import KEPT_UNUSED_S, clean_scratch, touch

NOW_S = time.time()
OLD_S = NOW_S - KEPT_UNUSED_S - 1
FOLDERS = (
    "checkpoints/image_classifier/2026-11-01/ftjob_1.1",
    "models/diffusion_transformer/2026-11-01/ftjob_2",
    "cache/classifiers/ftjob_3-1",
    "cache/s3/abc",
    "cache/s3/.unfinished-abc-x",
    "cache/images-abc-32px",
    "cache/.unfinished-images-x",
)


def _made(root: Path) -> None:
    """Each of them old, with a file two levels down."""
    for name in FOLDERS:
        (root / name / "inside").mkdir(parents=True)
        (root / name / "inside" / "file").write_text("x")
    for path in [root, *root.rglob("*")]:
        os.utime(path, (OLD_S, OLD_S))


def _left(root: Path) -> set[str]:
    return {name for name in FOLDERS if (root / name).exists()}


def test_what_nobody_has_touched_for_two_weeks_goes_and_the_shelves_stay(tmp_path: Path) -> None:
    _made(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in clean_scratch(tmp_path, now_s=NOW_S)} == set(FOLDERS)
    assert _left(tmp_path) == set()
    assert (tmp_path / "cache" / "s3").is_dir()
    assert not list(tmp_path.rglob("file"))


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    # Given folders of which one was touched, and a run that has just written to its curve
    _made(tmp_path)
    touch(tmp_path / FOLDERS[3])
    curve = tmp_path / FOLDERS[0] / "inside" / "file"
    os.utime(curve, (NOW_S - 60, NOW_S - 60))
    # When the host is swept, then both stay
    clean_scratch(tmp_path, now_s=NOW_S)
    assert _left(tmp_path) == {FOLDERS[0], FOLDERS[3]}


def test_a_host_that_has_trained_nothing_has_nothing_to_sweep(tmp_path: Path) -> None:
    assert clean_scratch(tmp_path / "none", now_s=NOW_S) == []
    touch(tmp_path / "none")
