"""Where a retired job may have files on the volume is told by its id alone: the record is gone."""

import datetime as dt

import pytest

from engines.train.contract import TrainConfig
from ledger import Kind
from ledger.models import new_job_id
from modal_apps.training_request import folder_on_volume
from workers.maintenance.pruning import folders_of


def _id(made: dt.datetime) -> str:
    return new_job_id(Kind.TRAIN, int(made.timestamp() * 1000), bytes(10))


@pytest.mark.parametrize("recipe", ["image_classifier", "diffusion_transformer"])
@pytest.mark.parametrize("apart_s", [-1800, 0, 1800])
def test_the_folder_that_a_job_had_is_among_those_that_are_removed(recipe: str, apart_s: int) -> None:
    # Given a job that was made around midnight, by a clock half an hour from the ledger's at most
    created = dt.datetime(2026, 11, 22, 0, 10, tzinfo=dt.UTC)
    job_id = _id(created + dt.timedelta(seconds=apart_s))
    # Then its folder is removed, and what it left as a judge
    assert folder_on_volume(TrainConfig(recipe=recipe), created.date(), job_id) in folders_of(job_id)
    assert f"classifiers/{job_id}" in folders_of(job_id)


def test_only_a_job_of_ours_has_a_folder_and_by_day_it_is_one_for_each_recipe() -> None:
    assert folders_of("hand-0123456789ab") == folders_of("video_" + "0" * 32) == ()
    assert len(folders_of(_id(dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)))) == 3
