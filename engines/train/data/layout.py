"""Which folder of a data set is a class, and which a split: a pure function of the folders that hold pictures.

cat/1.png                    a folder for each class; a folder around all of them changes nothing
train/cat/1.png              splits, then classes; also cat/train/1.png
cat/2023/1.png               parts of classes, where each class shares the name of a part with another one
cat/1.png, cat/2023/2.png    refused: pictures lie at several depths, and no depth is that of the classes
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

Folders = tuple[str, ...]
"""The names of the folders that a file lies in, outermost first, each in Unicode's composed form (NFC)."""

_SHOWN: Final = 6


class Role(Enum):
    """What a split folder is for."""

    TRAIN = "train"
    VALIDATION = "val"
    TEST = "test"


_ROLES: Final[Mapping[str, Role]] = {
    **dict.fromkeys(("train", "training"), Role.TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), Role.VALIDATION),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), Role.TEST),
}


class Ambiguous(ValueError):
    """No layout that is known; the text says what was found."""


@dataclass(frozen=True)
class Place:
    """Where a file belongs. `label` None: in no class; `role` None: the set has no splits."""

    label: str | None
    role: Role | None


@dataclass(frozen=True)
class Layout:
    """How a set is laid out.

    Attributes:
        class_at: Position of the class among the folders of a file.
        split_at: Position of the split; None: there are none.
        common: Position and name of folders that are around everything.
    """

    class_at: int
    split_at: int | None = None
    common: Mapping[int, str] = field(default_factory=dict)

    def place_of(self, folders: Folders) -> Place | None:
        """Where a file in these folders belongs; None: outside of the layout."""
        if any(at < len(folders) and folders[at] != name for at, name in self.common.items()):
            return None
        role = None
        if self.split_at is not None and self.split_at < len(folders):
            role = role_of(folders[self.split_at])
            if role is None:
                return None
        label = folders[self.class_at] if self.class_at < len(folders) else None
        return Place(label, role)


def composed(names: Iterable[str]) -> Folders:
    """Names in NFC: what looks the same to people is the same folder, whichever system wrote it."""
    return tuple(unicodedata.normalize("NFC", name) for name in names)


def role_of(folder: str) -> Role | None:
    """What a folder of this name is for, if it is a split."""
    return _ROLES.get(folder.casefold())


def layout_of(counts: Mapping[Folders, int]) -> Layout:
    """How a set is laid out.

    Args:
        counts: Pictures directly in each folder, by its path; the set's own root has none.

    Raises:
        Ambiguous: It is not clear which folders are the classes.
    """
    rows = sorted(counts)
    common: dict[int, str] = {}
    split_at = None
    at = 0
    while rows:
        names = {row[at] for row in rows}
        if len(names) == 1 and min(map(len, rows)) > at + 1:
            common[at] = next(iter(names))
        elif split_at is None and _are_splits(names, counts):
            split_at = at
            rows = _labelled(rows, at, counts)
        else:
            break
        at += 1
    return _inner(rows, at, Layout(at, split_at, common), counts)


def _are_splits(names: Iterable[str], counts: Mapping[Folders, int]) -> bool:
    roles = [role_of(name) for name in names]
    if None in roles or len(set(roles)) == 1:
        return False
    if Role.TRAIN not in roles:
        raise Ambiguous(f"splits without one to learn from (`train`): {_found(counts)}")
    return True


def _labelled(rows: Sequence[Folders], split_at: int, counts: Mapping[Folders, int]) -> list[Folders]:
    """The folders below the splits. Pictures directly in `val` or `test` have no class, and are left out."""
    if any(len(row) == split_at + 1 and role_of(row[split_at]) is Role.TRAIN for row in rows):
        raise Ambiguous(f"splits hold pictures of no class: {_found(counts)}")
    return [row for row in rows if len(row) > split_at + 1]


def _inner(rows: Sequence[Folders], at: int, layout: Layout, counts: Mapping[Folders, int]) -> Layout:
    """The layout, given that the classes are among the folders at `at`, or below."""
    depths = {len(row) - at for row in rows}
    if depths <= {1}:
        return layout
    if len(depths) > 1:
        raise Ambiguous(f"pictures lie at several depths: {_found(counts)}")
    if layout.split_at is None:
        if _are_splits({row[at + 1] for row in rows}, counts) and depths == {2}:
            return Layout(at, at + 1, layout.common)
        if any(role_of(row[at]) for row in rows):
            raise Ambiguous(f"some folders are splits and some are not: {_found(counts)}")
    if _share_their_parts(rows, at):
        return layout
    raise Ambiguous(f"the classes may be the outer folders or the inner ones: {_found(counts)}")


def _share_their_parts(rows: Sequence[Folders], at: int) -> bool:
    """Whether each folder at `at` has a folder in it of a name that another one has, too: `2023`, `images`."""
    owners: dict[str, set[str]] = {}
    for row in rows:
        owners.setdefault(row[at + 1], set()).add(row[at])
    shared = set().union(*(tops for tops in owners.values() if len(tops) > 1))
    return shared == {row[at] for row in rows}


def _found(counts: Mapping[Folders, int]) -> str:
    shown = [f"{'/'.join(folders)}/ ({number})" for folders, number in sorted(counts.items())]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
