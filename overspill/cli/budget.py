"""`overspill budget`: every cap, what is spent, set aside and left; its changes; and `budget true-up`: Modal's bill."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from overspill.cli.limits import history, set_limits, unset_limits
from overspill.cli.options import AsJson, who
from overspill.terminal.console import fail, open_ledger, print_json, report_errors, show
from overspill.terminal.text import dollars, signed_dollars

if TYPE_CHECKING:
    from ledger import Ledger
    from ledger.budget import BudgetView, LiveView, MonthBook, ScopeView
    from ledger.outcomes import Superseded, TooEarly, TruedUp

    TrueUp = TruedUp | TooEarly | Superseded

app = typer.Typer(
    help="See every cap, what is spent, set aside and left.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

_STYLES = {"ok": "green", "warn_50": "yellow", "warn_80": "bold yellow", "drain": "bold magenta", "stop": "bold red"}
#: Below this width of the terminal, what is projected and the stage's neighbours go.
_WIDE_ENOUGH = 76


@app.callback()
def budget(context: typer.Context, json: AsJson = False) -> None:
    """See every cap, what is spent, set aside and left. Dollars are Modal's; periods are UTC."""
    if context.invoked_subcommand is not None:
        return
    with report_errors(), open_ledger() as ledger:
        view = ledger.money.view()
        book = ledger.money.book(view.month_name, by="kind")
    if json:
        print_json(facts(view, book))
        return
    show(lambda width: picture(view, book, width=width))


app.command("set", short_help="Change limits for every process at once.")(set_limits)
app.command("unset", short_help="Take limits back.")(unset_limits)
app.command("history", short_help="See who changed which limit, and why.")(history)


@app.command("true-up", short_help="Compare with Modal's own bill now, and book the difference.")
def true_up(
    month: Annotated[
        str, typer.Option(metavar="YYYY-MM", help="A month that is over, to its end; default: this month up to now.")
    ] = "",
    json: AsJson = False,
) -> None:
    """Ask Modal for a month's bill, compare it with the ledger, and book what the ledger did not know."""
    from modal.exception import Error as ModalError  # noqa: PLC0415 - heavy, and only this command needs it

    from ledger.outcomes import Superseded, TooEarly, TruedUp  # noqa: PLC0415

    with report_errors(), open_ledger() as ledger:
        now_ms = ledger.placement.view().now_ms
        try:
            billed, outcome = _closed(ledger, month, now_ms) if month else _so_far(ledger, now_ms)
        except ModalError as error:
            fail(f"Modal did not give its bill: {type(error).__name__}: {error}")
    match outcome:
        case TruedUp(difference, used, already):
            if json:
                print_json({"billed_usd_micros": billed, "used_usd_micros": used, "booked_usd_micros": difference})
            elif already:
                typer.echo(f"billed {dollars(billed)}; this bill was booked before, nothing has changed")
            else:
                typer.echo(f"billed {dollars(billed)}, known {dollars(used)}: booked {signed_dollars(difference)}")
        case TooEarly(settled_until_ms):
            fail(f"calls are in flight whose cost is not known yet; compare one that ends {_when(settled_until_ms)}.")
        case Superseded(as_of_ms):
            fail(f"a later bill, which ends {_when(as_of_ms)}, is booked already.")


def _so_far(ledger: "Ledger", now_ms: int) -> "tuple[int, TrueUp]":
    """This month, the present hour included."""
    from infra.settings import Settings  # noqa: PLC0415
    from workers.billing import billed_this_month  # noqa: PLC0415 - heavy, and only one command needs it

    bill = billed_this_month(Settings(), _at(now_ms))
    return bill.usd_micros, ledger.money.true_up_month_to_date(
        bill.usd_micros, who=who(), billed_today_usd_micros=bill.today_usd_micros
    )


def _closed(ledger: "Ledger", month: str, now_ms: int) -> "tuple[int, TrueUp]":
    """A month that is over."""
    from infra.settings import Settings  # noqa: PLC0415
    from ledger.periods import month_end_ms, month_start_ms  # noqa: PLC0415
    from workers.billing import billed_usd_micros  # noqa: PLC0415 - heavy, and only one command needs it

    try:
        start_ms, end_ms = month_start_ms(month), month_end_ms(month)
    except ValueError:
        fail(f"expected a month such as 2026-11, got {month!r}.", exit_code=2)
    if end_ms > now_ms:
        fail(f"{month} is not over; without --month, this month is compared up to now.", exit_code=2)
    billed = billed_usd_micros(Settings(), start=_at(start_ms), end=_at(end_ms))
    return billed, ledger.money.true_up(month, billed, who=who(), as_of_ms=end_ms)


