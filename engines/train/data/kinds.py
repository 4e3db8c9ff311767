"""What a file of a data set is by its name: a picture that is read, one that is not, a companion, or litter."""

from __future__ import annotations

from enum import Enum, auto
from pathlib import PurePosixPath
from typing import Final

#: Formats of Pillow that may be tried on a picture's bytes, whatever its name says. Nothing of them runs a program.
FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
#: Formats that have no mark to be known by: they are tried on files of these names only.
FORMATS_BY_SUFFIX: Final = {".tga": ("TGA",), ".dib": ("DIB",)}

_READ_SUFFIXES: Final = (
    ".png .apng .jpg .jpeg .jpe .jfif .jfi .jif .pjpeg .pjp .mpo .webp .bmp .dib .gif .tif .tiff .avif .jp2 .j2k .j2c "
    ".jpc .jpf .jpx .ppm .pgm .pbm .pnm .tga"
)
#: What stands beside pictures and is none. A folder of these alone is no class.
_COMPANION_SUFFIXES: Final = (
    ".txt .md .rst .csv .tsv .json .jsonl .ndjson .xml .yaml .yml .toml .ini .cfg .log .html .htm .css .js .py .pyc "
    ".ipynb .sh .bat .sqlite .parquet .sha256 .sha1 .md5 .sfv .lst .license .bib .doc .docx .xls .xlsx"
)
_READ: Final = frozenset(_READ_SUFFIXES.split())
_COMPANIONS: Final = frozenset(_COMPANION_SUFFIXES.split())
_COMPANION_NAMES: Final = frozenset({"license", "licence", "readme", "notice", "copying", "authors", "makefile"})
#: What operating systems leave behind: passed over without a word.
_LITTER_NAMES: Final = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", ".directory"})
_LITTER_FOLDERS: Final = frozenset({"__macosx", "@eadir", ".trashes", ".spotlight-v100", ".fseventsd"})


class NameKind(Enum):
    """What a name says of a file."""

    PICTURE = auto()
    OTHER = auto()
    COMPANION = auto()
    HIDDEN = auto()
    LITTER = auto()


def kind_by_name(parts: tuple[str, ...]) -> NameKind:
    """What a file is by its path within the set."""
    *folders, name = parts
    lowered = name.lower()
    if lowered in _LITTER_NAMES or lowered.startswith("._") or any(one.lower() in _LITTER_FOLDERS for one in parts):
        return NameKind.LITTER
    if any(one.startswith(".") for one in (*folders, name)):
        return NameKind.HIDDEN
    suffix = PurePosixPath(lowered).suffix
    if suffix in _READ:
        return NameKind.PICTURE
    if suffix in _COMPANIONS or lowered in _COMPANION_NAMES:
        return NameKind.COMPANION
    return NameKind.OTHER
