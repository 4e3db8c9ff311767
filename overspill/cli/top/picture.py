"""How a snapshot looks, in whatever room there is: what does not fit goes, the least important first. Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ledger.looking import CallInFlight, LatestEvent
from ledger.models import Kind
from ledger.states import State
from ledger.view import ClusterView, KindView
from overspill.cli.records import STATE_STYLES, dollars, short
from overspill.cli.top.snapshot import Snapshot
from overspill.cli.why.words import plain, span

#: Below these widths, first the last columns go, then all but the counts, then their headings.
_WIDE, _MIDDLING, _NARROW = 100, 64, 40
#: Lines that stand above the lists: the head, the kinds, Modal, money, and the rules between.
_FIXED_LINES = 10
#: Of the lines that are left, so much is for calls; the rest for events.
_CALLS_SHARE = 0.4
_BAR_WIDTH = 24


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
    trouble = f"the ledger is away for {span(shot.away_s)}; what follows is what was last seen. {shot.away}"
    return Group(head, Text(trouble, style="bold red", no_wrap=True, overflow="ellipsis"))


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
            oldest = span(here.oldest_waiting_ms / 1000) if here.waiting_inhouse else "-"
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
    since = f" for {span((view.now_ms - here.spill.since_ms) / 1000)}" if here.spill.since_ms else ""
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
            span(max(0, shot.view.now_ms - since_ms) / 1000),
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
