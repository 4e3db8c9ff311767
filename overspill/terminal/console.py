"""What every command shares: the two output streams, one-line errors, JSON, and the ledger that it connects to."""

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

#: For people. Standard output carries results, and everything that a program reads.
err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False)

WRONG_USAGE, FAILED, INTERRUPTED = 2, 1, 130

#: The width in columns where there is no terminal: nothing is cut.
UNBOUNDED = 400


def fail(sentence: str, *, exit_code: int = FAILED) -> NoReturn:
    """Print one sentence on standard error and exit."""
    err.print(f"overspill: {sentence}", markup=False)
    raise typer.Exit(exit_code)


def unwrapped() -> Console:
    """Standard output: as wide as the terminal, or unbounded where there is no terminal."""
    return out if out.is_terminal else Console(width=UNBOUNDED, highlight=False)


def show(draw: Callable[[int], RenderableType], *, width: int = UNBOUNDED) -> None:
    """Print what `draw` returns for a width: the terminal's, or `width` where there is none (then without padding)."""
    if out.is_terminal:
        out.print(draw(out.width))
        return
    console = Console(width=width, highlight=False, file=io.StringIO(), record=True)
    console.print(draw(width))
    sys.stdout.write("\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n")
    sys.stdout.flush()


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn foreseeable errors into one sentence and an exit code."""
    from overspill.client import ClientError  # noqa: PLC0415 - `--help` needs no client
    from overspill.dev.errors import DevError  # noqa: PLC0415 - the same

    try:
        yield
    except ValidationError as error:
        fail(validation_message(error), exit_code=WRONG_USAGE)
    except (LedgerError, ClientError, DevError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or 'the system'}: {error.strerror or error}")


def validation_message(error: ValidationError) -> str:
    """A validation error as one sentence that names each field."""
    return "; ".join(
        f"{'.'.join(str(part) for part in detail['loc']) or 'value'}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in error.errors(include_url=False, include_input=False)
    )


def adopt_running_stack(folder: Path) -> None:
    """Use the stack that `overspill up` runs in `folder`, unless the environment names a ledger."""
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
    """Print JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_pair(name: str, value: object) -> None:
    """Print one line `name  value`, uncut on any terminal."""
    sys.stdout.write(f"{name:<14}  {value}\n")
    sys.stdout.flush()
