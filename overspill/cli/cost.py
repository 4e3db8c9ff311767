"""`overspill cost`: what a month cost, grouped one way."""

import csv
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from overspill.cli.options import AsJson
from overspill.terminal.console import err, fail, open_ledger, print_json, report_errors, show
from overspill.terminal.text import MICROS_PER_USD, dollars, signed_dollars

if TYPE_CHECKING:
    from ledger.budget import MonthBook

Cut = Literal["tenant", "kind", "class", "day", "component"]


def cost(
    by: Annotated[Cut, typer.Option(help="Grouping.")] = "kind",
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Month (UTC). Default: the current one.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on standard output.")] = False,
    json: AsJson = False,
) -> None:
    """Show what a month cost, on Modal and in-house, by tenant, kind of job, GPU class, day or component."""
    if as_csv and json:
        fail("expected --json or --csv, got both.", exit_code=2)
    with report_errors(), open_ledger() as ledger:
        name = month or _month_of(ledger.placement.view().now_ms)
        book = ledger.money.book(_checked(name), by=by)
    if json:
        print_json(_facts(book))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([by, "modal_usd", "inhouse_usd", "total_usd"])
        for label, (modal, inhouse) in rows(book).items():
            writer.writerow([label, *(f"{usd / MICROS_PER_USD:.6f}" for usd in (modal, inhouse, modal + inhouse))])
        sys.stdout.flush()
    elif not rows(book):
        err.print(f"nothing was spent in {name}", markup=False)
    else:
        show(lambda _: _table(book))
        if book.true_up:
            difference = int(book.true_up.get("difference_usd_micros", 0))
            err.print(f"a true-up by {book.true_up.get('who')} has booked {signed_dollars(difference)}", markup=False)


def rows(book: "MonthBook") -> Mapping[str, tuple[int, int]]:
    """Label -> micro-dollars on Modal and in-house: days in their order, everything else by cost."""
    labels = sorted({*book.modal, *book.inhouse})
    found = {label: (book.modal.get(label, 0), book.inhouse.get(label, 0)) for label in labels}
    return found if book.by == "day" else dict(sorted(found.items(), key=lambda row: -sum(row[1])))


def _table(book: "MonthBook") -> Table:
    found = rows(book)
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=True, footer_style="bold")
    modal, inhouse = (sum(row[place] for row in found.values()) for place in (0, 1))
    table.add_column(book.by, footer=book.month, no_wrap=True)
    for heading, total in (("modal", modal), ("in-house", inhouse), ("together", modal + inhouse)):
        table.add_column(heading, footer=dollars(total), justify="right", no_wrap=True)
    for label, (on_modal, at_home) in found.items():
        table.add_row(
            label,
            *(signed_dollars(usd) if usd < 0 else dollars(usd) for usd in (on_modal, at_home, on_modal + at_home)),
        )
    return table


def _facts(book: "MonthBook") -> dict[str, object]:
    return {
        "month": book.month,
        "by": book.by,
        "rows": [
            {book.by: label, "modal_usd_micros": modal, "inhouse_usd_micros": inhouse}
            for label, (modal, inhouse) in rows(book).items()
        ],
        "true_up": dict(book.true_up) or None,
    }


def _month_of(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m")


def _checked(month: str) -> str:
    try:
        return datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).strftime("%Y-%m")
    except ValueError:
        fail(f"--month: expected YYYY-MM, got {month[:40]!r}.", exit_code=2)
