"""`overspill budget set`, `unset` and `history`: the limits in force, which live in the ledger."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.limits import DEFAULT, NONE, RULES, LimitRefused, Unit, Value, from_text, rule_of
from overspill.cli.options import AsJson, who
from overspill.terminal.console import fail, open_ledger, out, print_json, report_errors
from overspill.terminal.text import dollars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.budget import LimitChange

_MICROS_PER_USD = 1_000_000
_NAMES = f"{', '.join(RULES)}, tenant.NAME, kind.render, kind.train"

_NUMBER = re.compile(r"\d{1,12}(\.\d{1,12})?")

Why = Annotated[str, typer.Option(help="The reason; kept with your name.")]


def set_limits(
    settings: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE...", help="month=50000, tenant.acme=500, day=none.")
    ],
    why: Why,
    json: AsJson = False,
) -> None:
    """Change limits for every process at once, from the next placement on.

    Dollars for month, day, hour_rate (an hour), tenant (each tenant), tenant.NAME and kind.KIND; numbers for attempts,
    gpus, containers and drain_priority; a share for drain_ratio. `none` takes a cap away.
    """
    try:
        values = dict(parsed(setting) for setting in settings)
        with report_errors(), open_ledger() as ledger:
            changes = ledger.money.set_limits(values, who=who(), why=_reason(why))
    except LimitRefused as error:
        fail(f"{error}.", exit_code=2)
    _tell(changes, json=json)


def unset_limits(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help=f"{_NAMES}.")],
    why: Why,
    json: AsJson = False,
) -> None:
    """Take limits back: no such cap any more, or its default; a tenant has every tenant's cap again."""
    try:
        with report_errors(), open_ledger() as ledger:
            changes = ledger.money.unset_limits([_in_ledger(name) for name in names], who=who(), why=_reason(why))
    except LimitRefused as error:
        fail(f"{error}.", exit_code=2)
    _tell(changes, json=json)


def history(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many of the newest changes.")] = 50,
    json: AsJson = False,
) -> None:
    """See who changed which limit, when, and why; oldest first."""
    with report_errors(), open_ledger() as ledger:
        changes = ledger.money.limits_history(limit=limit)
    _tell(changes, json=json, dated=True)


def parsed(setting: str) -> tuple[str, Value]:
    """`tenant.acme=500` as the ledger calls it.

    Raises:
        LimitRefused: there is no such limit, or that is no value of it.
    """
    name, equals, text = setting.partition("=")
    name, text = _in_ledger(name), text.strip().lower()
    rule = rule_of(name)
    if not equals or not text:
        raise LimitRefused(f"expected NAME=VALUE, such as month=50000, got {setting[:60]!r}")
    if text == NONE:
        return name, None
    if not _NUMBER.fullmatch(text):
        raise LimitRefused(f"expected a number or none for {name.replace(':', '.')}, got {text[:40]!r}")
    number = Decimal(text)
    micros = number * _MICROS_PER_USD
    if rule.unit is Unit.USD_MICROS:
        if micros != int(micros):
            raise LimitRefused(f"a micro-dollar is the least that is counted, got {text[:40]}")
        return name, int(micros)
    return name, float(number) if rule.unit is Unit.RATIO or number != int(number) else int(number)


def shown(name: str, text: str | None) -> str:
    """A value of the ledger for people."""
    if text is None:
        return "empty"
    if text == DEFAULT:
        return "every tenant's"
    value = from_text(name, text)
    if value is None:
        return "none"
    return dollars(int(value)) if rule_of(name).unit is Unit.USD_MICROS else text


def _in_ledger(name: str) -> str:
    name = name.strip().replace("-", "_") if "." not in name else name.strip()
    return name.replace(".", ":", 1)


def _reason(why: str) -> str:
    if not why.strip():
        raise LimitRefused("--why cannot be empty: the reason is kept with your name")
    return why.strip()


def _tell(changes: "Sequence[LimitChange]", *, json: bool, dated: bool = False) -> None:
    if json:
        print_json([vars(change) for change in changes])
        return
    if not changes and not dated:
        out.print("nothing has changed: these values were in force already")
    for change in changes:
        words = f"{change.name.replace(':', '.')}: {shown(change.name, change.was)} -> {shown(change.name, change.now)}"
        at = datetime.fromtimestamp(change.at_ms / 1000, UTC)
        line = f"{at:%Y-%m-%d %H:%M} UTC  {words}, by {change.who}: {change.why}" if dated else words
        out.print(line, soft_wrap=True, markup=False)
