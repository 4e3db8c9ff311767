"""`python -m tests.chaos --seed 7 --jobs 1000 --faults 200`: exits 0 only if everything holds."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.chaos.bill import BillOf
from tests.chaos.plan import make_plan
from tests.chaos.run import Options, print_plan, run


def main(
    seed: Annotated[int, typer.Option(help="For everything that is drawn.")] = 7,
    jobs: Annotated[int, typer.Option(min=0, help="How many jobs come in.")] = 1000,
    faults: Annotated[int, typer.Option(min=0, help="How many faults strike.")] = 200,
    bill_tolerance: Annotated[float, typer.Option(min=0, help="How far spend may be from the bill, percent.")] = 1.0,
    bill_of: Annotated[BillOf, typer.Option(help="What spend is held against.")] = BillOf.WHOLE,
    lease_s: Annotated[float, typer.Option(min=1, help="Life of an in-house lease, seconds.")] = 10.0,
    quiet_s: Annotated[float, typer.Option(min=1, help="Longest wait for quiet after the last step, seconds.")] = 300.0,
    folder: Annotated[Path | None, typer.Option(help="Where the state is kept; else a temporary folder.")] = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Print the plan, and do nothing.")] = False,
) -> None:
    """Kills, stops and cuts while jobs come in; then counts what was lost, doubled and leaked."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    options = Options(
        seed,
        jobs,
        faults,
        lease_s=lease_s,
        quiet_s=quiet_s,
        bill_tolerance_percent=bill_tolerance,
        bill_of=bill_of,
        folder=folder,
    )
    if plan_only:
        print_plan(console, make_plan(seed, jobs=jobs, faults=faults, lease_s=lease_s))
        return
    raise typer.Exit(0 if run(options, console).well else 1)


if __name__ == "__main__":
    typer.run(main)
