"""`overspill submit | jobs | watch | cancel`."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ledger.models import JobRecord, Kind
from ledger.outcomes import AlreadyEnded, Cancelled
from ledger.states import State
from overspill.cli.options import AsJson, JobId
from overspill.terminal import curves
from overspill.terminal.console import (
    FAILED,
    UNBOUNDED,
    err,
    fail,
    open_ledger,
    out,
    print_json,
    report_errors,
    unwrapped,
)
from overspill.terminal.records import STATE_STYLES, age_s, as_json, how_it_stands, place, summary
from overspill.terminal.text import dollars

if TYPE_CHECKING:
    from ledger import Ledger

_LOOK_EVERY_S = 0.25
#: Newest jobs that a search for a rare state reads at most.
_SCAN_AT_MOST = 2_000
_PAGE = 100
#: Below this width of the terminal, only the first columns are shown.
_WIDE_ENOUGH = 110
_NARROW_COLUMNS = 5


def submit(
    prompt: Annotated[str, typer.Argument(help="What the video shows, in words.")],
    seconds: Annotated[int, typer.Option(help="Length of the clip, seconds.")] = 4,
    size: Annotated[str, typer.Option(help="Width x height, pixels, e.g. 1280x720.")] = "720x1280",
    fps: Annotated[int, typer.Option(help="Frames per second.")] = 24,
    seed: Annotated[int, typer.Option(help="The same prompt and seed give the same video.")] = 0,
    priority: Annotated[int, typer.Option(help="Priority, 0 (last) to 9 (first).")] = 5,
    burst: Annotated[str, typer.Option(help="Whether it may run on Modal: never, auto or always.")] = "auto",
    deadline_s: Annotated[float | None, typer.Option(help="Deadline, seconds from now.")] = None,
    tenant: Annotated[str, typer.Option(help="Tenant that pays.")] = "default",
    idempotency_key: Annotated[
        str | None, typer.Option(help="A key that was used before returns the same job.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show its progress until it ends.")] = False,
    json: AsJson = False,
) -> None:
    """Submit a render job and print its id."""
    from overspill.client import Client  # noqa: PLC0415 - `--help` needs no Redis

    with report_errors(), Client() as client:
        job_id = client.submit(
            prompt=prompt,
            seconds=seconds,
            size=size,
            fps=fps,
            seed=seed,
            priority=priority,
            burst=burst,
            deadline_s=deadline_s,
            tenant=tenant,
            idempotency_key=idempotency_key,
        )
        if not json:
            typer.echo(job_id)
        if wait:
            follow(job_id)
        record = client.status(job_id)
        if json:
            print_json(as_json(record))
    if wait and record.state is not State.COMPLETED:
        raise typer.Exit(FAILED)


def list_jobs(
    kind: Annotated[Kind, typer.Option(help="Kind of the jobs.")] = Kind.RENDER,
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of jobs, newest first.")] = 20,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="List the jobs whose record cannot be read.")
    ] = False,
    json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    if quarantined:
        _list_quarantined(in_json=json)
        return
    with report_errors():
        records, now_ms = _newest(kind, state, limit)
    if json:
        print_json([as_json(record) for record in records])
        return
    if not records:
        err.print(f"no {kind} job{f' is {state}' if state else ''} yet", markup=False)
        return
    console = unwrapped()
    console.print(_table(records, now_ms, width=console.width))


def _list_quarantined(*, in_json: bool) -> None:
    """Jobs in quarantine, with the reason."""
    with report_errors(), open_ledger() as ledger:
        found = ledger.jobs.quarantined()
    if in_json:
        print_json([{"id": job_id, "reason": reason} for job_id, reason in sorted(found.items())])
    elif not found:
        err.print("no job is in quarantine", markup=False)
    else:
        for job_id, reason in sorted(found.items()):
            out.print(f"{job_id}  {reason}", markup=False, highlight=False, soft_wrap=True)


def _newest(kind: Kind, state: State | None, limit: int) -> tuple[list[JobRecord], int]:
    found: list[JobRecord] = []
    with open_ledger() as ledger:
        now_ms = ledger.placement.view().now_ms
        after, scanned = None, 0
        while len(found) < limit and scanned < _SCAN_AT_MOST:
            page = ledger.jobs.page(kind, after=after, limit=min(_PAGE, limit) if state is None else _PAGE)
            scanned += len(page.records)
            found += [record for record in page.records if state in (None, record.state)]
            if not page.has_more or not page.records:
                break
            after = page.records[-1].id
    return found[:limit], now_ms


def _table(records: list[JobRecord], now_ms: int, *, width: int) -> Table:
    """A table with whole ids, to be copied. A narrow terminal drops the last columns instead."""
    columns: list[tuple[str, Literal["left", "right"], Callable[[JobRecord], str | Text]]] = [
        ("job", "left", lambda record: record.id),
        ("state", "left", lambda record: Text(str(record.state), style=STATE_STYLES[record.state])),
        ("where", "left", place),
        ("done", "right", lambda record: f"{record.progress}%"),
        ("seconds", "right", lambda record: f"{age_s(record, now_ms):.1f}"),
        ("cost", "right", lambda record: dollars(record.cost_usd_micros)),
        ("attempts", "right", lambda record: str(record.attempt)),
        ("prompt", "left", lambda record: Text(summary(record))),
    ]
    if width < _WIDE_ENOUGH:
        columns = columns[:_NARROW_COLUMNS]
    table = Table(box=None, pad_edge=False, header_style="bold", width=width if width < UNBOUNDED else None)
    for heading, justify, _ in columns:
        is_last = heading == "prompt"
        table.add_column(
            heading, justify=justify, no_wrap=True, overflow="ellipsis" if is_last else "crop",
            ratio=1 if is_last else None,
        )  # fmt: skip
    for record in records:
        table.add_row(*(cell(record) for _, _, cell in columns))
    return table


def watch(job: JobId, json: AsJson = False) -> None:
    """Show a job's progress until it ends; exit code 0 only if it completed."""
    with report_errors():
        record = follow(job)
        if json:
            print_json(as_json(record))
    if record.state is not State.COMPLETED:
        raise typer.Exit(FAILED)


