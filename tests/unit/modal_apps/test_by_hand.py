"""A training run by hand: what is refused before a call, and the folder in which the same run goes on."""

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from engines.train.contract import TrainConfig
from modal_apps.by_hand import WRONG_USAGE, run_by_hand
from modal_apps.images import CACHE_PATH
from modal_apps.training_request import TrainRequest, by_hand, data_on_modal
from modal_apps.training_run import on_its_day

CONFIG = TrainConfig(recipe="image_classifier", steps=1000, batch_size=72)
YESTERDAY, TODAY = dt.date(2026, 11, 21), dt.date(2026, 11, 22)


@pytest.mark.parametrize(
    ("action", "fields", "gpu", "said"),
    [
        # Not every count of GPUs is a class of the trainer's: neither in --gpu nor in the config
        ("train", {}, "H100:3", "expected 1, 2, 4 or 8 GPUs"),
        ("smoke", {}, "H100:3", "expected 1, 2, 4 or 8 GPUs"),
        ("train", {"gpus": 3}, "", "got 'gpus = 3'"),
        # A container sees no disk of ours, and no bucket but the mounted one
        ("train", {"dataset": "/data/pets"}, "", "no disk of ours"),
        ("train", {"dataset": "s3://other/pets"}, "", "mounts the bucket pictures, not other (OVERSPILL_MODAL_DATA"),
    ],
)
def test_what_modal_cannot_run_is_refused_before_a_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str, fields: dict[str, Any], gpu: str, said: str
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"recipe": "image_classifier", "batch_size": 72, **fields}))
    code = run_by_hand(
        {}, action=action, config=str(config), gpu=gpu, name="", evaluate_timeout_s=1, data_bucket="pictures"
    )
    assert code == WRONG_USAGE
    assert said in capsys.readouterr().err


def test_what_is_drawn_or_lies_on_a_volume_of_the_trainer_needs_no_bucket() -> None:
    assert data_on_modal("shapes", None) is None
    assert data_on_modal(f"{CACHE_PATH}/pets", None) is None
    assert data_on_modal("s3://pictures/pets/cats", "pictures") == "pets/cats"


def test_a_run_has_the_same_name_whatever_gpus_it_has() -> None:
    one, four = (by_hand(dataclasses.replace(CONFIG, gpus=gpus), day=TODAY).job for gpus in (1, 4))
    assert one == four != by_hand(dataclasses.replace(CONFIG, seed=1), day=TODAY).job


def test_a_run_goes_on_in_the_folder_of_the_day_on_which_it_was_begun(tmp_path: Path) -> None:
    request = by_hand(CONFIG, day=TODAY)
    # Given nothing on the volume, then it is begun today
    assert on_its_day(request, tmp_path) == request
    # Given a run that left checkpoints yesterday, and one of the same name, today, that died before its first
    begun = by_hand(CONFIG, day=YESTERDAY).folder
    (tmp_path / begun / "step-20").mkdir(parents=True)
    (tmp_path / request.folder).mkdir(parents=True)
    # Then it goes on in yesterday's, over the wire too
    found = on_its_day(TrainRequest.from_wire(request.to_wire()), tmp_path)
    assert (found.folder, found.job) == (begun, request.job)
    # And in today's, once that has checkpoints
    (tmp_path / request.folder / "step-40").mkdir()
    assert on_its_day(request, tmp_path).folder == request.folder
    # A job of the ledger's names its day, and says nothing that an older trainer would not know
    job = dataclasses.replace(request, folder=request.folder, any_day=False)
    assert on_its_day(job, tmp_path) == job
    assert "any_day" not in job.to_wire()
