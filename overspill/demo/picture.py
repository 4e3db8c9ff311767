"""The demo at one instant: as a live table on a terminal, as lines in a file or a pipe."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ledger.models import JobRecord, Kind
from ledger.states import Pool, State
from ledger.view import ClusterView
from overspill.terminal.records import STATE_STYLES, age_s, place, short, summary
from overspill.terminal.text import dollars

_POOL_STYLES = {Pool.INHOUSE: "green", Pool.MODAL: "magenta"}
_BAR_WIDTH = 14
#: As wide as a short id.
_ID_WIDTH = 15
_GAP = "   "
#: Below this width of the terminal, prompts are not shown.
_WIDE_ENOUGH = 100


@dataclass(frozen=True)
class Picture:
    """One instant.

    Attributes:
        expected: how many requests there will be.
        records: the jobs that have arrived, in the order of their arrival.
        view: the cluster.
        containers: live Modal containers; None: not known.
        elapsed_s: since the first arrival, seconds.
        cap_usd_micros: the budget, where the demo is about it.
    """

    expected: int
    records: Sequence[JobRecord]
    view: ClusterView
    containers: int | None
    elapsed_s: float
    cap_usd_micros: int | None = None

    @property
    def ended(self) -> int:
        """Jobs that have ended."""
        return sum(record.is_terminal for record in self.records)

    @property
    def inhouse_usd_micros(self) -> int:
        """What the jobs cost in-house."""
        return sum(record.cost_usd_micros for record in self.records if record.pool is Pool.INHOUSE)


def table(picture: Picture, *, width: int) -> RenderableType:
    """The live table, with what the placement sees above it."""
    wide = width >= _WIDE_ENOUGH
    jobs = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, expand=wide)
    jobs.add_column("#", justify="right", style="dim", min_width=2)
    jobs.add_column("job", no_wrap=True, min_width=_ID_WIDTH)
    jobs.add_column("state", no_wrap=True, min_width=10)
    jobs.add_column("where", no_wrap=True, min_width=14)
    jobs.add_column("progress", no_wrap=True, min_width=_BAR_WIDTH + 5)
    jobs.add_column("seconds", justify="right", no_wrap=True, min_width=7)
    jobs.add_column("cost", justify="right", no_wrap=True, min_width=7)
    if wide:
        jobs.add_column("prompt", no_wrap=True, overflow="ellipsis", style="dim", ratio=1)
    for number, record in enumerate(picture.records, start=1):
        jobs.add_row(str(number), *_row(record, picture.view.now_ms, with_prompt=wide))
    for number in range(len(picture.records) + 1, picture.expected + 1):
        jobs.add_row(str(number), Text("not yet arrived", style="dim"))
    return Group(Padding(_header(picture), (1, 0, 0, 0)), jobs)


def _row(record: JobRecord, now_ms: int, *, with_prompt: bool) -> list[RenderableType]:
    where = Text(place(record), style=_POOL_STYLES[record.pool] if record.pool else "dim")
    if record.pool is None and _reason(record):
        where = Text(_reason(record), style=STATE_STYLES[record.state])
    if record.attempt > 1:
        where.append(f" (attempt {record.attempt})", style="yellow")
    cells: list[RenderableType] = [
        short(record.id),
        Text(str(record.state), style=STATE_STYLES[record.state]),
        where,
        _bar(record, now_ms),
        f"{age_s(record, now_ms):.1f}",
        dollars(record.cost_usd_micros) if record.cost_usd_micros else Text("-", style="dim"),
    ]
    if with_prompt:
        cells.append(summary(record))
    return cells


def _reason(record: JobRecord) -> str:
    """Why it waits, or why it was refused."""
    return (record.held_reason if record.state is State.HELD else record.error_code) or ""


def _bar(record: JobRecord, now_ms: int) -> RenderableType:
    # Without a progress report the bar pulses.
    unknown = record.state in (State.RUNNING, State.DELIVERING) and record.progress == 0
    row = Table.grid(padding=(0, 1))
    row.add_row(
        ProgressBar(
            total=100,
            completed=record.progress,
            width=_BAR_WIDTH,
            pulse=unknown,
            animation_time=now_ms / 1000,
            pulse_style="blue",
            complete_style="blue" if not record.is_terminal else STATE_STYLES[record.state],
            finished_style=STATE_STYLES[record.state],
        ),
        Text(f"{record.progress:>3}%", style="dim") if record.progress else Text(""),
    )
    return row


def _header(picture: Picture) -> RenderableType:
    """Lines of at most 80 characters: what the placement sees, what it costs, and who waits for money."""
    here, money = picture.view.of(Kind.RENDER), picture.view.money
    spilling = here.spill.active
    return Text.assemble(
        ("in-house ", "bold green"),
        f"{min(here.active_inhouse, here.live_slots)} of {here.live_slots} slots busy, ",
        (f"{here.waiting_inhouse} wait", "bold" if here.waiting_inhouse else ""),
        _GAP,
        ("spill ", "bold"),
        ("ON " if spilling else "off", "bold magenta" if spilling else "dim"),
        _GAP,
        ("modal ", "bold magenta"),
        f"{picture.view.modal_attempts} calls",
        "" if picture.containers is None else f", {picture.containers} containers",
        "\n",
        ("done ", "bold"),
        f"{picture.ended} of {picture.expected} in {picture.elapsed_s:.0f} s",
        _GAP,
        ("spent ", "bold"),
        dollars(money.spent_usd_micros),
        (f" + {dollars(money.reserved_usd_micros)} reserved" if money.reserved_usd_micros else "", "dim"),
        "" if picture.cap_usd_micros is None else (f" of {dollars(picture.cap_usd_micros)}", "bold"),
        (f", in-house {dollars(picture.inhouse_usd_micros)}", "dim"),
        (
            f"\nheld {picture.view.held}, until there is money or their time is over" if picture.view.held else "",
            "yellow",
        ),
    )


def changes(before: Picture | None, after: Picture) -> list[str]:
    """What happened between two instants, a line each, where there is no terminal for a table."""
    known = {record.id: record for record in before.records} if before else {}
    lines = []
    spilled = before is not None and before.view.of(Kind.RENDER).spill.active
    spills = after.view.of(Kind.RENDER).spill.active
    if spills != spilled:
        waiting = after.view.of(Kind.RENDER).waiting_inhouse
        lines.append(f"spill {'ON' if spills else 'off'}, {waiting} wait in-house")
    for number, record in enumerate(after.records, start=1):
        was = known.get(record.id)
        if was is None or (was.state, was.attempt) != (record.state, record.attempt):
            cost = f", {dollars(record.cost_usd_micros)}" if record.is_terminal else ""
            where = f" on {place(record)}" if record.pool else ""
            if not record.pool and _reason(record):
                where = f": {_reason(record)}"
            lines.append(f"{number:>2} {record.id} {record.state}{where}{cost}")
    return [f"{after.elapsed_s:6.1f} s  {line}" for line in lines]


class Reporter(AbstractContextManager["Reporter"], Protocol):
    """Shows one picture after the other."""

    def show(self, picture: Picture) -> None:
        """Show how it stands now."""


class LiveTable:
    """For a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, picture: Picture) -> None:
        """Draw the table anew."""
        self._live.update(table(picture, width=self._console.width), refresh=True)


class PlainLines:
    """For everything else."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._before: Picture | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def show(self, picture: Picture) -> None:
        """Print what has changed."""
        for line in changes(self._before, picture):
            self._console.print(Text(line), soft_wrap=True)
        self._before = picture


def reporter_for(console: Console) -> Reporter:
    """The table on a terminal, lines elsewhere."""
    return LiveTable(console) if console.is_terminal else PlainLines(console)
