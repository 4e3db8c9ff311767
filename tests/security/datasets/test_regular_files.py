"""Only regular files are read: a device never ends, a FIFO and a socket block, a link may lead anywhere."""

import io
import os
import socket
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engines.train.data import sources
from engines.train.data.files import NotRegular, open_regular, read_regular
from engines.train.errors import DatasetProblem
from tests.support.image_sets import in_folder, in_zip, pictures_of, plain, prepare, two_classes

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Path]:
    """The path of a socket that somebody listens at. Its address has to be short."""
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(tmp_path, os.O_RDONLY)
        try:
            listening.bind(f"/proc/self/fd/{here}/s")
        finally:
            os.close(here)
        yield tmp_path / "s"


def _refused(source: Path, cache: Path, **more: object) -> DatasetProblem:
    with pytest.raises(DatasetProblem) as caught:
        prepare(source, cache, **more)
    return caught.value


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/random", "/dev/null", "/dev/full", "/dev/tty"])
def test_a_device_is_no_data_set(tmp_path: Path, device: str) -> None:
    assert _refused(Path(device), tmp_path / "cache").flaw == "special_file"
    # Nor through a link
    (tmp_path / "link").symlink_to(device)
    assert _refused(tmp_path / "link", tmp_path / "cache").flaw == "special_file"


def test_neither_is_a_fifo_nor_a_socket(tmp_path: Path, bound: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "a FIFO" in _refused(tmp_path / "fifo", tmp_path / "cache").cause
    assert "a socket" in _refused(bound, tmp_path / "cache").cause


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _standard_input(path: Path) -> None:
    path.symlink_to("/proc/self/fd")


def _itself(path: Path) -> None:
    path.symlink_to(path)


def _folder_around(path: Path) -> None:
    path.symlink_to(path.parent.parent)


@pytest.mark.parametrize("make", [_fifo, _zero, _standard_input, _itself, _folder_around])
@pytest.mark.parametrize("name", ["dark/8.png", "dark/8.tar", "fox"])
def test_what_is_not_regular_is_passed_over_by_name_and_nothing_blocks(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    # Given a set with such a thing among its pictures, or in the place of a class
    source = in_folder(tmp_path / "set", two_classes())
    make(source / name)
    # When it is prepared where data sets lie in one place, then it comes to an end
    if name == "fox" and make is not _fifo:
        problem = _refused(source, tmp_path / "cache", roots=[tmp_path])
        assert (problem.flaw, problem.name) == ("left_out", "fox")
        return
    made = prepare(source, tmp_path / "cache", roots=[tmp_path])
    assert len(pictures_of(made)) == 8
    assert any(name in note for note in made.notes)


def test_links_that_multiply_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given twenty folders, each with two links to the next: a million ways to the last one
    monkeypatch.setattr(sources, "MOST_FILES", 2_000)
    source = in_folder(tmp_path / "set", two_classes())
    for number in range(20):
        (tmp_path / f"{number}").mkdir()
        for link in ("a", "b"):
            (tmp_path / f"{number}" / link).symlink_to(tmp_path / f"{number + 1}")
    in_folder(tmp_path / "20", {"1.png": plain()})
    (source / "fox").symlink_to(tmp_path / "0")
    assert _refused(source, tmp_path / "cache").flaw == "too_large"


def test_a_link_that_leads_out_is_not_even_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given links to something secret and to nothing at all, where data sets lie in one place only
    root = tmp_path / "root"
    source = in_folder(root / "set", two_classes())
    in_folder(tmp_path / "secret", {"1.png": plain()})
    (source / "dark" / "there.png").symlink_to(tmp_path / "secret" / "1.png")
    (source / "dark" / "gone.png").symlink_to(tmp_path / "secret" / "2.png")
    made = prepare(source, tmp_path / "cache", roots=[root])
    # Then both are left out for the same reason, which does not tell which of them is there
    (note,) = made.notes
    assert note.endswith("links that lead out of where data sets may lie (2): dark/gone.png, dark/there.png")


def _tar_with(path: Path, special: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(special)
        for name, content in two_classes().items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "type_", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]
)
@pytest.mark.parametrize("target", ["/dev/zero", "../../../etc/passwd", "dark/1.png"])
def test_an_archive_s_devices_and_links_are_passed_over_by_name(tmp_path: Path, type_: bytes, target: str) -> None:
    special = tarfile.TarInfo("dark/8.png")
    special.type, special.linkname, special.devmajor, special.devminor = type_, target, 1, 5
    made = prepare(_tar_with(tmp_path / "set.tar.gz", special), tmp_path / "cache")
    assert len(pictures_of(made)) == 8
    assert "dark/8.png" in made.notes[0]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_a_zip_s_too(tmp_path: Path, kind: int) -> None:
    path = in_zip(tmp_path / "set.zip", two_classes())
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("dark/8.png")
        info.create_system, info.external_attr = 3, (kind | 0o644) << 16
        archive.writestr(info, "/dev/zero")
    made = prepare(path, tmp_path / "cache")
    assert len(pictures_of(made)) == 8
    assert "dark/8.png" in made.notes[0]


@pytest.mark.parametrize("name", ["../dark/8.png", "dark/../../8.png", "/../8.png"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_that_leads_out_of_an_archive_is_passed_over(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / f"set.{kind}"
    if kind == "zip":
        in_zip(path, {**two_classes(), name: plain()})
    else:
        special = tarfile.TarInfo(name)
        _tar_with(path, special)
    made = prepare(path, tmp_path / "cache")
    assert len(pictures_of(made)) == 8
    assert "names lead out of the set" in made.notes[0]


def test_a_fifo_that_takes_a_file_s_place_meanwhile_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a file that is exchanged for a FIFO after it was looked at
    path = tmp_path / "1.png"
    path.write_bytes(plain())
    regular = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: regular)
    # Then opening it ends at once, and nothing stays open
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotRegular):
        open_regular(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_that_grows_while_it_is_read_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    path.write_bytes(bytes(100))
    assert len(read_regular(path, 100)) == 100
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="more than 100 bytes"):
        read_regular(path, 100)


def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    os.mkfifo(tmp_path / "fifo")
    _refused(tmp_path / "fifo", tmp_path / "cache")
    assert threading.active_count() == before
