"""A dataset in S3 becomes a folder on this host: from permitted places, of a bounded size, or not at all."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="train jobs need torch: `make setup-tests`")

from engines.train.errors import DatasetProblem, VolumeFull
from infra.artifacts import ArtifactStore, ArtifactStoreUnavailable
from ledger import Kind, Ledger, TrainJob
from ledger.decisions import Receipt, RunInhouse
from ledger.outcomes import Placed
from overspill.dev.s3_service import S3Service
from tests.integration.workers.conftest import RecordingNudger, settings_for
from tests.support.image_sets import in_folder, in_tar, plain, two_classes
from tests.support.settings import changed
from workers.inhouse import run_next
from workers.resources import Resources
from workers.training import datasets
from workers.training.datasets import check_bucket, fetch_dataset, resolve_dataset
from workers.training.onmodal import TrainOnModal

TINY: dict[str, Any] = {"recipe": "image_classifier", "steps": 1, "batch_size": 2, "width": 4, "depth": 1}


@pytest.fixture
def trainer(ledger: Ledger, s3: S3Service, tmp_path: Path) -> Resources:
    values = settings_for(ledger, s3, train_engine="torch", train_folder=str(tmp_path / "train"), train_threads=1)
    nudger = RecordingNudger()
    return Resources(values, ledger, ArtifactStore(values), nudger)  # type: ignore[arg-type]  # the port's one method


def _put(trainer: Resources, prefix: str, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        trainer.artifacts.client.put_object(Bucket=trainer.artifacts.bucket, Key=f"{prefix}{name}", Body=content)
    return f"s3://{trainer.artifacts.bucket}/{prefix.rstrip('/')}"


def _place(ledger: Ledger, **fields: Any) -> str:
    job_id = ledger.jobs.submit(TrainJob.model_validate({**TINY, **fields}), source="client").job_id
    (claimed,) = ledger.placement.claim_queued(Kind.TRAIN, limit=1, lease_s=10)
    receipt = Receipt("test", "test", "test")
    assert isinstance(ledger.placement.place(claimed, RunInhouse(), receipt=receipt), Placed)
    return job_id


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("key", ["pets#2", "pets?v=2", "pets%202", "pets;2", "pets 2", "pets[2]", "pets&x=2"])
def test_the_data_of_a_key_with_odd_letters_are_those_of_that_key(trainer: Resources, tmp_path: Path, key: str) -> None:
    # Given two data sets side by side, in folders and as archives: one with a letter that means something in a URL
    _put(trainer, "odd/pets/", {"wrong/1.png": plain()})
    _put(trainer, "odd/", {"pets.tar": b"wrong"})
    folder = _put(trainer, f"odd/{key}/", two_classes())
    content = in_tar(tmp_path / "a.tar", two_classes(), "w:").read_bytes()
    archive = _put(trainer, "odd/", {f"{key}.tar": content}).removesuffix("/odd") + f"/odd/{key}.tar"
    # Then each address gives its own
    assert _files(fetch_dataset(trainer.artifacts, folder, tmp_path / "cache")) == set(two_classes())
    assert fetch_dataset(trainer.artifacts, archive, tmp_path / "cache").read_bytes() == content


def test_what_only_begins_with_the_same_letters_is_not_listed(trainer: Resources, tmp_path: Path) -> None:
    address = _put(trainer, "same/pets/", two_classes())
    _put(trainer, "same/", {"pets2/cat/1.png": plain(), "pets.txt": b"x", "pets": b""})
    found = fetch_dataset(trainer.artifacts, address, tmp_path / "cache")
    assert _files(found) == set(two_classes())


def test_empty_objects_that_mark_folders_are_no_files(trainer: Resources, tmp_path: Path) -> None:
    address = _put(trainer, "marked/", {**two_classes(), "dark": b"", "light/": b"", "": b""})
    assert _files(fetch_dataset(trainer.artifacts, address, tmp_path / "cache")) == set(two_classes())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dark", "an object and a folder"),
        ("dark/1.png/more", "an object and a folder"),
        (f"dark/{'x' * 300}.png", "more than 255 bytes"),
        (f"dark/{'é' * 200}.png", "more than 255 bytes"),
        ("/".join(["x" * 90] * 40), "more than 3000 bytes"),
        ("dark//1.png", "the same file"),
        ("dark/./1.png", "the same file"),
        ("dark/../../1.png", "leads elsewhere"),
    ],
)
def test_a_key_that_is_no_file_s_name_is_a_problem_of_the_dataset(
    trainer: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    # Given a listing with such a key, which not every S3 service takes
    whole = {**two_classes(), name: b"x"}
    listing = [datasets._Object(f"names/{key}", "etag", len(content)) for key, content in whole.items()]
    monkeypatch.setattr(datasets, "_listed", lambda *_: listing)
    address = f"s3://{trainer.artifacts.bucket}/names"
    # Then the set is refused by that name, and nothing is fetched
    with pytest.raises(DatasetProblem, match=said) as caught:
        fetch_dataset(trainer.artifacts, address, tmp_path / "cache")
    assert caught.value.flaw == "bad_name"
    assert not list((tmp_path / "cache").rglob("*"))


def test_a_set_that_is_too_large_is_refused_before_anything_is_fetched(
    trainer: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = _put(trainer, "large/", two_classes())
    size_bytes = sum(map(len, two_classes().values()))
    monkeypatch.setattr(datasets, "_download", lambda *_: pytest.fail("fetched"))
    with pytest.raises(DatasetProblem) as caught:
        fetch_dataset(trainer.artifacts, address, tmp_path, most_bytes=size_bytes - 1)
    assert caught.value.flaw == "too_large"
    # And so is one that this host has no space for
    monkeypatch.setattr(datasets, "free_bytes", lambda _: size_bytes - 1)
    with pytest.raises(VolumeFull) as full:
        fetch_dataset(trainer.artifacts, address, tmp_path, most_bytes=size_bytes)
    assert full.value.needed_bytes == size_bytes


def test_more_objects_than_a_set_may_have_are_refused(
    trainer: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MOST_FILES", 3)
    with pytest.raises(DatasetProblem) as caught:
        fetch_dataset(trainer.artifacts, _put(trainer, "many/", two_classes()), tmp_path)
    assert caught.value.flaw == "too_large"


@pytest.mark.parametrize("change", [b"", b"x" * 100_000])
def test_an_object_that_is_replaced_while_it_is_fetched_is_listed_anew(
    trainer: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: bytes
) -> None:
    # Given an object that is another one, larger or smaller, by the time that it is fetched
    address = _put(trainer, f"changed/{len(change)}/", two_classes())
    whole = datasets._listed

    def listed(*given: Any) -> Any:
        found = whole(*given)
        _put(trainer, f"changed/{len(change)}/", {"dark/1.png": change})
        return found

    monkeypatch.setattr(datasets, "_listed", listed)
    with pytest.raises(ArtifactStoreUnavailable, match="it was changed"):
        fetch_dataset(trainer.artifacts, address, tmp_path)
    assert not list(tmp_path.rglob("*.png"))
    # Then another try has it as it is now
    assert (fetch_dataset(trainer.artifacts, address, tmp_path) / "dark" / "1.png").read_bytes() == change


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_meanwhile_is_a_volume_that_is_full(
    trainer: Resources, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def write(*_: object) -> int:
        raise OSError(number, "no space")

    monkeypatch.setattr(datasets._Bounded, "write", write)
    job_id = _place(ledger, dataset=_put(trainer, "full/", two_classes()))
    run_next(trainer, Kind.TRAIN, worker="w")
    attempt = ledger.jobs.attempt(job_id, 1)
    assert attempt["outcome"] == "volume_full"
    assert not list((trainer.settings.train.folder / "cache" / "s3").iterdir())


@pytest.mark.parametrize(
    "dataset",
    [
        "s3://secrets/pets", "s3://overspill-backup", "/dev/zero", "/etc", "/proc/self/fd/0", "../datasets2/x",
        "s3://{own}/render/job/1", "s3://{own}/train/job/1", "s3://{own}", "s3://{own}/pets/../render",
    ],
)  # fmt: skip
def test_a_job_may_not_name_a_place_that_is_not_permitted(trainer: Resources, ledger: Ledger, dataset: str) -> None:
    # Given a job of a tenant that names another bucket, what other tenants' jobs have left, or a path of the host
    job_id = _place(ledger, dataset=dataset.format(own=trainer.artifacts.bucket))
    # When it is its turn, then it ends at once, by the name of its dataset
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "failed"
    record = ledger.jobs.get(job_id)
    assert record.error_code == "dataset_problem"
    assert "may not be read from there" in (record.error_message or "")


def test_settings_say_what_is_permitted(ledger: Ledger, s3: S3Service, tmp_path: Path) -> None:
    def permits(dataset: str, **fields: object) -> bool:
        values = settings_for(ledger, s3, train_folder=str(tmp_path), **fields)
        try:
            check_bucket(values, dataset)
        except DatasetProblem:
            return False
        return True

    own = settings_for(ledger, s3).s3.bucket
    # Unset: the artifacts' bucket and the one that the trainer on Modal mounts
    assert permits(f"s3://{own}/sets/pets")
    assert not permits("s3://pictures/pets")
    assert permits("s3://pictures/pets", modal_data_bucket="pictures")
    # Set: only those, and never what jobs have left
    only = {"train_data_buckets": json.loads('["public", "s3://part/pets"]'), "modal_data_bucket": "pictures"}
    assert [permits(f"s3://{one}", **only) for one in ("public/a", "part/pets/b")] == [True, True]
    assert [permits(f"s3://{one}", **only) for one in ("part/c", "pictures/d", f"{own}/e")] == [False] * 3
    assert not permits(f"s3://{own}/render/x", train_data_buckets=[own])
    assert not permits("s3://public", train_data_buckets=[])


def test_a_path_below_a_root_is_trained_on(trainer: Resources, ledger: Ledger, s3: S3Service, tmp_path: Path) -> None:
    # Given a data set where they lie unless a setting says otherwise, and one where a setting says
    in_folder(trainer.settings.train.folder / "datasets" / "pets", two_classes())
    elsewhere = in_folder(tmp_path / "elsewhere" / "pets", two_classes())
    values = settings_for(ledger, s3, train_folder=str(tmp_path), train_data_roots=[str(elsewhere.parent)])
    # Then a job may name it, in full or by its name
    for named in ("pets", str(trainer.settings.train.folder / "datasets" / "pets")):
        found = resolve_dataset(trainer.settings, trainer.artifacts, named, tmp_path / "cache")
        assert found == trainer.settings.train.folder / "datasets" / "pets"
    assert resolve_dataset(values, trainer.artifacts, "pets", tmp_path / "cache") == elsewhere
    job_id = _place(ledger, dataset="pets")
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "completed", ledger.jobs.get(job_id).error_message


def test_a_job_on_modal_may_name_no_other_places(trainer: Resources, ledger: Ledger) -> None:
    values = changed(trainer.settings, modal_data_bucket="pictures", train_data_buckets=("public",))
    job_id = _place(ledger, dataset="s3://pictures/pets")
    with pytest.raises(DatasetProblem) as caught:
        TrainOnModal(Resources(values, ledger, trainer.artifacts, trainer.nudger)).prepare(ledger.jobs.get(job_id))
    assert caught.value.flaw == "not_permitted"


def test_what_is_left_out_is_told_to_whoever_watches_the_job(trainer: Resources, ledger: Ledger) -> None:
    address = _put(trainer, "left/", {**two_classes(), "dark/1.heic": b"x"})
    job_id = _place(ledger, dataset=address)
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "completed"
    (warning,) = [row["message"] for row in ledger.attempts.training_rows(job_id) if row["kind"] == "warning"]
    assert "dark/1.heic" in warning
