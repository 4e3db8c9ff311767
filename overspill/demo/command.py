"""`overspill demo`, `demo-budget` and `demo-train`, from an empty folder to the last line."""

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, Protocol

import typer
from rich.text import Text

from overspill.terminal.console import INTERRUPTED, fail, out, report_errors
from overspill.terminal.stop_signals import StopSignals

if TYPE_CHECKING:
    from overspill.dev.stack import Stack

SLOTS = 2
SETTINGS = {
    # Two busy slots and three waiting jobs are enough; further jobs spill until at most one waits.
    "OVERSPILL_HIGH_WATERMARK": "3",
    "OVERSPILL_LOW_WATERMARK": "1",
    "OVERSPILL_MIN_DWELL_S": "1",
    # A short burst is watched closely. (A lease is renewed, with the progress, three times in its life.)
    "OVERSPILL_LEASE_S": "6",
    "OVERSPILL_POLL_FIRST_S": "0.5",
    "OVERSPILL_POLL_MAX_S": "1",
    # Idle containers end soon, so that the final dollars are complete, and scale-to-zero shows.
    "OVERSPILL_MODAL_SCALEDOWN_WINDOW_S": "2",
    "OVERSPILL_LOG_FORMAT": "json",
}
#: Containers at once that two cores can run beside two in-house slots.
MODAL_FLAGS = ("--max-containers", "3")
#: An interrupted demo ends soon, seconds.
_STOP_GRACE_S = 1.5


def demo(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for one downloaded video.")] = Path("out"),
) -> None:
    """Send twelve renders to two in-house slots; the overflow runs on Modal (a local one).

    Everything runs on loopback, in a temporary folder, and is stopped at the end. The last line is the result;
    "spent" is what Modal would have cost. Exit code 0 only if all twelve completed, some of them in each pool, and
    every video was fetched from S3 and decoded.
    """
    from overspill.demo.render import run  # noqa: PLC0415 - it imports Modal's SDK and av

    play(lambda stack: run(stack, out_folder, say=say), settings=SETTINGS, modal_flags=MODAL_FLAGS)


def demo_budget() -> None:
    """Run the same burst on a budget that runs out in the middle: jobs are held, then refused with their reason.

    Exit code 0 only if every job completed or was refused because the budget was spent, some of each, and the budget
    was never exceeded.
    """
    from overspill.demo.budget import SETTINGS as BUDGET_SETTINGS  # noqa: PLC0415 - it imports Modal's SDK
    from overspill.demo.budget import run  # noqa: PLC0415

    play(lambda stack: run(stack, say=say), settings={**SETTINGS, **BUDGET_SETTINGS}, modal_flags=MODAL_FLAGS)


def demo_train(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for the rendered video.")] = Path("out"),
) -> None:
    """Train in-house and on Modal (a local one), kill a container, watch its run resume, and render with the result.

    A classifier trains in-house, a diffusion transformer on Modal. The classifier judges the transformer's samples.
    Everything runs on loopback, in a temporary folder. The last line is the result. Exit code 0 only if the
    classifier reached 97 %, 90 % of the samples are recognised, and the run survived.
    """
    if importlib.util.find_spec("torch") is None:
        fail("training needs PyTorch, and it is not installed: run `bash scripts/setup.sh --torch`.")
    from overspill.demo.train import MODAL_FLAGS as FLAGS  # noqa: PLC0415 - it imports torch
    from overspill.demo.train import SETTINGS as TRAIN_SETTINGS  # noqa: PLC0415
    from overspill.demo.train import run  # noqa: PLC0415

    play(lambda stack: run(stack, out_folder, say=say), settings=TRAIN_SETTINGS, modal_flags=FLAGS, slots=1, train=True)


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


def play(
    run: Callable[["Stack"], Outcome],
    *,
    settings: Mapping[str, str],
    modal_flags: tuple[str, ...],
    slots: int = SLOTS,
    train: bool = False,
) -> NoReturn:
    """Make a stack in a temporary folder, run a demo on it, stop everything on every path, and exit with its outcome.

    The folder is removed, unless the demo failed: then its logs are kept.
    """
    from overspill.dev.stack import Stack, StackOptions  # noqa: PLC0415 - it imports Celery and boto3

    for name in [name for name in os.environ if name.startswith("OVERSPILL_")]:
        del os.environ[name]  # the demo is the same for everyone
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="overspill-demo-"))
    options = StackOptions(
        folder=folder, slots=slots, flower=False, settings=settings, modal_flags=modal_flags, train=train
    )
    outcome: Outcome | None = None
    interrupted = False
    try:
        with report_errors():
            stack = Stack(options, on_step=say)
            with StopSignals(stack.cut) as signals:
                try:
                    outcome = run(stack)
                except KeyboardInterrupt:
                    interrupted = True
                    fail("the demo was interrupted; everything was stopped.", exit_code=INTERRUPTED)
                finally:
                    signals.begin_to_stop()
                    stack.stop(grace_s=_STOP_GRACE_S)
    finally:
        failed = outcome is None or outcome.exit_code != 0
        _clean_up(folder, keep=failed and not interrupted and (folder / "logs").exists())
    say(f"took {time.monotonic() - began:.1f} s, everything is stopped")
    for complaint in outcome.complaints:
        out.print(Text(f"! {complaint}", style="red"), soft_wrap=True)
    typer.echo(outcome.last_line)
    raise typer.Exit(outcome.exit_code)


def say(step: str) -> None:
    """Print one step."""
    out.print(Text(f"... {step}", style="dim"), soft_wrap=True)


def _clean_up(folder: Path, *, keep: bool) -> None:
    if keep:
        say(f"the logs are kept in {folder / 'logs'}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
