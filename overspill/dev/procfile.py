"""The Procfile, read by honcho's own parser, so that `honcho start` and we run the same commands."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from honcho.environ import parse_procfile

from overspill.dev.errors import WrongProcfile


@dataclass(frozen=True)
class Entry:
    """One process to run."""

    #: As honcho numbers them: `gpu.2` is the second gpu.
    name: str
    #: For /bin/sh.
    command: str


def find_root(start: Path) -> Path:
    """The folder with the Procfile: `start`, else the one that this package lies in.

    Raises:
        WrongProcfile: neither has one.
    """
    ours = Path(__file__).resolve().parents[2]
    for folder in (start, ours):
        if (folder / "Procfile").is_file() and (folder / "workers").is_dir():
            return folder
    raise WrongProcfile(start / "Procfile", "expected to be run in a checkout of overspill, which holds a Procfile")


def read_procfile(path: Path) -> dict[str, str]:
    """Name -> command.

    Raises:
        WrongProcfile: it cannot be read, or names a process twice.
    """
    try:
        return dict(parse_procfile(path.read_text(encoding="utf-8")).processes)
    except OSError as error:
        raise WrongProcfile(path, error.strerror or str(error)) from error
    except AssertionError as error:
        raise WrongProcfile(path, str(error)) from error


def expand(commands: Mapping[str, str], formation: Mapping[str, int], *, path: Path) -> list[Entry]:
    """As many entries of each command as `formation` says; what it does not name is not run.

    Raises:
        WrongProcfile: the formation names a process that the Procfile lacks.
    """
    missing = sorted(set(formation) - set(commands))
    if missing:
        raise WrongProcfile(path, f"expected a line for {', '.join(missing)}, found only {', '.join(commands)}")
    return [
        Entry(f"{name}.{number}", commands[name]) for name, count in formation.items() for number in range(1, count + 1)
    ]
