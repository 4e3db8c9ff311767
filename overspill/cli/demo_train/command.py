"""`overspill demo-train`, from an empty folder to the last line."""

import importlib.util
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from overspill.cli.demo_train.runs import MODAL_FLAGS, SETTINGS
from overspill.cli.stopping import StopSignals
from overspill.cli.surroundings import INTERRUPTED, fail, mistakes_said, out

#: Nobody waits for the rest of an interrupted demo.
_STOP_GRACE_S = 1.5


def demo_train(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder that the video is put into.")] = Path("out"),
) -> None:
    """Train in-house and on Modal (a local one), kill a container, see its run go on, and render with what it made.

    A classifier trains in-house, a diffusion transformer on Modal. The classifier judges the transformer's samples.
    Everything runs on loopback, in a temporary folder. The last line says how it went. Exit code 0 only if the
    classifier reached 97 %, 90 % of the samples are recognised, and the run survived.
    """
    if importlib.util.find_spec("torch") is None:
        fail("training needs PyTorch, and it is not installed: run `bash scripts/setup.sh --torch`.")
    from overspill.cli.demo_train.run import run  # noqa: PLC0415 - it imports torch
    from overspill.dev.stack import Stack, StackOptions  # noqa: PLC0415 - it imports Celery and boto3

    for name in [name for name in os.environ if name.startswith("OVERSPILL_")]:
        del os.environ[name]  # the demo is the same for everyone
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="overspill-demo-train-"))
    verdict, interrupted = None, False
    try:
        with mistakes_said():
            stack = Stack(
                StackOptions(
                    folder=folder, slots=1, flower=False, settings=SETTINGS, modal_flags=MODAL_FLAGS, train=True
                ),
                on_step=_say,
            )
            with StopSignals(stack.cut) as signals:
                try:
                    verdict = run(stack, out_folder, say=_say)
                except KeyboardInterrupt:
                    interrupted = True
                    fail("the demo was interrupted; everything was stopped.", exit_code=INTERRUPTED)
                finally:
                    signals.begin_to_stop()
                    stack.stop(grace_s=_STOP_GRACE_S)
    finally:
        if not interrupted and (verdict is None or verdict.exit_code != 0) and (folder / "logs").exists():
            _say(f"the logs are kept in {folder / 'logs'}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    _say(f"took {time.monotonic() - began:.1f} s, everything is stopped")
    for complaint in verdict.all_complaints:
        out.print(Text(f"! {complaint}", style="red"), soft_wrap=True)
    typer.echo(verdict.last_line)
    raise typer.Exit(verdict.exit_code)


def _say(words: str) -> None:
    out.print(Text(f"... {words}", style="dim"), soft_wrap=True)
