"""A picture's bytes reach a decoder of the allowed formats, or none: its name does not choose another."""

import io
import struct
import subprocess
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image, ImageFile

from engines.train.data.kinds import FORMATS, FORMATS_BY_SUFFIX
from engines.train.errors import DatasetProblem
from tests.support.image_sets import encoded, packed, prepare, two_classes

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n0 0 16 16 rectfill\nshowpage\n%%EOF\n"


def _others() -> dict[str, bytes]:
    """Files of formats that Pillow knows and a data set does not need."""
    picture = Image.new("RGB", (16, 16), (1, 2, 3))
    made = {kind: encoded(picture, kind) for kind in ("ICO", "ICNS", "IM", "PCX", "SGI", "SPIDER", "DDS")}
    dos_eps = struct.pack("<IIIIIIIH", 0xC6D3D0C5, 30, len(EPS), 0, 0, 0, 0, 0xFFFF) + EPS
    fits = b"".join(
        line.ljust(80) for line in (b"SIMPLE  =                    T", b"BITPIX  =                    8",
                                    b"NAXIS   =                    0", b"END")
    ).ljust(2880) + bytes(2880)  # fmt: skip
    return {**made, "EPS": EPS, "DOS EPS": dos_eps, "FITS": fits, "PSD": b"8BPS\0\1" + bytes(60), "PDF": b"%PDF-1.4\n"}


@pytest.fixture(autouse=True)
def no_program(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records who runs a program, or opens a file by a decoder that may."""
    run: list[str] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: run.append("Ghostscript"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: run.append("a program"))
    return run


@pytest.mark.parametrize("source", ["folder", "tar.gz", "zip"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "ppm", "avif", "tga", "dib"])
def test_postscript_reaches_no_interpreter(tmp_path: Path, no_program: list[str], suffix: str, source: str) -> None:
    files = {**two_classes(), f"dark/evil.{suffix}": EPS}
    with pytest.raises(DatasetProblem) as caught:
        prepare(packed(tmp_path / "set", files, source), tmp_path / "cache")
    assert (caught.value.flaw, caught.value.name) == ("bad_image", f"dark/evil.{suffix}")
    assert no_program == []


@pytest.mark.parametrize("kind", _others())
def test_no_other_decoder_is_reached(
    tmp_path: Path, no_program: list[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # Given a file of another format under a picture's name
    Image.init()
    reached: list[str] = []
    for name, (factory, accept) in list(Image.OPEN.items()):

        def opening(*given: object, name: str = name, factory: object = factory) -> ImageFile.ImageFile:
            reached.append(name)
            return factory(*given)  # type: ignore[operator, no-any-return]

        monkeypatch.setitem(Image.OPEN, name, (opening, accept))
    files = {**two_classes(), "dark/evil.png": _others()[kind]}
    # When the set is prepared, then no decoder has looked at it but those that are allowed
    with pytest.raises(DatasetProblem) as caught:
        prepare(packed(tmp_path / "set", files, "folder"), tmp_path / "cache")
    assert caught.value.name == "dark/evil.png"
    assert set(reached) <= set(FORMATS)
    assert no_program == []


def test_none_of_the_allowed_formats_runs_a_program_or_reads_another_file() -> None:
    allowed = {*FORMATS, *(kind for kinds in FORMATS_BY_SUFFIX.values() for kind in kinds)}
    assert allowed.isdisjoint({"EPS", "PDF", "WMF", "FITS", "GRIB", "HDF5", "BUFR", "IPTC", "MPEG", "PCD", "PSD"})
    # And each of them is one that Pillow has
    Image.init()
    assert allowed <= set(Image.OPEN)
    assert Image.open(io.BytesIO(encoded(Image.new("RGB", (4, 4)))), formats=FORMATS).format == "PNG"
