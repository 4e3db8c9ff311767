"""`overspill settings`: the values in force, where each comes from, and which differ from the default."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from overspill.cli.options import AsJson
from overspill.terminal.console import WRONG_USAGE, err, print_json, show

if TYPE_CHECKING:
    from infra.settings.listing import Row


def settings(
    changed: Annotated[bool, typer.Option("--changed", help="Only those that differ from the default.")] = False,
    json: AsJson = False,
) -> None:
    """Print every setting in force. Secrets are masked. Wrong values are named, and the exit code is 2.

    The caps of the budget fill an empty ledger only; `overspill budget` shows the caps in force.
    """
    from infra.settings import settings as read  # noqa: PLC0415 - `--help` needs no settings
    from infra.settings.listing import rows, unknown  # noqa: PLC0415 - the same

    try:
        values = read()
    except SystemExit as wrong:
        err.print(str(wrong), markup=False)
        raise typer.Exit(WRONG_USAGE) from None
    listed = [row for row in rows(values, os.environ) if row.differs or not changed]
    strange = list(unknown(os.environ))
    if json:
        entries = [{**asdict(row), "source": str(row.source), "differs": row.differs} for row in listed]
        print_json({"settings": entries, "unknown": [name for name, _ in strange]})
    else:
        show(lambda _: _table(listed))
    for name, nearest in strange:
        hint = f" Did you mean {nearest}?" if nearest else ""
        err.print(f"overspill: nothing reads {name}.{hint}", markup=False)


def _table(listed: Sequence["Row"]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("setting", "value", "from", "default"):
        table.add_column(heading, overflow="fold")
    group = ""
    for row in listed:
        if row.group != group:
            group = row.group
            table.add_row(Text(group, style="bold cyan"), "", "", "")
        table.add_row(
            f"  {row.variable}",
            Text(row.value or "-", style="yellow" if row.differs else ""),
            str(row.source),
            Text(row.default or "-", style="dim") if row.differs else "",
        )
    return table
