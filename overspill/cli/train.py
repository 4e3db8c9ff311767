"""`overspill train submit | logs`."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.models import Kind, TrainJob
from ledger.states import State
from overspill.cli.jobs import follow
from overspill.cli.options import AsJson, JobId
from overspill.terminal import curves
from overspill.terminal.console import FAILED, WRONG_USAGE, fail, open_ledger, print_json, report_errors
from overspill.terminal.records import as_json

_LOOK_EVERY_S = 0.5

app = typer.Typer(help="Submit train jobs and read their logs.", no_args_is_help=True, rich_markup_mode=None)


@app.command(short_help="Submit a train job and print its id.")
def submit(
    config: Annotated[Path, typer.Option(help="TOML or JSON file with the fields of a train job.")],
    gpu: Annotated[
        str | None, typer.Option(help="Modal GPU class, e.g. A100-80GB:4. Default: the cheapest that fits.")
    ] = None,
    burst: Annotated[str | None, typer.Option(help="Whether it may run on Modal: never, auto or always.")] = None,
    deadline_s: Annotated[float | None, typer.Option(help="Deadline, seconds from now.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Tenant that pays.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="A key that was used before returns the same job.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show its progress until it ends.")] = False,
    json: AsJson = False,
) -> None:
    """Submit a train job and print its id.

    The engine checks the config first, and a GPU class must have room for the model.
    """
    from overspill.client import Client  # noqa: PLC0415 - `--help` needs no Redis

    given = {"gpu": gpu, "burst": burst, "deadline_s": deadline_s, "tenant": tenant}
    with report_errors():
        job = _checked(config, {name: value for name, value in given.items() if value is not None})
        with Client() as client:
            job_id = client.submit(job, idempotency_key=idempotency_key)
            if not json:
                typer.echo(job_id)
            if wait:
                follow(job_id)
            record = client.status(job_id)
    if json:
        print_json(as_json(record))
    if wait and record.state is not State.COMPLETED:
        raise typer.Exit(FAILED)


def _checked(path: Path, given: dict[str, Any]) -> TrainJob:
    """The job of a file, overridden by the command line. Errors are reported before anything is sent."""
    from engines.train.errors import TrainError  # noqa: PLC0415 - `--help` needs no engine
    from infra.settings import settings  # noqa: PLC0415
    from modal_apps.training_request import WrongConfigFile, read_config_file  # noqa: PLC0415
    from workers.training.needs import train_policy  # noqa: PLC0415

    try:
        fields = {"kind": str(Kind.TRAIN), **read_config_file(path), **given}
        job = TrainJob.model_validate(fields)
        refusal = train_policy(settings(), {}).refusal(job)
    except (WrongConfigFile, TrainError) as error:
        fail(str(error), exit_code=WRONG_USAGE)
    if refusal is not None:
        fail(refusal, exit_code=WRONG_USAGE)
    return job


@app.command(short_help="Show the log of a run.")
def logs(
    job: JobId,
    follow_on: Annotated[bool, typer.Option("--follow", help="Follow the log until the run ends.")] = False,
    json: AsJson = False,
) -> None:
    """Show the log of a run: starts, losses, evaluations, checkpoints; the newest last."""
    with report_errors(), open_ledger() as ledger:
        record = ledger.jobs.get(job)
        if record.kind is not Kind.TRAIN:
            fail(f"expected a train job, got a {record.kind}: {job}.")
        shown: set[tuple[int, int]] = set()
        while True:
            ended = ledger.jobs.get(job).is_terminal
            rows = ledger.attempts.training_rows(job)
            for row in rows:
                key = (int(row["attempt"]), int(row["n"]))
                if key not in shown and not json:
                    typer.echo(curves.line(row))
                shown.add(key)
            if ended or not follow_on:
                break
            time.sleep(_LOOK_EVERY_S)
    if json:
        print_json(rows)
