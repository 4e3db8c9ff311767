"""What every command shares: which stack it speaks to, how it prints, and how it fails."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console, RenderableType

from ledger.errors import LedgerError

if TYPE_CHECKING:
    from ledger import Ledger

#: For people. Standard output is for programs and for what was asked for.
err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False)

WRONG_USAGE, FAILED, INTERRUPTED = 2, 1, 130


def fail(sentence: str, *, exit_code: int = FAILED) -> NoReturn:
    """Say what is wrong in one sentence, and end."""
    err.print(f"overspill: {sentence}", markup=False)
    raise typer.Exit(exit_code)


#: Where there is no terminal, nothing needs to fit.
UNBOUNDED = 400


def whole_lines() -> Console:
    """Standard output as a person's terminal is, or without a bound of its width where there is none."""
    return out if out.is_terminal else Console(width=UNBOUNDED, highlight=False)


def show(picture: Callable[[int], RenderableType], *, width: int = UNBOUNDED) -> None:
    """Print what `picture` draws for a width: the terminal's, or `width` where there is none (then without padding)."""
    if out.is_terminal:
        out.print(picture(out.width))
        return
    console = Console(width=width, highlight=False, file=io.StringIO(), record=True)
    console.print(picture(width))
    sys.stdout.write("\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n")
    sys.stdout.flush()


@contextmanager
def mistakes_said() -> Iterator[None]:
    """Foreseeable errors become a sentence and an exit code."""
    from overspill.client import ClientError  # noqa: PLC0415 - `--help` needs no client
    from overspill.dev.errors import DevError  # noqa: PLC0415 - the same

    try:
        yield
    except ValidationError as error:
        fail(said(error), exit_code=WRONG_USAGE)
    except (LedgerError, ClientError, DevError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'the system'}: {error.strerror or error}")


def said(error: ValidationError) -> str:
    """A validation error as one sentence that names each field."""
    return "; ".join(
        f"{'.'.join(str(part) for part in detail['loc']) or 'value'}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in error.errors(include_url=False, include_input=False)
    )


def adopt_running_stack(folder: Path) -> None:
    """Unless the environment says where the ledger is, speak to the stack that `overspill up` runs in `folder`."""
    from overspill.dev.state_folder import read_environment  # noqa: PLC0415 - `--help` needs none of it

    if "OVERSPILL_LEDGER_URL" not in os.environ:
        os.environ.update(read_environment(folder))


@contextmanager
def open_ledger() -> Iterator["Ledger"]:
    """The ledger that the environment names."""
    from ledger import Ledger  # noqa: PLC0415 - `--help` needs no Redis

    with Ledger() as ledger:
        yield ledger


def print_json(value: object) -> None:
    """For programs, on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_pair(name: str, value: object) -> None:
    """One line `name  value`, whole however narrow the terminal is."""
    sys.stdout.write(f"{name:<14}  {value}\n")
    sys.stdout.flush()
