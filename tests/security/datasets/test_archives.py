"""An archive is read once, forwards, whatever the order of its files; and it cannot claim more than a set may have."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.train.data import sources
from engines.train.errors import DatasetProblem
from tests.support.image_sets import in_tar, in_zip, plain, prepare, two_classes

pytestmark = pytest.mark.timeout(30)


def _shuffled(per_class: int) -> dict[str, bytes]:
    """Pictures in an order that is no order of names: the classes take turns, the numbers go down."""
    files = two_classes(per_class)
    return dict(sorted(files.items(), key=lambda both: both[0].split("/")[1], reverse=True))


def _places_read(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Where in a tar each file that is read begins, in the order of reading."""
    places: list[int] = []
    whole: Callable[..., object] = tarfile.TarFile.extractfile

    def extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> object:
        places.append(member.offset_data)
        return whole(archive, member)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", extract)
    prepare(path, tmp_path / "cache", threads=4)
    return places


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz", ""])
def test_a_tar_is_read_forwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    places = _places_read(in_tar(tmp_path / "set.tar", _shuffled(60), f"w:{mode}"), monkeypatch, tmp_path)
    assert len(places) == 120
    assert places == sorted(places)


def test_a_zip_is_read_forwards_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[int] = []
    whole: Callable[..., bytes] = zipfile.ZipFile.read

    def read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
        places.append(info.header_offset)
        return whole(archive, info)

    monkeypatch.setattr(zipfile.ZipFile, "read", read)
    prepare(in_zip(tmp_path / "set.zip", _shuffled(60)), tmp_path / "cache")
    assert len(places) == 120
    assert places == sorted(places)


@pytest.mark.parametrize("per_class", [50, 200])
def test_what_is_unpacked_of_a_compressed_tar_grows_with_it_and_no_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_class: int
) -> None:
    # Given a compressed tar in an order of its own, and a count of all bytes that come out of the decompressor
    path = in_tar(tmp_path / "set.tar.gz", _shuffled(per_class))
    unpacked_bytes = len(gzip.decompress(path.read_bytes()))
    out = [0]
    whole = gzip._GzipReader.read  # type: ignore[attr-defined]  # where all of gzip's bytes come out

    def read(reader: object, size: int = -1) -> bytes:
        content: bytes = whole(reader, size)
        out[0] += len(content)
        return content

    monkeypatch.setattr(gzip._GzipReader, "read", read)  # type: ignore[attr-defined]
    prepare(path, tmp_path / "cache")
    # Then it has been unpacked twice: to list it, and to read it
    assert unpacked_bytes <= out[0] <= 2.2 * unpacked_bytes


def _flaw(path: Path, cache: Path) -> DatasetProblem:
    with pytest.raises(DatasetProblem) as caught:
        prepare(path, cache)
    return caught.value


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_of_gigabytes_is_not_read_into_memory(tmp_path: Path, kind: bytes) -> None:
    # Given a small archive whose first header says that a name of eight GiB follows
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = kind, 8 * 1024**3
    path = tmp_path / "set.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024**2)))
    # Then it is refused by what it says, before anything of it is held
    problem = _flaw(path, tmp_path / "cache")
    assert problem.flaw == "bad_archive"
    assert "a header of 8589934592 bytes" in problem.cause


def test_an_honest_long_name_is_read(tmp_path: Path) -> None:
    files = {**two_classes(), f"dark/{'x' * 200}.png": plain(), f"light/{'é' * 120}.png": plain()}
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{form}.tar"
        with tarfile.open(path, "w", format=form) as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        made = prepare(path, tmp_path / "cache")
        assert (len(made.train), made.notes) == (8, ())


def test_zeros_without_end_after_the_end_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGEST_CONTENTS_BYTES", 3 * 1024**2)
    whole = gzip.decompress(in_tar(tmp_path / "set.tar.gz", two_classes()).read_bytes())
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(whole + bytes(64 * 1024**2)))
    assert path.stat().st_size < 100_000
    assert _flaw(path, tmp_path / "cache").flaw == "too_large"


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_contents_that_are_larger_than_a_set_may_be_are_refused_by_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # Given an archive whose files are together too large, none of them a picture
    monkeypatch.setattr(sources, "LARGEST_CONTENTS_BYTES", 1024**2)
    files = {**two_classes(), **{f"{number}.bin": bytes(300_000) for number in range(4)}}
    path = in_zip(tmp_path / "set.zip", files) if kind == "zip" else in_tar(tmp_path / "set.tar.gz", files)
    assert _flaw(path, tmp_path / "cache").flaw == "too_large"


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_so_are_more_files_than_a_set_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(sources, "MOST_FILES", 20)
    files = {**two_classes(), **{f"{number}.txt": b"" for number in range(20)}}
    path = in_zip(tmp_path / "set.zip", files) if kind == "zip" else in_tar(tmp_path / "set.tar.gz", files)
    assert _flaw(path, tmp_path / "cache").flaw == "too_large"


def test_a_sparse_file_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    # Given a sparse member, a few bytes in the archive, that unpacks to two TiB
    member = tarfile.TarInfo("dark/8.png")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % 2**32
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "set.tar"
    path.write_bytes(bytes(header) + in_tar(tmp_path / "w.tar", two_classes(), "w:").read_bytes())
    problem = _flaw(path, tmp_path / "cache")
    assert problem.name == "dark/8.png"
    assert "the most" in problem.cause
