"""Nothing of a data set goes without a word: what is left out is counted and named, a whole class is refused."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from engines.train.data import pictures as one_picture
from engines.train.data import prepared
from engines.train.errors import DatasetProblem
from tests.support.image_sets import encoded, in_folder, packed, pictures_of, plain, prepare, two_classes

_SUFFIXES = {
    "jpg": "JPEG", "JPEG": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "jif": "JPEG", "pjpeg": "JPEG", "mpo": "MPO",
    "png": "PNG", "apng": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "dib": "DIB", "tif": "TIFF",
    "tiff": "TIFF", "avif": "AVIF", "jp2": "JPEG2000", "j2k": "JPEG2000", "jpx": "JPEG2000", "ppm": "PPM",
    "pgm": "PPM", "pnm": "PPM", "tga": "TGA", "TGA": "TGA",
}  # fmt: skip


@pytest.mark.parametrize("suffix", _SUFFIXES)
def test_a_class_of_any_format_that_is_read_is_there(tmp_path: Path, suffix: str) -> None:
    picture = encoded(Image.new("RGB", (16, 16), (200, 10, 10)), _SUFFIXES[suffix])
    files = {**two_classes(), **{f"fox/{number}.{suffix}": picture for number in range(5)}}
    made = prepare(in_folder(tmp_path / "set", files), tmp_path / "cache")
    assert made.classes == ("dark", "fox", "light")
    assert list(made.train.labels).count(1) == 4
    assert made.notes == ()


@pytest.mark.parametrize("suffix", ["heic", "svg", "psd", "cr2", "jxl", "npy", "eps", ""])
@pytest.mark.parametrize("kind", ["folder", "tar.gz", "zip"])
def test_a_class_of_a_format_that_is_not_read_is_refused(tmp_path: Path, suffix: str, kind: str) -> None:
    # Given a class of which no file is read
    names = [f"fox/{number}.{suffix}".rstrip(".") for number in range(5)]
    files = {**two_classes(), **dict.fromkeys(names, b"x")}
    with pytest.raises(DatasetProblem) as caught:
        prepare(packed(tmp_path / "set", files, kind), tmp_path / "cache")
    # Then the refusal names the class, and counts and names its files
    assert (caught.value.flaw, caught.value.name) == ("left_out", "fox")
    assert "files of no format that is read (5)" in caught.value.cause
    assert names[0] in caught.value.cause


@pytest.mark.parametrize("kind", ["folder", "tar.gz", "zip"])
def test_a_part_of_a_class_is_counted_and_named(tmp_path: Path, kind: str) -> None:
    extras = {f"dark/{number}.heic": b"x" for number in range(7)} | {"stray.png": plain(), "light/notes.txt": b"x"}
    made = prepare(packed(tmp_path / "set", two_classes() | extras, kind), tmp_path / "cache")
    assert len(pictures_of(made)) == len(two_classes())
    assert set(made.notes) == {
        (
            "left out of the data set: files of no format that is read (7): dark/0.heic, dark/1.heic, dark/2.heic, "
            "dark/3.heic, dark/4.heic and 2 more"
        ),
        "left out of the data set: pictures in no class's folder (1): stray.png",
        "left out of the data set: files that are no pictures (1): light/notes.txt",
    }
    # And it is said of a set that is in the cache, too
    assert prepare(packed(tmp_path / "set", two_classes() | extras, kind), tmp_path / "cache").notes == made.notes


def test_what_an_operating_system_leaves_is_passed_over_in_silence(tmp_path: Path) -> None:
    litter = ["dark/.DS_Store", "dark/._1.png", "light/Thumbs.db", "__MACOSX/dark/1.png", "light/desktop.ini"]
    made = prepare(in_folder(tmp_path / "set", two_classes() | dict.fromkeys(litter, b"x")), tmp_path / "cache")
    assert (made.classes, made.notes) == (("dark", "light"), ())


@pytest.mark.parametrize("name", ["__bg__", "__init__", "_other", "0", "n01440764", "a.b", "class.png", "-x", "Ünï"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_class_may_have_any_name_that_is_not_hidden(tmp_path: Path, name: str, kind: str) -> None:
    files = {**two_classes(), f"{name}/1.png": plain(), f"{name}/2.png": plain()}
    made = prepare(packed(tmp_path / "set", files, kind), tmp_path / "cache")
    assert name in made.classes
    assert made.notes == ()


def test_a_hidden_folder_is_no_class_and_is_named(tmp_path: Path) -> None:
    made = prepare(in_folder(tmp_path / "set", two_classes() | {".thumbs/1.png": plain()}), tmp_path / "cache")
    assert made.classes == ("dark", "light")
    assert ".thumbs/1.png" in made.notes[0]


def _linked_class(source: Path) -> None:
    in_folder(source.parent / "elsewhere", {"1.png": plain(), "2.png": plain()})
    (source / "fox").symlink_to(source.parent / "elsewhere", target_is_directory=True)


def _linked_pictures(source: Path) -> None:
    in_folder(source.parent / "elsewhere", {"1.png": plain(), "2.png": plain()})
    (source / "fox").mkdir()
    for name in ("1.png", "2.png"):
        (source / "fox" / name).symlink_to(source.parent / "elsewhere" / name)


@pytest.mark.parametrize("make", [_linked_class, _linked_pictures])
def test_a_class_of_links_is_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    source = in_folder(tmp_path / "set", two_classes())
    make(source)
    assert prepare(source, tmp_path / "cache").classes == ("dark", "fox", "light")
    # And where data sets may lie in one place only, it is read below that
    assert prepare(source, tmp_path / "cache", roots=[tmp_path]).classes == ("dark", "fox", "light")


def _dangling_class(source: Path) -> None:
    (source / "fox").symlink_to(source / "gone")


def _dangling_pictures(source: Path) -> None:
    (source / "fox").mkdir()
    for number in range(3):
        (source / "fox" / f"{number}.png").symlink_to(source / "gone.png")


def _empty_class(source: Path) -> None:
    (source / "fox").mkdir()


def _loop(source: Path) -> None:
    (source / "fox").mkdir()
    (source / "fox" / "again").symlink_to(source, target_is_directory=True)


def _ring(source: Path) -> None:
    (source / "fox").symlink_to(source / "wolf")
    (source / "wolf").symlink_to(source / "fox")


def _fifos(source: Path) -> None:
    (source / "fox").mkdir()
    os.mkfifo(source / "fox" / "1.png")


def _linked_out(source: Path) -> None:
    in_folder(source.parent / "secret", {"1.png": plain(), "2.png": plain()})
    (source / "fox").symlink_to(source.parent / "secret", target_is_directory=True)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_dangling_class, "not there"),
        (_dangling_pictures, "links to what is not there (3)"),
        (_empty_class, "without a file"),
        (_loop, "lead back"),
        (_ring, "not there"),
        (_fifos, "a FIFO"),
        (_linked_out, "lead out"),
    ],
)
def test_a_class_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    source = in_folder(tmp_path / "set", two_classes())
    make(source)
    with pytest.raises(DatasetProblem) as caught:
        prepare(source, tmp_path / "cache", roots=[source])
    assert (caught.value.flaw, caught.value.name) == ("left_out", "fox")
    assert said in caught.value.cause


def test_a_folder_that_may_not_be_listed_is_no_folder_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = in_folder(tmp_path / "set", two_classes() | {"fox/1.png": plain(), "fox/2.png": plain()})
    whole = os.scandir

    def refusing(folder: Path) -> object:
        if folder.name == "fox":
            raise PermissionError(13, "Permission denied", str(folder))
        return whole(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DatasetProblem) as caught:
        prepare(source, tmp_path / "cache")
    assert (caught.value.flaw, caught.value.name) == ("left_out", "fox")


@pytest.mark.parametrize("make", [_dangling_pictures, _fifos, _loop])
def test_what_cannot_be_read_beside_pictures_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    source = in_folder(tmp_path / "set", two_classes())
    make(source)
    in_folder(source, {"fox/8.png": plain(), "fox/9.png": plain()})
    made = prepare(source, tmp_path / "cache")
    assert made.classes == ("dark", "fox", "light")
    assert len(made.notes) == 1
    assert "fox/" in made.notes[0]


@pytest.mark.parametrize("type_", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_class_of_an_archive_that_holds_no_regular_file_is_refused(tmp_path: Path, type_: bytes) -> None:
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in two_classes().items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        special = tarfile.TarInfo("fox/1.png")
        special.type, special.linkname = type_, "dark/1.png"
        tar.addfile(special)
    with pytest.raises(DatasetProblem) as caught:
        prepare(path, tmp_path / "cache")
    assert (caught.value.flaw, caught.value.name) == ("left_out", "fox")


def test_of_two_files_with_one_name_the_later_one_counts_and_the_other_is_named(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in [*two_classes().items(), ("dark/1.png", plain((90, 90, 90)))]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    made = prepare(path, tmp_path / "cache")
    assert len(pictures_of(made)) == 8
    assert 90 in pictures_of(made)
    assert "files of which a later one has the same name (1): dark/1.png" in made.notes[0]


def test_a_set_that_older_code_has_prepared_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a set that another version of the code has prepared
    source = in_folder(tmp_path / "set", two_classes())
    monkeypatch.setattr(one_picture, "VERSION", one_picture.VERSION - 1)
    prepare(source, tmp_path / "cache")
    (old,) = (tmp_path / "cache").iterdir()
    monkeypatch.undo()
    # When this one prepares it, then both lie side by side, and the second time nothing is made
    prepare(source, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    monkeypatch.setattr(prepared, "_make", lambda *_: pytest.fail("made again"))
    prepare(source, tmp_path / "cache")
    assert old.exists()


def test_moving_a_file_to_another_class_makes_another_set(tmp_path: Path) -> None:
    source = in_folder(tmp_path / "set", {**two_classes(), "light/9.png": plain()})
    first = prepare(source, tmp_path / "cache")
    (source / "light" / "9.png").rename(source / "dark" / "9.png")
    second = prepare(source, tmp_path / "cache")
    assert list(first.train.labels) != list(second.train.labels)
