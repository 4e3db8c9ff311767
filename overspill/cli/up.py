"""`overspill up`: the whole stack on this machine, until Ctrl-C."""

import importlib.util
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from overspill.terminal.console import err, fail, print_pair, report_errors
from overspill.terminal.stop_signals import StopSignals

if TYPE_CHECKING:
    from overspill.dev.stack import Stack

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_red")
_NAME_WIDTH = 11
_LOOK_EVERY_S = 0.5


def up(
    context: typer.Context,
    slots: Annotated[int, typer.Option(min=0, max=64, help="In-house slots, one GPU worker each.")] = 2,
    api_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the API; 0 takes a free one.")] = 0,
    flower: Annotated[bool, typer.Option(help="Run Flower.")] = True,
    prometheus: Annotated[bool, typer.Option(help="Run Prometheus, if it is installed.")] = True,
    train: Annotated[bool | None, typer.Option(help="Run train jobs. Default: if torch is installed.")] = None,
    logs: Annotated[
        bool, typer.Option(help="Print the processes' logs. The state folder keeps them in any case.")
    ] = True,
) -> None:
    """Run the whole stack on loopback: API, workers, Redis, S3, a local Modal. Ctrl-C stops everything."""
    from overspill.dev.stack import Stack, StackOptions  # noqa: PLC0415 - it imports Celery and boto3

    assert context.parent is not None  # noqa: S101  # a command of `overspill` always has one
    folder = Path(context.parent.params["state"])
    wanted = importlib.util.find_spec("torch") is not None if train is None else train
    with report_errors():
        stack = Stack(
            StackOptions(
                folder=folder, slots=slots, api_port=api_port, flower=flower, prometheus=prometheus, train=wanted
            ),
            on_step=lambda step: err.print(Text(f"... {step}", style="dim")),
            on_log=_print_log if logs else lambda *_: None,
        )
        with StopSignals(stack.cut) as signals:
            try:
                stack.start()
                _print_addresses(stack)
                dead = _wait_for_failure(stack)
            except KeyboardInterrupt:
                dead = None
            finally:
                signals.begin_to_stop()
                if stack.has_begun:
                    err.print(Text("... stopping (Ctrl-C again: at once)", style="dim"))
                stack.stop()
    if dead:
        fail(f"{dead} ended unexpectedly, so everything was stopped; its log: {stack.folder.logs / dead}.log")
    err.print(Text("... stopped", style="dim"))


def _print_addresses(stack: "Stack") -> None:
    environment = stack.environment
    print_pair("api", stack.api_url)
    print_pair("api_key", stack.api_key)
    if "OVERSPILL_FLOWER_URL" in environment:
        user, _, password = environment["FLOWER_BASIC_AUTH"].partition(":")
        print_pair("flower", environment["OVERSPILL_FLOWER_URL"])
        print_pair("flower_user", user)
        print_pair("flower_password", password)
    print_pair("metrics", environment["OVERSPILL_EXPORTER_URL"] + "/metrics")
    if "OVERSPILL_PROMETHEUS_URL" in environment:
        print_pair("prometheus", environment["OVERSPILL_PROMETHEUS_URL"])
    print_pair("redis", environment["OVERSPILL_LEDGER_URL"])
    print_pair("s3", environment["OVERSPILL_S3_ENDPOINT_URL"])
    print_pair("modal", environment["MODAL_SERVER_URL"])
    print_pair("state", stack.folder.path)
    print_pair("environment", stack.folder.path / "env")
    typer.echo("ready")


def _wait_for_failure(stack: "Stack") -> str | None:
    while True:
        dead = stack.dead_service()
        if dead:
            return dead
        time.sleep(_LOOK_EVERY_S)


def _print_log(name: str, line: str) -> None:
    colour = _COLOURS[sum(name.encode()) % len(_COLOURS)]
    err.print(Text.assemble((f"{name:<{_NAME_WIDTH}}", colour), (" | ", "dim"), readable(line)))


def readable(line: str) -> str:
    """A log line for people: JSON as `event name=value ...`, anything else as it is."""
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    if not isinstance(fields, dict) or "event" not in fields:
        return line
    fields.pop("timestamp", None)
    fields.pop("logger", None)
    level, event = fields.pop("level", ""), fields.pop("event")
    exception = fields.pop("exception", None)
    words = [str(event), *(f"{name}={value}" for name, value in fields.items())]
    head = f"{level}: " if level not in ("", "info", "debug") else ""
    return head + " ".join(words) + (f"\n{exception}" if exception else "")
