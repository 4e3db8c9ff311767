"""`overspill top`, until Ctrl-C."""

import time
from typing import Annotated

import typer
from rich.live import Live

from overspill.cli.stopping import StopSignals
from overspill.cli.surroundings import mistakes_said, open_ledger, out, show

#: Where there is no terminal, lines are so long.
_PLAIN_WIDTH = 100


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one plain frame, and end.")] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0.1, max=60, metavar="SECONDS", help="Time between two frames.")
    ] = 1.0,
) -> None:
    """See queues, slots, spilling, calls on Modal, money and the latest events; until Ctrl-C."""
    from overspill.cli.top.picture import frame  # noqa: PLC0415 - `--help` needs none of it
    from overspill.cli.top.snapshot import Snapshot, take  # noqa: PLC0415

    with mistakes_said(), open_ledger() as ledger:
        shot = Snapshot(address=ledger.address)
        if once or not out.is_terminal:
            ledger.ping()  # where nobody sees it mend itself, an error is an error
            shot = take(ledger, before=shot, since_s=0)
            show(lambda width: frame(shot, width=width, height=None), width=_PLAIN_WIDTH)
            return
        with (
            StopSignals(lambda: None),
            Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
        ):
            looked_at = time.monotonic()
            try:
                while True:
                    now = time.monotonic()
                    shot, looked_at = take(ledger, before=shot, since_s=now - looked_at), now
                    size = out.size
                    live.update(frame(shot, width=size.width, height=size.height), refresh=True)
                    time.sleep(every_s)
            except KeyboardInterrupt:
                return
