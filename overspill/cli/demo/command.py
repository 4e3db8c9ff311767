"""`overspill demo`, from an empty folder to the last line."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from overspill.cli.stopping import StopSignals
from overspill.cli.surroundings import INTERRUPTED, fail, mistakes_said, out

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
    from overspill.dev.stack import Stack, StackOptions  # noqa: PLC0415 - it imports Celery and boto3

    for name in [name for name in os.environ if name.startswith("OVERSPILL_")]:
        del os.environ[name]  # the demo is the same for everyone
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="overspill-demo-"))
    verdict = None
    try:
        with mistakes_said():
            stack = Stack(
                StackOptions(folder=folder, slots=SLOTS, flower=False, settings=SETTINGS, modal_flags=MODAL_FLAGS),
                on_step=_say,
            )
            with StopSignals(stack.cut) as signals:
                try:
                    verdict = run(stack, out_folder, say=_say)
                except KeyboardInterrupt:
                    fail("the demo was interrupted; everything was stopped.", exit_code=INTERRUPTED)
                finally:
                    signals.begin_to_stop()
                    stack.stop(grace_s=_STOP_GRACE_S)
    finally:
        _clean_up(folder, keep=verdict is not None and verdict.exit_code != 0)
    _say(f"took {time.monotonic() - began:.1f} s, everything is stopped")
    for complaint in verdict.complaints:
        out.print(Text(f"! {complaint}", style="red"), soft_wrap=True)
    typer.echo(verdict.last_line)
    raise typer.Exit(verdict.exit_code)


def _say(words: str) -> None:
    out.print(Text(f"... {words}", style="dim"), soft_wrap=True)


def _clean_up(folder: Path, *, keep: bool) -> None:
    if keep:
        _say(f"the logs are kept in {folder / 'logs'}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
