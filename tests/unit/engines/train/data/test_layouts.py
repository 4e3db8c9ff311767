"""Which folders are classes and which are splits, in the layouts that people have; the others are refused."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from engines.train.data import chosen
from engines.train.data.layout import Ambiguous, Role, layout_of
from engines.train.errors import DatasetProblem
from tests.support.image_sets import packed, pictures_of, plain, prepare, two_classes


def _placed(*folders: str) -> dict[str, tuple[str | None, Role | None] | None]:
    rows = {tuple(one.split("/")): 3 for one in folders}
    layout = layout_of(rows)
    places = {"/".join(row): layout.place_of(row) for row in rows}
    return {name: (place.label, place.role) if place else None for name, place in places.items()}


def _classes(*folders: str) -> dict[str, str | None]:
    return {name: place[0] if place else None for name, place in _placed(*folders).items()}


@pytest.mark.parametrize(
    "classes",
    [
        {"cat": "cat", "dog": "dog"},
        {"pets/cat": "cat", "pets/dog": "dog"},
        {"a/b/c/cat": "cat", "a/b/c/dog": "dog"},
        {"cat/2023": "cat", "cat/2024": "cat", "dog/2023": "dog"},
        {"cat/images": "cat", "dog/images": "dog"},
        {"cat/x/1": "cat", "cat/y/1": "cat", "dog/x/1": "dog"},
        {"pets/cat/left": "cat", "pets/dog/left": "dog"},
        {"train": "train", "plane": "plane", "ship": "ship"},
    ],
    ids=" ".join,
)
def test_the_classes_are_found_at_their_depth(classes: dict[str, str]) -> None:
    assert _classes(*classes) == classes


@pytest.mark.parametrize(
    ("folders", "role"),
    [
        (("train/cat", "train/dog", "val/cat", "test/dog"), Role.TEST),
        (("Training/cat", "Training/dog", "Validation/dog"), Role.VALIDATION),
        (("cat/train", "dog/train", "cat/test", "dog/test"), Role.TEST),
        (("pets/train/cat", "pets/train/dog", "pets/dev/dog"), Role.VALIDATION),
        (("train/images/cat", "train/images/dog", "test/images/dog"), Role.TEST),
        (("train/cat/2023", "train/dog/2023", "eval/dog/2023"), Role.TEST),
    ],
    ids=lambda folders: " ".join(folders) if isinstance(folders, tuple) else None,
)
def test_splits_are_no_classes(folders: tuple[str, ...], role: Role) -> None:
    placed = _placed(*folders)
    assert {place[0] for place in placed.values() if place} == {"cat", "dog"}
    assert placed[folders[0]] == ("cat", Role.TRAIN)
    assert placed[folders[-1]] == ("dog", role)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("cat", "cat/2023", "dog"), "several depths"),
        (("cat", "pets/dog"), "several depths"),
        (("cat/2023", "dog/2024"), "outer folders or the inner"),
        (("animals/cat", "animals/dog", "vehicles/car"), "outer folders or the inner"),
        (("train", "test"), "no class"),
        (("train/cat", "train/dog", "extra/cat"), "some are not"),
        (("val/cat", "val/dog", "test/cat"), "to learn from"),
        (("train/cat", "train/a/dog", "val/cat"), "several depths"),
    ],
    ids=lambda folders: " ".join(folders) if isinstance(folders, tuple) else None,
)
def test_a_layout_that_may_mean_two_things_is_refused_with_what_was_found(folders: tuple[str, ...], said: str) -> None:
    with pytest.raises(Ambiguous, match=said) as caught:
        _placed(*folders)
    assert all(f"{folder}/ (3)" in str(caught.value) for folder in folders)


@pytest.mark.parametrize("kind", ["folder", "tar.gz", "zip"])
def test_parts_of_a_class_are_one_class_and_a_doubt_is_a_problem_of_the_dataset(tmp_path: Path, kind: str) -> None:
    files = {f"{label}/{year}/{n}.png": plain() for label in ("cat", "dog") for year in (2023, 2024) for n in (1, 2)}
    made = prepare(packed(tmp_path / "sound", files, kind), tmp_path / "cache")
    assert made.classes == ("cat", "dog")
    assert len(pictures_of(made)) == 8
    with pytest.raises(DatasetProblem) as caught:
        prepare(packed(tmp_path / "doubtful", {**files, "cat/9.png": plain()}, kind), tmp_path / "cache")
    assert caught.value.flaw == "layout"
    assert "cat/ (1)" in caught.value.cause
    assert "cat/2023/ (2)" in caught.value.cause


def _splits(*names: str) -> dict[str, bytes]:
    """Each split of a level of its own."""
    return {
        f"{name}/{label}/{number}.png": plain((40 * at, 0, 0))
        for at, name in enumerate(names, start=1)
        for label in ("cat", "dog")
        for number in range(3)
    }


@pytest.mark.parametrize("kind", ["folder", "tar.gz", "zip"])
def test_nothing_of_val_or_test_is_trained_on(tmp_path: Path, kind: str) -> None:
    # Given all three splits: val is held out, test is for neither and named
    made = prepare(packed(tmp_path / "three", _splits("train", "val", "test"), kind), tmp_path / "cache")
    assert made.classes == ("cat", "dog")
    assert (set(made.train.pictures[..., 0].flat), len(made.train)) == ({40}, 6)
    assert (set(made.evaluation.pictures[..., 0].flat), len(made.evaluation)) == ({80}, 6)
    assert len(made.notes) == 1
    assert "pictures of the test split, as there is one to validate with (6)" in made.notes[0]
    # Given no val, then test is held out; given train alone, then a tenth of it
    made = prepare(packed(tmp_path / "two", _splits("train", "test"), kind), tmp_path / "cache")
    assert (set(made.train.pictures[..., 0].flat), set(made.evaluation.pictures[..., 0].flat)) == ({40}, {80})
    made = prepare(packed(tmp_path / "one", _splits("train"), kind), tmp_path / "cache")
    assert (len(made.train), len(made.evaluation), made.notes) == (4, 2, ())


def test_test_pictures_of_no_class_are_left_out_and_named(tmp_path: Path) -> None:
    files = {**_splits("train"), "test/1.png": plain(), "test/2.png": plain()}
    made = prepare(packed(tmp_path / "set", files, "folder"), tmp_path / "cache")
    assert (made.classes, len(pictures_of(made))) == (("cat", "dog"), 6)
    assert made.notes == ("left out of the data set: pictures in no class's folder (2): test/1.png, test/2.png",)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_is_not_learnt_is_refused(tmp_path: Path, split: str) -> None:
    files = {**_splits("train", "val", "test"), f"{split}/fox/1.png": plain()}
    with pytest.raises(DatasetProblem) as caught:
        prepare(packed(tmp_path / "set", files, "folder"), tmp_path / "cache")
    assert (caught.value.flaw, caught.value.name) == ("layout", "fox")
    assert split in caught.value.cause


@pytest.mark.parametrize("kind", ["folder", "tar.gz", "zip"])
@pytest.mark.parametrize("word", ["café", "naïve", "Ångström", "한국"])
def test_one_name_is_one_class_however_it_is_composed(tmp_path: Path, kind: str, word: str) -> None:
    # Given a class that two systems have written, each in its own form of Unicode
    names = [unicodedata.normalize(form, word) for form in ("NFC", "NFD")]
    assert names[0] != names[1]
    files = {f"{name}/{number}.png": plain() for name in names for number in range(2)}
    # When it is prepared with another one
    made = prepare(
        packed(tmp_path / "set", {**files, "zoo/1.png": plain(), "zoo/2.png": plain()}, kind), tmp_path / "c"
    )
    # Then it is one class, with the pictures of both
    assert set(made.classes) == {names[0], "zoo"}
    assert len(pictures_of(made)) == 6


def test_a_set_does_not_depend_on_how_it_was_packed(tmp_path: Path) -> None:
    # Given the same pictures in a folder, and in archives whose order is another one
    files = two_classes(25)
    other_order = dict(reversed(files.items()))
    made = [
        prepare(packed(tmp_path / kind, files if kind == "folder" else other_order, kind), tmp_path / f"cache-{kind}")
        for kind in ("folder", "tar", "tar.gz", "zip")
    ]
    # Then the same are learnt from, in the same order
    for one in made[1:]:
        assert np.array_equal(pictures_of(one), pictures_of(made[0]))
        assert np.array_equal(one.train.labels, made[0].train.labels)
    assert [chosen.is_for_evaluation(position) for position in range(25)].count(True) * 2 == len(made[0].evaluation)


def test_a_zip_of_windows_is_read(tmp_path: Path) -> None:
    path = packed(tmp_path / "set", {name.replace("/", "+"): one for name, one in two_classes().items()}, "zip")
    content = bytearray(path.read_bytes().replace(b"dark+", b"dark\\").replace(b"light+", b"light\\"))
    for at in range(len(content)):
        if content.startswith(b"PK\x01\x02", at):
            content[at + 5] = 0  # made on FAT
    path.write_bytes(content)
    assert prepare(path, tmp_path / "cache").classes == ("dark", "light")


def test_names_that_are_no_text_are_taken(tmp_path: Path) -> None:
    source = packed(tmp_path / "set", two_classes(), "folder")
    odd = os.fsencode(source / "light") + b"/\xff\xfe.png"
    Path(os.fsdecode(odd)).write_bytes(b"no picture")
    with pytest.raises(DatasetProblem) as caught:
        prepare(source, tmp_path / "cache")
    # And what is said of them is text, which a ledger can keep
    str(caught.value).encode()
    assert caught.value.flaw == "bad_image"
    Path(os.fsdecode(odd)).write_bytes(plain())
    assert len(pictures_of(prepare(source, tmp_path / "cache"))) == 9
