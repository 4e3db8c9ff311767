"""The command and its sub-commands."""

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from overspill.cli import doctor, jobs, up
from overspill.cli.budget import app as budget_app
from overspill.cli.calls import calls
from overspill.cli.cost import cost
from overspill.cli.settings import settings
from overspill.cli.spill import prewarm, spill
from overspill.cli.top import top
from overspill.cli.train import app as train_app
from overspill.cli.why import why
from overspill.demo.command import demo, demo_budget, demo_train
from overspill.terminal.console import FAILED, INTERRUPTED, adopt_running_stack, err
from overspill.terminal.stop_signals import accept_interrupts

app = typer.Typer(
    name="overspill",
    help="In-house GPUs first, Modal when the queue overflows.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _choose_stack(
    context: typer.Context,
    state: Annotated[
        Path, typer.Option(envvar="OVERSPILL_STATE", help="State folder of the stack that `up` runs.")
    ] = Path(".overspill"),
) -> None:
    """In-house GPUs first, Modal when the queue overflows.

    Commands connect to the stack that OVERSPILL_LEDGER_URL and the other variables name; without them, to the stack
    that `overspill up` runs in the state folder.
    """
    if context.invoked_subcommand not in ("up", "demo", "demo-budget", "demo-train"):  # these start their own
        adopt_running_stack(state)


app.command(short_help="Run the whole stack on this machine, until Ctrl-C.")(up.up)
app.command(short_help="Demo: a burst of renders spills to Modal.")(demo)
app.command("demo-budget", short_help="Demo: a budget runs out; jobs are held, then refused.")(demo_budget)
app.command("demo-train", short_help="Demo: a training run survives a kill, then renders a video.")(demo_train)
app.command(short_help="Submit a render job.")(jobs.submit)
app.add_typer(train_app, name="train", short_help="Submit train jobs and read their logs.")
app.command("jobs", short_help="List jobs, newest first.")(jobs.list_jobs)
app.command(short_help="Show a job's progress until it ends.")(jobs.watch)
app.command(short_help="Cancel a job, in any state.")(jobs.cancel)
app.command(short_help="Explain where a job ran, why, and what it cost.")(why)
app.command(short_help="Show the live state of the system.")(top)
app.command(short_help="Show or override spilling: auto, on or off.")(spill)
app.add_typer(budget_app, name="budget", short_help="Show every cap: spent, reserved, left.")
app.command(short_help="Show what a month cost, by tenant, kind, class or day.")(cost)
app.command(short_help="List the calls in flight on Modal.")(calls)
app.command(short_help="Keep containers warm on Modal before a peak.")(prewarm)
app.command(short_help="Check every dependency; name the remedies.")(doctor.doctor)
app.command(short_help="Show the settings in force, their source, and which differ.")(settings)


@app.command(
    short_help="Run and steer a local Modal, for development and tests.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def modal(context: typer.Context) -> None:
    """Run and steer a local Modal: see `overspill modal --help`."""
    from modal_local.cli import app as modal_app  # noqa: PLC0415 - it has a server with it

    modal_app(args=context.args, prog_name="overspill modal")


def main() -> None:
    """Entry of the command `overspill`."""
    accept_interrupts()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a reader at the other end of a pipe sees each line at once
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        code = INTERRUPTED
    except typer.TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        err.print(f"overspill: {message}", markup=False)
        code = getattr(error, "exit_code", FAILED)
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)