def follow(job_id: str) -> JobRecord:
    """Show a job until it ends: a bar on a terminal, a line for each change elsewhere."""
    with open_ledger() as ledger:
        record = ledger.jobs.get(job_id)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        printed = ""
        with Progress(*columns, TimeElapsedColumn(), console=err, disable=not err.is_terminal) as progress:
            bar = progress.add_task(how_it_stands(record), total=100)
            while True:
                words = how_it_stands(record)
                if record.kind is Kind.TRAIN and err.is_terminal:
                    words += _curve(ledger, job_id)
                progress.update(bar, completed=record.progress, description=words)
                if words != printed and not err.is_terminal:
                    err.print(words, markup=False)
                printed = words
                if record.is_terminal:
                    break
                time.sleep(_LOOK_EVERY_S)
                record = ledger.jobs.get(job_id)
    if record.artifact is not None:
        seconds = age_s(record, record.finished_ms or 0)
        where = f"s3://{record.artifact.bucket}/{record.artifact.key}"
        err.print(f"{where}  {seconds:.1f} s  {dollars(record.cost_usd_micros)}", markup=False)
    return record


def _curve(ledger: "Ledger", job_id: str) -> str:
    """A training run's loss as a sparkline, and where it stands."""
    rows = ledger.attempts.training_rows(job_id)
    return f"  {curves.sparkline(curves.losses(rows))}  {curves.in_words(rows)}" if rows else ""


def cancel(job: JobId, json: AsJson = False) -> None:
    """Cancel a job, in any state. A GPU that works on it stops."""
    with report_errors(), open_ledger() as ledger:
        outcome = ledger.jobs.cancel(job)
    match outcome:
        case Cancelled(was):
            if json:
                print_json({"id": job, "cancelled": True, "was": was})
            else:
                typer.echo(f"cancelled (it was {was})")
        case AlreadyEnded(state):
            if json:
                print_json({"id": job, "cancelled": False, "was": state})
            fail(f"job {job} has already ended: it is {state}.")
