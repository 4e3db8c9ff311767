"""Trees of volumes: the pure part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modal_local.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from modal_local.services.volumes_tree import (
    Entry,
    Tree,
    below,
    copied,
    directory,
    dump,
    listing,
    load,
    merged,
    normalize,
    parents,
    with_files,
    without,
)


def file(content: str) -> Entry:
    return Entry("file", 0o644, 1, len(content), (content,))


def tree_of(*paths: str) -> Tree:
    return with_files({}, {path: file(path) for path in paths}, overwrite=False, now_ns=1)


def files_in(tree: Tree) -> set[str]:
    return {path for path, entry in tree.items() if entry.kind == "file"}


def assert_sound(tree: Tree) -> None:
    """Every entry's parents are directories."""
    for path in tree:
        assert all(tree[parent].kind == "directory" for parent in parents(path))


@pytest.mark.parametrize(("path", "expected"), [("/a/b/", "a/b"), ("", ""), ("/", ""), ("./a//b", "a/b")])
def test_normalize(path: str, expected: str) -> None:
    assert normalize(path) == expected


@pytest.mark.parametrize("path", ["../a", "a/../../b", "a/..", "a\0b"])
def test_a_path_that_climbs_out_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgumentError):
        normalize(path)


def test_listing() -> None:
    tree = tree_of("a/b/one", "a/two", "three", "ab")
    assert [path for path, _ in listing(tree, "/", recursive=False)] == ["a", "ab", "three"]
    assert [path for path, _ in listing(tree, "a", recursive=False)] == ["a/b", "a/two"]
    assert [path for path, _ in listing(tree, "/a/", recursive=True)] == ["a/b", "a/b/one", "a/two"]
    assert [path for path, _ in listing(tree, "a/two", recursive=True)] == ["a/two"]
    assert listing({}, "/", recursive=True) == []
    with pytest.raises(NotFoundError):
        listing(tree, "absent", recursive=False)


def test_put_keeps_all_or_changes_nothing() -> None:
    tree = tree_of("a", "d/x")
    with pytest.raises(AlreadyExistsError):
        with_files(tree, {"new": file("n"), "a": file("n")}, overwrite=False, now_ns=1)
    with pytest.raises(AlreadyExistsError):
        with_files(tree, {"d": file("n")}, overwrite=True, now_ns=1)
    with pytest.raises(InvalidArgumentError):
        with_files(tree, {"a/inside": file("n")}, overwrite=True, now_ns=1)
    with pytest.raises(InvalidArgumentError):
        with_files(tree, {"": file("n")}, overwrite=True, now_ns=1)
    assert files_in(tree) == {"a", "d/x"}
    assert with_files(tree, {"a": file("n")}, overwrite=True, now_ns=1)["a"] == file("n")


def test_remove() -> None:
    tree = tree_of("a/b/one", "a/two", "ab")
    assert files_in(without(tree, "a/two", recursive=False)) == {"a/b/one", "ab"}
    assert files_in(without(tree, "/a", recursive=True)) == {"ab"}
    assert without(tree, "/", recursive=True) == {}
    for path in ("a", "/"):
        with pytest.raises(InvalidArgumentError):
            without(tree, path, recursive=False)
    with pytest.raises(NotFoundError):
        without(tree, "absent", recursive=True)


def test_copy_as_cp_does() -> None:
    tree = tree_of("a/x", "a/y", "f")
    assert copied(tree, ["f"], "g", recursive=False, now_ns=1)["g"].blocks == ("f",)
    assert copied(tree, ["f"], "a", recursive=False, now_ns=1)["a/f"].blocks == ("f",)
    assert copied(tree, ["f", "a/x"], "/", recursive=False, now_ns=1)["x"].blocks == ("a/x",)
    assert files_in(copied(tree, ["a"], "b", recursive=True, now_ns=1)) >= {"b/x", "b/y"}
    assert files_in(
        copied(copied(tree, ["a"], "b", recursive=True, now_ns=1), ["a"], "b", recursive=True, now_ns=1)
    ) >= {"b/a/x"}


@pytest.mark.parametrize(
    ("sources", "destination", "recursive"),
    [
        (["a"], "b", False),  # a directory, not recursive
        (["f", "a/x"], "g", False),  # several to what is no directory
        (["f"], "nowhere/", False),  # a directory that is not there
        (["a"], "a", True),  # into itself
    ],
)
def test_copies_that_cp_refuses(sources: list[str], destination: str, *, recursive: bool) -> None:
    with pytest.raises(InvalidArgumentError):
        copied(tree_of("a/x", "f"), sources, destination, recursive=recursive, now_ns=1)


def test_a_copy_of_nothing_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        copied(tree_of("f"), ["absent"], "g", recursive=False, now_ns=1)


def test_of_two_commits_the_later_wins_for_each_path() -> None:
    # given what another container has committed since this one's view was laid out
    committed = tree_of("both", "theirs", "gone/theirs")
    # when this one commits its own changes
    result = merged(committed, {"both": file("mine"), "mine": file("mine")}, ["gone", "old"], now_ns=1)
    # then its own paths are its own, the others are left, and a directory stays that has got something since
    assert result["both"] == file("mine")
    assert files_in(result) == {"both", "theirs", "mine", "gone/theirs"}


def test_a_file_that_became_a_directory_and_back() -> None:
    committed = tree_of("a/x")
    as_file = merged(committed, {"a": file("now a file")}, ["a/x"], now_ns=1)
    assert files_in(as_file) == {"a"}
    again = merged(as_file, {"a": directory(1), "a/y": file("y")}, [], now_ns=1)
    assert files_in(again) == {"a/y"}


paths = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)


@given(st.lists(paths, max_size=6), st.dictionaries(paths, st.booleans(), max_size=6), st.lists(paths, max_size=4))
def test_a_merge_is_always_a_sound_tree(there: list[str], changes: dict[str, bool], deleted: list[str]) -> None:
    committed: Tree = {}
    for path in there:
        committed = merged(committed, {path: file(path)}, [], now_ns=1)
    changed: dict[str, Entry] = {}
    for path, is_file in changes.items():
        if not any(changed.get(parent, directory(1)).kind != "directory" for parent in parents(path)):
            changed[path] = file("mine") if is_file and not below(changed, path) else directory(1)
    result = merged(committed, changed, set(deleted) - set(changed), now_ns=1)
    assert_sound(result)
    assert all(result[path] == entry for path, entry in changed.items())
    assert load(dump(result)) == result
