"""The Procfile holds what the stack runs, and honcho would run the same."""

from pathlib import Path

import pytest

from overspill.dev.errors import WrongProcfile
from overspill.dev.procfile import Entry, expand, find_root, read_procfile

REPOSITORY = Path(__file__).parents[4]


def test_our_procfile_names_every_role_once() -> None:
    # given our own Procfile / when it is read
    commands = read_procfile(REPOSITORY / "Procfile")
    # then every role of the design is there, and each command replaces its shell, so that signals reach it
    assert {"api", "dispatch", "gpu", "overflow", "flower"} <= set(commands)
    assert all("exec " in command for command in commands.values())


def test_a_formation_repeats_and_numbers_entries() -> None:
    # given two commands / when two gpus are wanted / then they are numbered as honcho numbers them
    entries = expand({"api": "a", "gpu": "g"}, {"gpu": 2}, path=Path("Procfile"))
    assert entries == [Entry("gpu.1", "g"), Entry("gpu.2", "g")]


def test_a_missing_entry_is_named() -> None:
    # given a Procfile without a gpu / when one is wanted / then the sentence says what is missing
    with pytest.raises(WrongProcfile, match="expected a line for gpu, found only api"):
        expand({"api": "a"}, {"gpu": 1}, path=Path("Procfile"))


def test_a_missing_or_ambiguous_file_is_named(tmp_path: Path) -> None:
    # given no file / then the sentence names it
    with pytest.raises(WrongProcfile, match="Procfile: No such file"):
        read_procfile(tmp_path / "Procfile")
    # given one that names a process twice / then it says so
    (tmp_path / "Procfile").write_text("a: x\na: y\n")
    with pytest.raises(WrongProcfile, match="unique"):
        read_procfile(tmp_path / "Procfile")


def test_the_root_is_found_from_anywhere(tmp_path: Path) -> None:
    # given a working directory that is no checkout / when the root is looked for / then it is the package's own
    assert find_root(tmp_path) == REPOSITORY
