"""How a job's life looks: for a person, and as JSON. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from overspill.cli.why.life import Attempt, Life, Step
from overspill.terminal.records import STATE_STYLES, as_json, summary
from overspill.terminal.text import dollars, duration, plain

#: Below this width of the terminal, the clock times of steps are left out.
_WIDE_ENOUGH = 70
_INDENT = 2


def picture(life: Life, *, width: int) -> RenderableType:
    """A life for a person."""
    record = life.record
    asked = f"  {record.kind} of {record.tenant}, priority {record.priority}, burst {record.burst}"
    if record.deadline_ms:
        asked += f", wanted within {duration((record.deadline_ms - record.created_ms) / 1000)}"
    head = Text.assemble((record.id, "bold"), asked)
    about = Text(summary(record), style="dim", no_wrap=True, overflow="ellipsis")
    ending = Text(life.ending, style=STATE_STYLES[record.state])
    parts: list[RenderableType] = [
        head,
        about,
        ending,
        Padding(_steps(life, clock=width >= _WIDE_ENOUGH), (1, 0, 0, 0)),
    ]
    if life.attempts:
        parts.append(Padding(_attempts(life), (1, 0, 0, 0)))
    return Group(*parts)


def _steps(life: Life, *, clock: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    if clock:
        table.add_column(no_wrap=True, style="dim")
    table.add_column(no_wrap=True, justify="right", style="dim")
    table.add_column(ratio=1)
    for step in life.steps:
        after = f"+{(step.at_ms - life.record.created_ms) / 1000:.1f} s"
        cells: list[RenderableType] = [after, _in_words(step)]
        table.add_row(*([_clock(step.at_ms)] if clock else []), *cells)
    return table


def _in_words(step: Step) -> RenderableType:
    text = Text(step.text)
    if not step.seen:
        return text
    return Group(text, Padding(Text("saw: " + "; ".join(step.seen), style="dim"), (0, 0, 0, _INDENT)))


def _attempts(life: Life) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("attempt", justify="right", no_wrap=True)
    table.add_column("where", no_wrap=True)
    table.add_column("waited", justify="right", no_wrap=True)
    table.add_column("ran", justify="right", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    table.add_column("how it ended", ratio=1)
    for one in life.attempts:
        table.add_row(
            str(one.number), one.where, _span(one.waited_s), _span(one.ran_s), dollars(one.cost_usd_micros), _how(one)
        )
    return table


def _how(one: Attempt) -> Text:
    text = Text(one.how)
    if one.message:
        text.append(f": {one.message}", style="dim")
    if one.reserved_usd_micros:
        text.append(f" ({dollars(one.reserved_usd_micros)} set aside)", style="yellow")
    if one.components:
        parts = ", ".join(f"{plain(name)} {dollars(amount)}" for name, amount in one.components.items())
        text.append(f" ({parts})", style="dim")
    for name, value in (
        ("worker", one.worker),
        ("call", one.call_id),
        ("container", one.measurements.get("container_id")),
    ):
        if value:
            text.append(f"\n{name} {value}", style="dim")
    return text


def _span(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S.") + f"{at_ms % 1000:03d}"


def facts(life: Life) -> dict[str, object]:
    """A life for programs: the job as the other commands give it, its steps, its attempts."""
    return {
        "job": as_json(life.record),
        "ending": life.ending,
        "steps": [
            {
                "at_ms": step.at_ms,
                "event": step.event,
                "attempt": step.attempt,
                "text": step.text,
                "receipt": dict(step.receipt) if step.receipt is not None else None,
            }
            for step in life.steps
        ],
        "attempts": [_attempt_facts(one) for one in life.attempts],
    }


def _attempt_facts(one: Attempt) -> Mapping[str, object]:
    return {
        "attempt": one.number,
        "where": one.where,
        "worker": one.worker,
        "call_id": one.call_id,
        "waited_s": one.waited_s,
        "ran_s": one.ran_s,
        "outcome": one.outcome,
        "message": one.message,
        "cost_usd_micros": one.cost_usd_micros,
        "cost_by_component_usd_micros": dict(one.components),
        "reserved_usd_micros": one.reserved_usd_micros,
        "measurements": dict(one.measurements),
    }
