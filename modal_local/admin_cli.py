"""Commands that steer a running server, for the same command line: what runs, what it costs, and faults."""

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from modal_local.admin_client import AdminClient, AdminError
from modal_local.faults.model import KINDS

AdminUrl = Annotated[
    str, typer.Option(envvar="MODAL_LOCAL_ADMIN_URL", help="The admin_url that `serve` printed.", show_envvar=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to a command line."""
    for command in (calls, containers, spend, pools, faults, inject, clear):
        app.command()(command)


def calls(
    admin_url: AdminUrl,
    state: Annotated[str, typer.Option(help="running, done or cancelled; empty for all.")] = "",
    limit: Annotated[int, typer.Option(help="Maximum number, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List calls."""
    rows = _ask(lambda: AdminClient(admin_url).calls(state=state, limit=limit))
    _show(rows, ("call_id", "function_tag", "state", "inputs_total", "inputs_unfinished", "created_at"), as_json)


def containers(
    admin_url: AdminUrl,
    everything: Annotated[bool, typer.Option("--all", help="Include containers that have ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """List containers."""
    rows = _ask(lambda: AdminClient(admin_url).containers(live=not everything))
    _show(rows, ("task_id", "function_tag", "gpu_type", "state", "started_at", "seconds", "end_reason"), as_json)


def spend(admin_url: AdminUrl, as_json: AsJson = False) -> None:
    """Show what the containers have cost."""
    answer = _ask(lambda: AdminClient(admin_url).spend())
    rows = [{**row, "usd": f"{row['usd_micros'] / 1e6:.6f}"} for row in answer["containers"]]
    _show(rows, ("id", "function_tag", "gpu_type", "gpu_count", "started_at", "seconds", "usd"), as_json)
    if not as_json:
        typer.echo(f"in all: ${answer['usd_micros'] / 1e6:.6f}")


def pools(admin_url: AdminUrl, as_json: AsJson = False) -> None:
    """List pools: one for each function and option set."""
    rows = _ask(lambda: AdminClient(admin_url).pools())
    _show(rows, ("function_id", "function_tag", "backlog", "running_inputs", "containers"), as_json)


def faults(admin_url: AdminUrl, as_json: AsJson = False) -> None:
    """List the faults in force."""
    rows = _ask(lambda: AdminClient(admin_url).faults()["active"])
    _show(rows, ("fault_id", "kind", "strikes", "left", "function", "gpu"), as_json)


def inject(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}.")],
    admin_url: AdminUrl,
    fields: Annotated[list[str] | None, typer.Argument(help="Fields, as count=3 gpu=H100 methods=FunctionMap.")] = None,
) -> None:
    """Inject a fault."""
    given = dict(_read_field(one) for one in fields or [])
    typer.echo(json.dumps(_ask(lambda: AdminClient(admin_url).inject(kind, **given))))


def clear(
    admin_url: AdminUrl,
    fault_id: Annotated[str | None, typer.Argument(help="One fault. Default: all.")] = None,
) -> None:
    """End faults."""
    typer.echo(f"cleared {_ask(lambda: AdminClient(admin_url).clear(fault_id))}")


def _read_field(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found:
        raise typer.BadParameter(f"expected name=value, got {text!r}")
    if name == "methods":
        return name, value.split(",")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _ask(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except AdminError as error:
        typer.echo(f"modal_local: {error}", err=True)
        raise typer.Exit(1) from None


def _show(rows: Sequence[dict[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(list(rows)) + "\n")
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(_cell(name, row.get(name)) for name in columns))
    Console().print(table)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_at"):
        return datetime.fromtimestamp(value, UTC).strftime("%H:%M:%S")
    return f"{value:.1f}" if isinstance(value, float) else str(value)
