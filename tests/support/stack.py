"""A whole stack for a test: real processes on free ports, in a folder of its own, stopped at the end on every path."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from overspill.dev.stack import Stack, StackOptions

REPOSITORY = Path(__file__).parents[2]


def processes_of(folder: Path) -> dict[int, str]:
    """Every process that belongs to the stack of a folder: pid -> its command line.

    They all carry the folder, in their environment or in their arguments (see overspill/dev/environment.py).
    """
    found = {}
    for proc in Path("/proc").iterdir():
        if not proc.name.isdigit() or int(proc.name) == os.getpid():
            continue
        try:
            command = (proc / "cmdline").read_bytes()
            facts = command + (proc / "environ").read_bytes()
        except OSError:
            continue  # it has just ended, or is not ours to look at
        if str(folder).encode() in facts:
            found[int(proc.name)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


@contextmanager
def running_stack(
    folder: Path,
    *,
    slots: int = 1,
    flower: bool = False,
    settings: Mapping[str, str] | None = None,
    modal_flags: tuple[str, ...] = ("--max-containers", "2"),
    train: bool = False,
) -> Iterator[Stack]:
    """A stack that is ready, for the time of the block. `stack.environment` points others at it."""
    stack = Stack(
        StackOptions(
            folder=folder,
            root=REPOSITORY,
            slots=slots,
            flower=flower,
            settings=settings or {},
            modal_flags=modal_flags,
            train=train,
        )
    )
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def overspill_command(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Start the command `overspill` in a process of its own; its output is piped, as text."""
    return subprocess.Popen(
        [sys.executable, "-m", "overspill.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
