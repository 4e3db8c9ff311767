"""Which files of a source are examples, of which class, learnt from or held out; and what is said of all the others.

Nothing goes without a word: what is left out is counted and named, and where that would take a whole class, or leave no
doubtless layout, the set is refused. Pure: from the names of a listing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from engines.train.data.kinds import NameKind, kind_by_name
from engines.train.data.layout import Ambiguous, Folders, Layout, Role, composed, layout_of
from engines.train.data.sources import Found
from engines.train.errors import DatasetProblem

_TEN: Final = 10
_NAMED: Final = 5
_STRAY: Final = "pictures in no class's folder"
_HIDDEN: Final = "hidden files (a name with a dot before it)"
_COMPANION: Final = "files that are no pictures"
_FORMAT: Final = "files of no format that is read"
_LEADS_ELSEWHERE: Final = "files whose names lead out of the set"
_UNUSED_TEST: Final = "pictures of the test split, as there is one to validate with"
_EMPTY: Final = "folders without a file"


@dataclass(frozen=True)
class Entry:
    """One image of a source.

    Attributes:
        name: In there.
        label: Its class.
        mark: Changes when the file does.
        size_bytes: Of the file.
        is_held_out: Whether it is for evaluation.
    """

    name: str
    label: str
    mark: str
    size_bytes: int
    is_held_out: bool = False


@dataclass(frozen=True)
class Chosen:
    """What a listing comes to: examples sorted by name, and a sentence for each reason to leave something out."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Left:
    name: str
    folders: Folders
    reason: str
    may_be_a_class: bool = False
    is_file: bool = True


def choose(dataset: str, found: Iterable[Found]) -> Chosen:
    """The examples of a listing.

    Raises:
        DatasetProblem: `empty`, `one_class`, `too_small`, `layout`, or `left_out`: a class of which nothing is read.
    """
    pictures, left = _sorted_out(found)
    layout = _layout(dataset, pictures, left)
    placed = [(one, layout.place_of(folders)) for one, folders in pictures]
    inside = [(one, place.label, place.role) for one, place in placed if place and place.label]
    left += [_Left(one.name, (), _STRAY) for one, place in placed if not place or not place.label]
    _refuse_lost_classes(dataset, layout, left, {label for _, label, _ in inside})
    entries, unused = _divided(dataset, inside)
    left += [_Left(name, (), _UNUSED_TEST) for name in unused]
    _check_classes(dataset, entries)
    return Chosen(tuple(entries), _notes(left))


def is_for_evaluation(position: int) -> bool:
    """Whether the image at `position` of its class (by name) is held out: the first one and every tenth."""
    return position % _TEN == 0


def _sorted_out(found: Iterable[Found]) -> tuple[list[tuple[Found, Folders]], list[_Left]]:
    """Pictures that can be read, with their folders; and everything else that deserves a word."""
    pictures: list[tuple[Found, Folders]] = []
    left: list[_Left] = []
    folders_listed: dict[Folders, str] = {}
    folders_in_use: set[Folders] = set()
    for one in found:
        parts = tuple(part for part in one.name.split("/") if part not in ("", "."))
        kind = kind_by_name(parts) if parts else NameKind.LITTER
        folders = composed(parts if one.is_folder else parts[:-1])
        if kind is NameKind.LITTER:
            continue
        if one.is_folder and not one.not_read:
            if kind is not NameKind.HIDDEN:
                folders_listed[folders] = one.name
            continue
        folders_in_use.update(folders[:depth] for depth in range(1, len(folders) + 1))
        reason = _reason(one, parts, kind)
        if reason is None:
            pictures.append((one, folders))
        else:
            may_be_a_class = reason not in (_LEADS_ELSEWHERE, _HIDDEN, _COMPANION)
            left.append(_Left(one.name, folders, reason, may_be_a_class, is_file=not one.is_folder))
    empty = _innermost(folders for folders in folders_listed if folders not in folders_in_use)
    left += [_Left(folders_listed[one], one, _EMPTY, may_be_a_class=True, is_file=False) for one in empty]
    return sorted(pictures, key=lambda both: both[0].name), left


