"""Any source becomes one prepared set, once; the order of examples is a function of seed and step."""

import errno
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.train.data import budget, images, order, prepared, shapes, sources
from engines.train.errors import DatasetAway, DatasetProblem


def _png(colour: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (12, 9), colour).save(out, "PNG")
    return out.getvalue()


def _pictures() -> dict[str, bytes]:
    return {
        f"{label}/{number}.png": _png((level + number, level, level))
        for label, level in (("dark", 20), ("light", 200))
        for number in range(4)
    }


def _folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def _tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # one of its modes
        for name, content in files.items():
            info = tarfile.TarInfo(f"pictures/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"pictures/{name}", content)
    return path


def _prepare(dataset: str, cache: Path, data: Path | None = None) -> prepared.PreparedSet:
    return prepared.prepare(dataset=dataset, data=data, cache=cache, side_px=8, threads=1)


@pytest.mark.parametrize("kind", ["folder", "tar", "zip", "address"])
def test_a_folder_a_tar_a_zip_and_a_resolved_address_give_the_same_set(tmp_path: Path, kind: str) -> None:
    # Given the same pictures, packed one way or the other
    data = None
    match kind:
        case "folder":
            source = _folder(tmp_path / "source", _pictures())
        case "tar":
            source = _tar(tmp_path / "source.tar.gz", _pictures())
        case "zip":
            source = _zip(tmp_path / "source.zip", _pictures())
        case _:
            data = source = _folder(tmp_path / "mounted", _pictures())
    # When they are prepared
    found = _prepare("s3://bucket/pictures" if data else str(source), tmp_path / "cache", data)
    # Then classes, sizes and colours are theirs, and each class is in both parts
    assert found.classes == ("dark", "light")
    assert found.train.pictures.shape == (6, 8, 8, 3)
    assert list(found.evaluation.labels) == [0, 1]
    assert (
        found.train.pictures[found.train.labels == 0].max() < 30 < found.train.pictures[found.train.labels == 1].min()
    )


def test_what_is_no_image_of_a_class_is_passed_over(tmp_path: Path) -> None:
    extras = {"dark/notes.txt": b"x", "__MACOSX/dark/1.png": b"x", "dark/.hidden.png": b"x", "stray.png": b"x"}
    found = _prepare(str(_folder(tmp_path / "source", _pictures() | extras)), tmp_path / "cache")
    assert len(found.train) + len(found.evaluation) == len(_pictures())


@pytest.mark.parametrize(
    ("files", "flaw", "name"),
    [
        ({}, "empty", ""),
        ({"dark/notes.txt": b"x"}, "empty", ""),
        ({"dark/1.png": _png((1, 1, 1)), "dark/2.png": _png((2, 2, 2))}, "one_class", "dark"),
        ({"a/1.png": _png((1, 1, 1)), "a/2.png": _png((2, 2, 2)), "b/1.png": _png((3, 3, 3))}, "too_small", "b"),
        (_pictures() | {"light/2.png": _png((9, 9, 9))[:-25]}, "bad_image", "light/2.png"),
        (_pictures() | {"light/2.jpg": b""}, "bad_image", "light/2.jpg"),
    ],
    ids=["empty", "no images", "one class", "one image", "truncated", "zero bytes"],
)
def test_a_bad_set_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, files: dict[str, bytes], flaw: str, name: str
) -> None:
    # Given such a folder
    source = _folder(tmp_path / "source", files)
    source.mkdir(exist_ok=True)
    # When it is prepared
    with pytest.raises(DatasetProblem) as caught:
        _prepare(str(source), tmp_path / "cache")
    # Then the error says what is wrong with which file or class, and the cache holds nothing half made
    assert (caught.value.flaw, caught.value.name) == (flaw, name)
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize(("dataset", "flaw"), [("/no/such/place", "missing"), ("s3://bucket/pictures", "unresolved")])
def test_a_set_that_is_not_there_is_refused(tmp_path: Path, dataset: str, flaw: str) -> None:
    with pytest.raises(DatasetProblem) as caught:
        _prepare(dataset, tmp_path / "cache")
    assert caught.value.flaw == flaw


