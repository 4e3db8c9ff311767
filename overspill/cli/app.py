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
    state: Annotated[Path, typer.Option(envvar="OVERSPILL_STATE", help="Folder of the stack that `up` runs.")] = Path(
        ".overspill"
    ),
) -> None:
    """In-house GPUs first, Modal when the queue overflows.

    Commands speak to the stack that OVERSPILL_LEDGER_URL and the other variables name; without them, to the one that
    `overspill up` runs in the state folder.
    """
    if context.invoked_subcommand not in ("up", "demo", "demo-budget", "demo-train"):  # these bring their own
        adopt_running_stack(state)


app.command(short_help="Run everything on this machine, until Ctrl-C.")(up.up)
app.command(short_help="See a burst spill over to Modal, in a minute.")(demo)
app.command("demo-budget", short_help="See a budget run out: jobs held, then refused, never over.")(demo_budget)
app.command("demo-train", short_help="See a run survive a kill, and a video made with what it trained.")(demo_train)
app.command(short_help="Have a video rendered.")(jobs.submit)
app.add_typer(train_app, name="train", short_help="Have a model trained, and see how it goes.")
app.command("jobs", short_help="List jobs, newest first.")(jobs.list_jobs)
app.command(short_help="Show a job's progress until it ends.")(jobs.watch)
app.command(short_help="End a job, from whatever state.")(jobs.cancel)
app.command(short_help="Say why a job went where it went, and what it cost.")(why)
app.command(short_help="See the system as it stands, drawn anew every second.")(top)
app.command(short_help="Say whether jobs may spill to Modal: auto, on or off.")(spill)
app.add_typer(budget_app, name="budget", short_help="See every cap, what is spent, set aside and left.")
app.command(short_help="Say what a month cost, by tenant, kind, class or day.")(cost)
app.command(short_help="List the calls in flight on Modal.")(calls)
app.command(short_help="Keep containers warm on Modal before a peak.")(prewarm)
app.command(short_help="Check every dependency, and say how to mend it.")(doctor.doctor)


@app.command(
    short_help="A Modal on loopback, for development and tests.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def modal(context: typer.Context) -> None:
    """A Modal on loopback, for development and tests: see `overspill modal --help`."""
    from modal_local.cli import app as modal_app  # noqa: PLC0415 - it has a server with it

    modal_app(args=context.args, prog_name="overspill modal")


def main() -> None:
    """Entry of the command `overspill`."""
    accept_interrupts()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # whoever reads us through a pipe reads along
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
