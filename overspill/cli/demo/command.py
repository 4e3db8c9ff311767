"""`overspill demo` and `overspill demo-budget`, from an empty folder to the last line."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, Protocol

import typer
from rich.text import Text

from overspill.cli.stopping import StopSignals
from overspill.cli.surroundings import INTERRUPTED, fail, mistakes_said, out

if TYPE_CHECKING:
    from overspill.dev.stack import Stack

SLOTS = 2
SETTINGS = {
    # Two slots and three that wait are enough; whatever comes then spills until one waits at most.
    "OVERSPILL_HIGH_WATERMARK": "3",
    "OVERSPILL_LOW_WATERMARK": "1",
    "OVERSPILL_MIN_DWELL_S": "1",
    # A short burst is watched closely. (A lease is renewed, and its progress told, three times in its life.)
    "OVERSPILL_LEASE_S": "6",
    "OVERSPILL_POLL_FIRST_S": "0.5",
    "OVERSPILL_POLL_MAX_S": "1",
    # Idle containers go at once, so that the dollars at the end are all of them, and scale to zero is seen.
    "OVERSPILL_MODAL_SCALEDOWN_WINDOW_S": "2",
    "OVERSPILL_LOG_FORMAT": "json",
}
#: As many containers at once as two cores bear beside two in-house slots.
MODAL_FLAGS = ("--max-containers", "3")
#: Nobody waits for the rest of an interrupted demo.
_STOP_GRACE_S = 1.5


def demo(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder that one of the videos is downloaded to.")] = Path(
        "out"
    ),
) -> None:
    """Twelve renders arrive at two in-house slots; what is too much for them runs on Modal (a local one).

    Everything runs on loopback, in a temporary folder, and is stopped at the end. The last line says how it went;
    "spent" is what Modal would have cost. Exit code 0 only if all twelve completed, some of them on each side, and
    every video was fetched from S3 and decoded.
    """
    from overspill.cli.demo.run import run  # noqa: PLC0415 - it imports Modal's SDK and av

    play(lambda stack: run(stack, out_folder, say=say), settings=SETTINGS, modal_flags=MODAL_FLAGS)


def demo_budget() -> None:
    """The same burst meets a budget that runs out in the middle: jobs are held, then refused with their reason.

    Exit code 0 only if every job completed or was refused because the budget was spent, some of each, and the budget
    was at no instant passed.
    """
    from overspill.cli.demo.budget import SETTINGS as MONEY  # noqa: PLC0415 - it imports Modal's SDK
    from overspill.cli.demo.budget import run  # noqa: PLC0415

    play(lambda stack: run(stack, say=say), settings={**SETTINGS, **MONEY}, modal_flags=MODAL_FLAGS)


class Outcome(Protocol):
    """How a demo went."""

    @property
    def complaints(self) -> Sequence[str]:
        """What is not as it should be, a sentence each."""

    @property
    def exit_code(self) -> int:
        """0 only if there is nothing to complain about."""

    @property
    def last_line(self) -> str:
        """What a script reads."""


def play(run: Callable[["Stack"], Outcome], *, settings: Mapping[str, str], modal_flags: tuple[str, ...]) -> NoReturn:
    """Make a stack in a temporary folder, run a demo on it, stop everything on every path, and end with its outcome."""
    from overspill.dev.stack import Stack, StackOptions  # noqa: PLC0415 - it imports Celery and boto3

    for name in [name for name in os.environ if name.startswith("OVERSPILL_")]:
        del os.environ[name]  # the demo is the same for everyone
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="overspill-demo-"))
    outcome: Outcome | None = None
    try:
        with mistakes_said():
            stack = Stack(
                StackOptions(folder=folder, slots=SLOTS, flower=False, settings=settings, modal_flags=modal_flags),
                on_step=say,
            )
            with StopSignals(stack.cut) as signals:
                try:
                    outcome = run(stack)
                except KeyboardInterrupt:
                    fail("the demo was interrupted; everything was stopped.", exit_code=INTERRUPTED)
                finally:
                    signals.begin_to_stop()
                    stack.stop(grace_s=_STOP_GRACE_S)
    finally:
        _clean_up(folder, keep=outcome is not None and outcome.exit_code != 0)
    say(f"took {time.monotonic() - began:.1f} s, everything is stopped")
    for complaint in outcome.complaints:
        out.print(Text(f"! {complaint}", style="red"), soft_wrap=True)
    typer.echo(outcome.last_line)
    raise typer.Exit(outcome.exit_code)


def say(words: str) -> None:
    """One step, for whoever watches."""
    out.print(Text(f"... {words}", style="dim"), soft_wrap=True)


def _clean_up(folder: Path, *, keep: bool) -> None:
    if keep:
        say(f"the logs are kept in {folder / 'logs'}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
