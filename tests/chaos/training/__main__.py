"""`python -m tests.chaos.training --seed 7`: exits 0 only if everything holds."""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from tests.chaos.training.story import tell


def main(seed: Annotated[int, typer.Option(help="For the moments and the order of the strikes.")] = 7) -> None:
    """Strikes one training run again and again on the whole stack; then compares its weights."""
    began = time.monotonic()
    typer.echo(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="overspill-chaos-train-") as folder:
        verdict = tell(seed, Path(folder), say=lambda words: typer.echo(f"{time.monotonic() - began:6.1f} s  {words}"))
    typer.echo(f"attempts ended as {dict(verdict.outcomes)}, begun again by Modal {verdict.begun_again} times")
    for complaint in verdict.all_complaints:
        typer.echo(f"! {complaint}")
    typer.echo(verdict.last_line)
    raise typer.Exit(1 if verdict.all_complaints else 0)


if __name__ == "__main__":
    typer.run(main)
