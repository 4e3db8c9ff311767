"""An address in S3 is a bucket and a key, letter by letter; and which of them, and which paths, a job may name."""

from pathlib import Path

import pytest

from engines.train.contract import TrainConfig
from engines.train.data.addresses import below_mount, below_roots, check_permitted, is_in_s3, place_in_bucket
from engines.train.errors import DatasetProblem
from modal_apps.training_request import TrainRequest, data_on_modal
from modal_apps.training_run import data_of

KEYS = ["pets#2", "pets?v=2", "pets;a", "pets%20x", "a b", "pets#2/cats?", "#", "?", "pets[1]", "pets&a=b", "tab\there"]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_taken_letter_by_letter(tmp_path: Path, key: str) -> None:
    # Given a key with letters that mean something in a URL, for archives and for prefixes
    for whole in (key, f"{key}.tar.gz"):
        address = f"s3://datasets/{whole}"
        # Then it is that very key in S3, and that very place below Modal's mount
        assert is_in_s3(address)
        assert place_in_bucket(address) == ("datasets", whole)
        assert below_mount(address, "datasets") == data_on_modal(address, "datasets") == whole
        request = TrainRequest(
            config=TrainConfig(recipe="image_classifier", dataset=address),
            job="j",
            folder="f",
            data=data_on_modal(address, "datasets"),
        )
        assert data_of(TrainRequest.from_wire(request.to_wire()), tmp_path) == tmp_path / whole


@pytest.mark.parametrize(
    ("address", "bucket", "key"),
    [
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("S3://b/c/", "b", "c"),
        ("s3://[b/c", "[b", "c"),
        ("s3://u:p@b/c", "u:p@b", "c"),
        ("s3://b#c/d", "b#c", "d"),
    ],
)
def test_what_stands_before_the_first_slash_is_the_bucket(address: str, bucket: str, key: str) -> None:
    assert is_in_s3(address)
    assert place_in_bucket(address) == (bucket, key)


@pytest.mark.parametrize(
    "address", ["s3://b/c", "s3://b/c/", "s3://b/rendered", "s3://part/pets", "s3://part/pets/cats#2"]
)
def test_a_permitted_place_and_what_is_below_it_may_be_named(address: str) -> None:
    check_permitted(address, ["b", "part/pets"], reserved=["b/render"])


@pytest.mark.parametrize(
    "address",
    [
        "s3://other/c", "s3://b2/c", "s3://part", "s3://part/petshop", "s3://part/pets/../secrets", "s3:///b/c",
        "s3://./b/c", "s3://../b", "s3://whole/render", "s3://whole/render/job/1", "s3://whole", "s3://whole/./train/j",
        "s3://whole//render/job",
    ],
)  # fmt: skip
def test_no_other_place_may_be_named(address: str) -> None:
    with pytest.raises(DatasetProblem) as caught:
        check_permitted(address, ["b", "part/pets", "whole"], reserved=["whole/render", "whole/train"])
    assert caught.value.flaw == "not_permitted"


def test_a_path_below_a_root_may_be_named_and_a_relative_one_is_looked_for_in_each(tmp_path: Path) -> None:
    for place in ("one/cats", "two/dogs"):
        (tmp_path / place).mkdir(parents=True)
    roots = [tmp_path / "one", tmp_path / "two"]
    assert below_roots(str(tmp_path / "one" / "cats"), roots) == tmp_path / "one" / "cats"
    assert below_roots("dogs", roots) == tmp_path / "two" / "dogs"
    assert below_roots("nowhere", roots) == tmp_path / "one" / "nowhere"


@pytest.mark.parametrize(
    "path", ["/dev/zero", "/", "/proc/self/fd", "../secret", "link", "one/../../secret", "/etc/passwd"]
)
def test_a_path_that_leads_out_of_its_root_may_not_be_named(tmp_path: Path, path: str) -> None:
    # Given a root with a link that leads out
    root = tmp_path / "root"
    (tmp_path / "secret").mkdir()
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    # Then nothing outside is reached, and whether it is there is not told
    with pytest.raises(DatasetProblem) as caught:
        below_roots(path, [root])
    assert caught.value.flaw == "not_permitted"
    with pytest.raises(DatasetProblem) as absent:
        below_roots("../absent", [root])
    assert absent.value.cause == caught.value.cause


@pytest.mark.parametrize(
    "path", ["/overspill/../dev/zero", "/overspill/cache/../../proc", "/overspillx/a", "/dev/zero"]
)
def test_a_path_in_a_container_stays_on_its_volumes(path: str) -> None:
    with pytest.raises(DatasetProblem, match="no disk of ours"):
        data_on_modal(path, "datasets")
