"""`overspill top`: the system as it stands, drawn anew every second, until Ctrl-C.

The command only reads. It survives a ledger that is away, and restores the terminal when it ends. Drawing is pure.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ledger import Ledger, LedgerError
from ledger.activity import CallInFlight, LatestEvent
from ledger.models import Kind
from ledger.states import State
from ledger.view import ClusterView, KindView
from overspill.terminal.console import open_ledger, out, report_errors, show
from overspill.terminal.records import STATE_STYLES, short
from overspill.terminal.stop_signals import StopSignals
from overspill.terminal.text import dollars, duration, plain

#: Columns of a frame where there is no terminal.
_PLAIN_WIDTH = 100
#: Calls and events that are read for a frame; a terminal shows fewer.
CALLS_READ = 200
EVENTS_READ = 100
#: Terminal widths below which a frame drops its last columns, then all but the counts, then their headings.
_WIDE, _MIDDLING, _NARROW = 100, 64, 40
#: Lines above the lists: head, kinds, Modal, money, and the rules between.
_FIXED_LINES = 10
#: Share of the remaining lines that calls take; events take the rest.
_CALLS_SHARE = 0.4
_BAR_WIDTH = 24


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one plain frame, and end.")] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0.1, max=60, metavar="SECONDS", help="Time between two frames.")
    ] = 1.0,
) -> None:
    """Show queues, slots, spilling, calls on Modal, money and the latest events, until Ctrl-C."""
    with report_errors(), open_ledger() as ledger:
        shot = Snapshot(address=ledger.address)
        if once or not out.is_terminal:
            ledger.ping()  # a single frame cannot recover: fail instead
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


@dataclass(frozen=True)
class Snapshot:
    """One instant.

    Attributes:
        address: the ledger's.
        view: the cluster; None: nothing was ever seen.
        month_cap_usd_micros: the month's cap on what Modal may cost.
        calls: calls in flight, oldest first; perhaps not all.
        calls_total: how many there are.
        events: the newest, newest first.
        breaker: what the circuit breaker before Modal says, if it is not closed; else empty.
        away: why the ledger cannot be asked; None: it answers.
        away_s: for how long it has been away, seconds.
    """

    address: str
    view: ClusterView | None = None
    month_cap_usd_micros: int = 0
    calls: Sequence[CallInFlight] = ()
    calls_total: int = 0
    events: Sequence[LatestEvent] = ()
    breaker: str = ""
    away: str | None = None
    away_s: float = 0.0


def take(ledger: Ledger, *, before: Snapshot, since_s: float) -> Snapshot:
    """Read everything for one frame.

    Args:
        ledger: whom to ask.
        before: the last snapshot, shown on while the ledger is away.
        since_s: seconds since the last snapshot.
    """
    try:
        view = ledger.placement.view()
        calls, total = ledger.stats.calls_in_flight(limit=CALLS_READ)
        events = ledger.stats.events(limit=EVENTS_READ)
        stored = ledger.modal_calls.breaker()
        cap = ledger.money.limits().month_cap_usd_micros
    except LedgerError as error:
        return replace(before, away=str(error), away_s=before.away_s + since_s if before.away else 0.0)
    breaker = "" if stored.phase == "closed" else f"{stored.phase}: {stored.reason or 'unknown'}"
    return replace(
        before,
        view=view,
        month_cap_usd_micros=cap,
        calls=calls,
        calls_total=total,
        events=events,
        breaker=breaker,
        away=None,
        away_s=0.0,
    )


def frame(shot: Snapshot, *, width: int, height: int | None) -> RenderableType:
    """One frame. `height` None: as long as it wants to be."""
    if shot.view is None:
        return Group(_head(shot, width), Text("nothing has been seen yet", style="dim"))
    room = 20 if height is None else max(2, height - _FIXED_LINES)
    calls_room = min(len(shot.calls), max(1, int(room * _CALLS_SHARE)))
    events_room = max(0, room - calls_room - (2 if shot.calls else 0))
    parts: list[RenderableType] = [_head(shot, width), _kinds(shot.view, width), _modal(shot), _money(shot, width)]
    if shot.calls:
        parts += [_rule("calls in flight", width), _calls(shot, width, calls_room)]
    if events_room and shot.events:
        parts += [_rule("latest events", width), _events(shot.events[:events_room], width)]
    return Group(*parts)


def _rule(title: str, width: int) -> RenderableType:
    return Rule(title, align="left", style="dim", characters="─" if width >= _MIDDLING else "-")


def _head(shot: Snapshot, width: int) -> RenderableType:
    head = Text("overspill", style="bold", no_wrap=True, overflow="ellipsis")
    if shot.view is not None:
        head.append(f"  {datetime.fromtimestamp(shot.view.now_ms / 1000, UTC):%H:%M:%S} UTC", style="")
    if width >= _MIDDLING:
        head.append(f"  {shot.address}", style="dim")
    if shot.away is None:
        return head
    message = f"the ledger is away for {duration(shot.away_s)}; this is the last known state. {shot.away}"
    return Group(head, Text(message, style="bold red", no_wrap=True, overflow="ellipsis"))


def _kinds(view: ClusterView, width: int) -> RenderableType:
    if width < _NARROW:
        return Group(*(_terse(kind, view) for kind in Kind))
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, style="bold")
    for heading in ("queued", "waiting", "running"):
        table.add_column(heading, justify="right", no_wrap=True)
    if width >= _MIDDLING:
        for heading in ("slots", "oldest"):
            table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("spill", no_wrap=True)
    for kind in Kind:
        here = view.of(kind)
        cells = [str(kind), str(here.queued), str(here.waiting_inhouse), str(here.active_inhouse)]
        if width >= _MIDDLING:
            busy = min(here.active_inhouse, here.live_slots)
            oldest = duration(here.oldest_waiting_ms / 1000) if here.waiting_inhouse else "-"
            cells += [f"{busy} of {here.live_slots} busy", oldest]
        table.add_row(*cells, _spill(here, view))
    return table


def _terse(kind: Kind, view: ClusterView) -> Text:
    here = view.of(kind)
    counts = f" {here.queued}/{here.waiting_inhouse}/{here.active_inhouse} "
    return Text.assemble((str(kind), "bold"), counts, "spills" if here.spill.active else "", no_wrap=True)


def _spill(here: KindView, view: ClusterView) -> Text:
    if view.override != "auto":
        return Text(f"{view.override}, by an operator", style="bold yellow")
    since = f" for {duration((view.now_ms - here.spill.since_ms) / 1000)}" if here.spill.since_ms else ""
    return Text(f"ON{since}", style="bold magenta") if here.spill.active else Text(f"off{since}", style="dim")


def _modal(shot: Snapshot) -> RenderableType:
    stages = Counter(_stage(call) for call in shot.calls)
    classes = Counter(call.gpu for call in shot.calls if call.gpu)
    line = Text.assemble(("modal  ", "bold magenta"), f"{shot.calls_total} calls", no_wrap=True, overflow="ellipsis")
    if stages:
        line.append(": " + ", ".join(f"{count} {stage}" for stage, count in stages.most_common()))
        line.append("  " + ", ".join(f"{gpu} x{count}" for gpu, count in classes.most_common()), style="dim")
    if shot.view is not None and shot.view.held:
        line.append(f"  held {shot.view.held} jobs", style="bold yellow")
    if shot.breaker:
        line.append(f"  breaker {shot.breaker.replace('_', ' ')}", style="bold red")
    return line


def _stage(call: CallInFlight) -> str:
    if call.is_stopping:
        return "stopping"
    if call.spawned_ms is None:
        return "to spawn"
    return str(call.state)


def _money(shot: Snapshot, width: int) -> RenderableType:
    assert shot.view is not None  # noqa: S101  # the caller has looked
    money, cap = shot.view.money, shot.month_cap_usd_micros
    committed = money.spent_usd_micros + money.reserved_usd_micros
    words = Text.assemble(
        ("money  ", "bold"),
        f"{dollars(money.spent_usd_micros)} spent",
        (f" + {dollars(money.reserved_usd_micros)} set aside" if money.reserved_usd_micros else "", "dim"),
        f" of {dollars(cap)} this month",
        no_wrap=True,
        overflow="ellipsis",
    )
    if width < _WIDE or cap <= 0:
        return words
    row = Table.grid(padding=(0, 2))
    style = "red" if committed >= 0.9 * cap else "yellow" if committed >= cap / 2 else "green"
    bar = ProgressBar(total=cap, completed=committed, width=_BAR_WIDTH, complete_style=style, finished_style="bold red")
    row.add_row(words, bar, Text(f"{committed / cap:.0%}", style=style))
    return row


def _calls(shot: Snapshot, width: int, room: int) -> RenderableType:
    assert shot.view is not None  # noqa: S101  # the caller has looked
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for call in shot.calls[:room]:
        since_ms = call.spawned_ms or call.placed_ms or shot.view.now_ms
        cells: list[RenderableType] = [
            short(call.job_id),
            Text(_stage(call), style=STATE_STYLES[call.state] if call.state else "yellow"),
            duration(max(0, shot.view.now_ms - since_ms) / 1000),
        ]
        if width >= _MIDDLING:
            cells += [call.gpu, f"{call.progress}%"]
        if width >= _WIDE:
            cells += [f"{dollars(call.reserved_usd_micros)} set aside", Text(f"attempt {call.attempt}", style="dim")]
        table.add_row(*cells)
    left = shot.calls_total - min(room, len(shot.calls))
    return Group(table, Text(f"and {left} more", style="dim")) if left > 0 else table


def _events(events: Sequence[LatestEvent], width: int) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0), width=width)
    table.add_column(no_wrap=True, style="dim")
    if width >= _MIDDLING:
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for event in events:
        clock = f"{datetime.fromtimestamp(event.at_ms / 1000, UTC):%H:%M:%S}"
        style = STATE_STYLES.get(State(event.state), "") if event.state in set(State) else "yellow"
        cells: list[RenderableType] = [clock, Text(event.event, style=style), _about(event)]
        if width >= _MIDDLING:
            cells.insert(1, short(event.job_id) if event.job_id else "")
        table.add_row(*cells)
    return table


def _about(event: LatestEvent) -> Text:
    where = {"inhouse": "in-house", "modal": f"modal {event.gpu or ''}".strip()}.get(event.pool or "", "")
    detail = ("  " if where else "") + plain(event.detail) if event.detail else ""
    return Text.assemble((where, "magenta" if event.pool == "modal" else "green"), (detail, "dim"))
