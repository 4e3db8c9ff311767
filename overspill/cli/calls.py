"""`overspill calls`: what is in flight on Modal."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from overspill.cli.options import AsJson
from overspill.terminal.console import err, open_ledger, print_json, report_errors, show
from overspill.terminal.records import STATE_STYLES
from overspill.terminal.text import dollars, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.activity import CallInFlight

#: Below this width of the terminal, only the first columns are shown.
_WIDE_ENOUGH = 110
_NARROW_COLUMNS = 5


def calls(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of calls, oldest first.")] = 100,
    json: AsJson = False,
) -> None:
    """List the calls in flight on Modal, oldest first. `overspill cancel JOB` stops one."""
    with report_errors(), open_ledger() as ledger:
        found, total = ledger.stats.calls_in_flight(limit=limit)
        now_ms = ledger.placement.view().now_ms
    if json:
        print_json([_facts(call, now_ms) for call in found])
        return
    if not found:
        err.print("no call is in flight", markup=False)
        return
    show(lambda width: _table(found, now_ms, width))
    if total > len(found):
        err.print(f"and {total - len(found)} more", markup=False)


def _table(found: "Sequence[CallInFlight]", now_ms: int, width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    headings = ["job", "state", "class", "age", "done", "begun", "set aside", "attempt", "call"]
    for heading in headings if width >= _WIDE_ENOUGH else headings[:_NARROW_COLUMNS]:
        right = heading in ("age", "done", "begun", "set aside", "attempt")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for call in found:
        cells: list[RenderableType] = [
            call.job_id,
            Text(stage(call), style=STATE_STYLES[call.state] if call.state else "yellow"),
            call.gpu,
            _ago(call.spawned_ms or call.placed_ms, now_ms),
            f"{call.progress}%",
            _ago(call.began_ms, now_ms),
            dollars(call.reserved_usd_micros),
            str(call.attempt),
            call.call_id or "-",
        ]
        table.add_row(*(cells if width >= _WIDE_ENOUGH else cells[:_NARROW_COLUMNS]))
    return table


def stage(call: "CallInFlight") -> str:
    """How far a call is, in words."""
    if call.is_stopping:
        return "stopping"
    if call.spawned_ms is None:
        return "to spawn"
    if call.began_ms is None and call.state == "running":
        return "spawned"
    return str(call.state)


def _ago(at_ms: int | None, now_ms: int) -> str:
    return "-" if at_ms is None else duration(max(0, now_ms - at_ms) / 1000)


def _facts(call: "CallInFlight", now_ms: int) -> dict[str, object]:
    since_ms = call.spawned_ms or call.placed_ms
    return {
        "job_id": call.job_id,
        "attempt": call.attempt,
        "call_id": call.call_id,
        "gpu": call.gpu,
        "stage": stage(call),
        "age_s": None if since_ms is None else max(0, now_ms - since_ms) / 1000,
        "begun": call.began_ms is not None,
        "progress": call.progress,
        "reserved_usd_micros": call.reserved_usd_micros,
    }