def scopes(view: "BudgetView") -> Iterator[tuple[str, "ScopeView"]]:
    """Every dollar budget, with its name; those without a cap only if something was spent."""
    yield f"month {view.month_name}", view.month
    yield "today", view.day
    for word, found in (("tenant", view.tenants), ("kind", view.kinds)):
        for name, scope in found.items():
            if scope.cap_usd_micros is not None or scope.spent_usd_micros or scope.reserved_usd_micros:
                yield f"{word} {name}", scope


def picture(view: "BudgetView", book: "MonthBook", *, width: int) -> RenderableType:
    """The budgets for a person."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("budget", no_wrap=True)
    for heading in ("cap", "spent", "set aside", "left"):
        table.add_column(heading, justify="right", no_wrap=True)
    wide = width >= _WIDE_ENOUGH
    if wide:
        table.add_column("projected", justify="right", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    for name, scope in scopes(view):
        cells: list[RenderableType] = [name, _or_none(scope.cap_usd_micros)]
        cells += [_amount(scope.spent_usd_micros), dollars(scope.reserved_usd_micros), _or_none(scope.left_usd_micros)]
        if wide:
            cells.append(_projected(view) if scope is view.month else "")
        word = scope.stage.word
        table.add_row(*cells, Text(word.replace("_", " "), style=_STYLES[word]))
    parts: list[RenderableType] = [table, Padding(_at_once(view), (1, 0, 0, 0))]
    parts.append(Text(_true_up_words(book), style="dim"))
    return Group(*parts)


def _at_once(view: "BudgetView") -> Text:
    def of(live: "LiveView", *, as_dollars: bool = False) -> str:
        say = dollars if as_dollars else str
        return say(live.used) if live.cap is None else f"{say(live.used)} of {say(live.cap)}"

    said = f"{of(view.calls)} calls, {of(view.containers)} containers, {of(view.gpus)} GPUs"
    words = Text.assemble(("at once  ", "bold"), f"{said}, {of(view.hour_rate, as_dollars=True)} an hour")
    limits = view.limits
    if limits.tenant_cap_usd_micros is not None:
        words.append(f"\ntenants   {dollars(limits.tenant_cap_usd_micros)} a month each, without a cap of their own")
    words.append(
        f"\ndrains    from {limits.drain_ratio:.0%} of a cap; priority {limits.drain_priority} and above spill on"
    )
    return words.append(f"\nin-house  {dollars(view.inhouse_usd_micros)} this month, in no cap", style="dim")


def _true_up_words(book: "MonthBook") -> str:
    if not book.true_up:
        return "true-up   Modal's bill was not compared this month"
    billed, difference = int(book.true_up["billed_usd_micros"]), int(book.true_up["difference_usd_micros"])
    at, by = _when(int(book.true_up["at_ms"])), book.true_up.get("who")
    return f"true-up   {at} by {by}: billed {dollars(billed)}, {signed_dollars(difference)} booked"


def _when(at_ms: int) -> str:
    return f"{_at(at_ms):%d %b %H:%M} UTC"


def _at(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _projected(view: "BudgetView") -> Text:
    cap = view.month.cap_usd_micros
    over = cap is not None and view.projected_usd_micros > cap
    return Text(dollars(view.projected_usd_micros), style="bold red" if over else "")


def _or_none(usd_micros: int | None) -> str:
    return "-" if usd_micros is None else dollars(usd_micros)


def _amount(usd_micros: int) -> str:
    return signed_dollars(usd_micros) if usd_micros < 0 else dollars(usd_micros)


def facts(view: "BudgetView", book: "MonthBook") -> dict[str, object]:
    """The budgets for programs, in micro-dollars."""

    def live(one: "LiveView") -> dict[str, object]:
        return {"used": one.used, "cap": one.cap}

    return {
        "month": view.month_name,
        "scopes": [
            {
                "scope": name,
                "cap_usd_micros": scope.cap_usd_micros,
                "spent_usd_micros": scope.spent_usd_micros,
                "reserved_usd_micros": scope.reserved_usd_micros,
                "left_usd_micros": scope.left_usd_micros,
                "stage": scope.stage.word,
            }
            for name, scope in scopes(view)
        ],
        "projected_usd_micros": view.projected_usd_micros,
        "inhouse_usd_micros": view.inhouse_usd_micros,
        "at_once": {
            "calls": live(view.calls),
            "containers": live(view.containers),
            "gpus": live(view.gpus),
            "hour_rate_usd_micros": live(view.hour_rate),
        },
        "limits": view.limits.named(),
        "true_up": dict(book.true_up) or None,
    }
