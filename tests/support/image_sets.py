"""Data sets for tests: small pictures, and folders, tars and zips of them."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.train.data import prepared

Files = Mapping[str, bytes]


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def plain(colour: tuple[int, int, int] = (9, 9, 9), size: tuple[int, int] = (12, 9), kind: str = "PNG") -> bytes:
    """A picture of one colour."""
    return encoded(Image.new("RGB", size, colour), kind)


def two_classes(per_class: int = 4, *, root: str = "", suffix: str = "png") -> dict[str, bytes]:
    """`dark` and `light`, each picture of a level of its own."""
    return {
        f"{root}{label}/{number}.{suffix}": plain((level + number, level, level))
        for label, level in (("dark", 20), ("light", 200))
        for number in range(per_class)
    }


def in_folder(root: Path, files: Files) -> Path:
    """Files in a folder."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def in_tar(path: Path, files: Files, mode: str = "w:gz") -> Path:
    """Files in a tar, in the order given."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # one of its modes
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def in_zip(path: Path, files: Files) -> Path:
    """Files in a zip, in the order given."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def packed(path: Path, files: Files, kind: str) -> Path:
    """Files as `folder`, `zip`, `tar`, `tar.gz`, `tar.bz2` or `tar.xz`."""
    match kind:
        case "folder":
            return in_folder(path, files)
        case "zip":
            return in_zip(path.with_suffix(".zip"), files)
        case _:
            return in_tar(path.with_suffix(f".{kind}"), files, f"w:{kind.removeprefix('tar').lstrip('.')}")


def prepare(source: Path | str, cache: Path, *, threads: int = 1, **more: Any) -> prepared.PreparedSet:
    """The prepared set of a source, 8 pixels wide."""
    given = {"dataset": str(source), "data": None, "cache": cache, "side_px": 8, "threads": threads, **more}
    return prepared.prepare(**given)


def pictures_of(made: prepared.PreparedSet) -> NDArray[np.uint8]:
    """All pictures, those that are learnt from first."""
    return np.concatenate([made.train.pictures, made.evaluation.pictures])