@pytest.mark.parametrize("name", ["cut.tar.gz", "noise.tar", "cut.zip"])
def test_an_archive_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    # Given the beginning of an archive, or no archive at all
    path = tmp_path / name
    packed = (
        _zip(tmp_path / "whole.zip", _pictures()) if name.endswith("zip") else _tar(tmp_path / "w.tgz", _pictures())
    )
    path.write_bytes(b"noise" * 300 if name == "noise.tar" else packed.read_bytes()[: packed.stat().st_size // 2])
    # When it is prepared, then it is refused
    with pytest.raises(DatasetProblem) as caught:
        _prepare(str(path), tmp_path / "cache")
    assert caught.value.flaw in ("bad_archive", "bad_image")


def _noisy() -> dict[str, bytes]:
    """Pictures whose bytes do not compress, so that damage anywhere hits one of them or what lies between."""
    chance = np.random.default_rng(5)
    files = {}
    for name in _pictures():
        out = io.BytesIO()
        Image.fromarray(chance.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(out, "BMP")
        files[name] = out.getvalue()
    return files


def _refused(path: Path, cache: Path) -> DatasetProblem:
    with pytest.raises(DatasetProblem) as caught:
        _prepare(str(path), cache)
    assert caught.value.flaw in ("bad_archive", "bad_image")
    assert not [one for one in cache.glob("*") if not one.name.startswith(".")]
    return caught.value


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2", "zip"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.7, 0.8, 0.9, 0.97])
def test_an_archive_that_is_damaged_anywhere_is_refused_and_no_part_of_it_trained_on(
    tmp_path: Path, kind: str, share: float
) -> None:
    # Given a compressed archive of which some bytes are others
    path = tmp_path / f"damaged.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in _noisy().items():
                archive.writestr(name, content)
    else:
        _tar(path, _noisy(), mode=f"w:{kind}")
    content = bytearray(path.read_bytes())
    place = int(len(content) * share)
    content[place : place + 8] = bytes(byte ^ 0x5A for byte in content[place : place + 8])
    path.write_bytes(content)
    # When it is prepared, then it is refused as a whole
    _refused(path, tmp_path / "cache")


@pytest.mark.parametrize("harm", ["a header", "no end"])
def test_a_tar_that_does_not_come_to_its_end_is_refused(tmp_path: Path, harm: str) -> None:
    # Given a plain tar with a header in its midst that is none, or without the blocks that end it
    path = _tar(tmp_path / "source.tar", _noisy(), mode="w:")
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        fifth, last = archive.getmembers()[4], archive.getmembers()[-1]
    end = last.offset_data + -(-last.size // 512) * 512
    content[fifth.offset : fifth.offset + 8] = b"damaged!"
    path.write_bytes(content if harm == "a header" else path.read_bytes()[:end])
    # When it is prepared, then what could be read is not taken for all
    assert "breaks off" in _refused(path, tmp_path / "cache").cause


@pytest.mark.parametrize(
    ("changes", "said"),
    [({6: 1}, "encrypted"), ({8: 9}, "compression"), ({}, "the most")],
    ids=["encrypted", "deflate64", "too large"],
)
def test_an_entry_that_is_not_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[int, int], said: str
) -> None:
    # Given a zip whose entries say that they are encrypted, or of a method that nobody reads, or are too large
    path = _zip(tmp_path / "source.zip", _pictures())
    content = path.read_bytes()
    for offset, value in changes.items():
        for mark, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
            places = [at for at in range(len(content)) if content.startswith(mark, at)]
            for at in places:
                content = content[: at + offset + shift] + bytes([value, 0]) + content[at + offset + shift + 2 :]
    path.write_bytes(content)
    if not changes:
        monkeypatch.setattr(sources, "LARGEST_ENTRY_BYTES", 50)
    # When it is prepared, then the first of them is named
    problem = _refused(path, tmp_path / "cache")
    assert said in problem.cause
    assert problem.name == "pictures/dark/0.png"


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "LARGEST_IMAGE_PIXELS", 100)
    source = _folder(tmp_path / "source", _pictures())
    assert "12 x 9 pixels" in _refused(source, tmp_path / "cache").cause


def test_few_bytes_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_PORTION_BYTES", 100)
    entries = tuple(images.Entry(str(size), "a", "", size) for size in (40, 50, 20, 300, 1, 1, 1))
    portions = [[entry.size_bytes for entry in portion] for portion in images._portions(entries, 2)]
    assert portions == [[40, 50], [20], [300], [1, 1], [1]]


@pytest.mark.parametrize(("failures", "number"), [(2, errno.EIO), (99, errno.EIO), (99, errno.EACCES)])
def test_a_mount_that_fails_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, number: int
) -> None:
    # Given a mounted bucket that does not give a picture, for a moment, for long, or for ever
    monkeypatch.setattr(images, "_AGAIN_AFTER_S", (0, 0, 0))
    source = _folder(tmp_path / "source", _pictures())
    sound, asked = sources.read_regular, []

    def failing(path: Path, most_bytes: int) -> bytes:
        if path.name == "2.png" and len(asked) < failures:
            asked.append(path)
            raise OSError(number, "the mount says no")
        return sound(path, most_bytes)

    monkeypatch.setattr(sources, "read_regular", failing)
    if failures == 2:
        # When it is prepared, then the picture is asked for again
        assert len(_prepare(str(source), tmp_path / "cache").train) == 6
    else:
        # Then the run ends, and another attempt may go better unless the file system has said no for good
        with pytest.raises(DatasetAway if number == errno.EIO else DatasetProblem) as caught:
            _prepare(str(source), tmp_path / "cache")
        assert caught.value.retryable == (number == errno.EIO)
        assert len(asked) == (4 if number == errno.EIO else 1)


def test_shapes_are_drawn_once_and_never_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given shapes in the cache
    first = _prepare("shapes", tmp_path)
    # When they are wanted again, and could not be drawn
    monkeypatch.setattr(shapes, "draw", lambda **_: pytest.fail("drawn again"))
    again = _prepare("shapes", tmp_path)
    # Then they are there, of every class, with no leftovers
    assert np.array_equal(first.train.pictures, again.train.pictures)
    assert set(again.train.labels) == set(range(len(shapes.CLASSES)))
    assert len(list(tmp_path.iterdir())) == 1


def test_an_image_set_is_decoded_once_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a prepared folder
    source = _folder(tmp_path / "source", _pictures())
    _prepare(str(source), tmp_path / "cache")
    decoded: list[str] = []
    whole = images.decode_all
    monkeypatch.setattr(images, "decode_all", lambda name, *rest: (decoded.append(name), whole(name, *rest))[1])
    # When it is wanted again, as it was
    _prepare(str(source), tmp_path / "cache")
    # Then nothing is decoded; and when a file has changed, all is
    assert decoded == []
    (source / "dark" / "0.png").write_bytes(_png((77, 77, 77)) + b" ")
    _prepare(str(source), tmp_path / "cache")
    assert decoded == [str(source)]


def test_a_part_is_sent_to_another_process_as_a_path(tmp_path: Path) -> None:
    # Given prepared shapes of a megabyte
    part = _prepare("shapes", tmp_path).train
    # When they are pickled, as for a reading process
    sent = pickle.dumps(part)
    # Then little is sent, and the same arrives
    assert len(sent) < 2_000
    assert np.array_equal(pickle.loads(sent).pictures, part.pictures)  # noqa: S301 - our own pickle


def test_the_order_is_a_function_of_seed_and_step_and_shows_each_example_once_an_epoch() -> None:
    # Given 10 examples in batches of 4: 5 steps are two epochs
    steps = [order.examples_of_step(seed=3, step=step, batch_size=4, count=10) for step in range(5)]
    shown = np.concatenate(steps)
    # Then each epoch shows each example once, in another order, and asking again gives the same
    assert sorted(shown[:10]) == sorted(shown[10:]) == list(range(10))
    assert list(shown[:10]) != list(shown[10:])
    assert list(order.examples_of_step(seed=3, step=2, batch_size=4, count=10)) == list(steps[2])
    assert list(order.examples_of_step(seed=4, step=2, batch_size=4, count=10)) != list(steps[2])