def _reason(one: Found, parts: tuple[str, ...], kind: NameKind) -> str | None:
    """Why a file is left out; None: it is a picture, by its name."""
    if ".." in parts:
        return _LEADS_ELSEWHERE
    if kind is NameKind.HIDDEN:
        return _HIDDEN
    if one.not_read:
        return one.not_read
    if kind is NameKind.PICTURE:
        return None
    return _COMPANION if kind is NameKind.COMPANION else _FORMAT


def _innermost(folders: Iterable[Folders]) -> list[Folders]:
    listed = sorted(folders)
    around = {one[:depth] for one in listed for depth in range(1, len(one))}
    return [one for one in listed if one not in around]


def _layout(dataset: str, pictures: Sequence[tuple[Found, Folders]], left: Sequence[_Left]) -> Layout:
    """By all files that may be pictures, so that a class of which none is read is seen; else by those that are."""
    counts = Counter(folders for _, folders in pictures if folders)
    unread = Counter(one.folders for one in left if one.may_be_a_class and one.is_file and one.folders)
    try:
        return layout_of(counts + unread)
    except Ambiguous:
        pass
    try:
        return layout_of(counts)
    except Ambiguous as error:
        raise DatasetProblem("layout", dataset, cause=str(error)) from error


def _refuse_lost_classes(dataset: str, layout: Layout, left: Sequence[_Left], read: set[str]) -> None:
    lost: dict[str, list[_Left]] = {}
    for one in left:
        if one.may_be_a_class and one.folders:
            place = layout.place_of(one.folders)
            label = place.label if place else one.folders[0]
            if label and label not in read:
                lost.setdefault(label, []).append(one)
    for label, files in sorted(lost.items()):
        raise DatasetProblem("left_out", dataset, label, "; ".join(_notes(files)))


def _divided(dataset: str, inside: Sequence[tuple[Found, str, Role | None]]) -> tuple[list[Entry], list[str]]:
    """Entries that are learnt from or held out, and the names of those that are for neither."""
    roles = {role for _, _, role in inside}
    held = next((role for role in (Role.VALIDATION, Role.TEST) if role in roles), None)
    learnt = {label for _, label, role in inside if held is None or role is Role.TRAIN}
    for _, label, role in inside:
        if label not in learnt and role is not None:
            raise DatasetProblem("layout", dataset, label, f"the class is in the split {role.value} and not in train")
    seen: Counter[str] = Counter()
    entries, unused = [], []
    for one, label, role in inside:
        if held is Role.VALIDATION and role is Role.TEST:
            unused.append(one.name)
            continue
        is_held_out = is_for_evaluation(seen[label]) if held is None else role is held
        seen[label] += 1
        entries.append(Entry(one.name, label, one.mark, one.size_bytes, is_held_out))
    return entries, unused


def _check_classes(dataset: str, entries: Sequence[Entry]) -> None:
    sizes = Counter(entry.label for entry in entries)
    if not sizes:
        raise DatasetProblem("empty", dataset)
    if len(sizes) == 1:
        raise DatasetProblem("one_class", dataset, next(iter(sizes)))
    learnt = Counter(entry.label for entry in entries if not entry.is_held_out)
    for label in sizes:
        if not learnt[label]:  # one image cannot be both learnt from and held out
            raise DatasetProblem("too_small", dataset, label, "1 image, 2 are the least")


def _notes(left: Sequence[_Left]) -> tuple[str, ...]:
    """One sentence for each reason, which counts and names: few names of many."""
    names: dict[str, list[str]] = {}
    for one in left:
        names.setdefault(one.reason, []).append(one.name)
    return tuple(
        f"left out of the data set: {reason} ({len(those)}): {', '.join(sorted(those)[:_NAMED])}"
        + (f" and {len(those) - _NAMED} more" if len(those) > _NAMED else "")
        for reason, those in names.items()
    )
