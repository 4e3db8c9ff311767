"""`overspill prewarm`: so many warm containers of a class, for a while."""

from typing import Annotated

import typer

from overspill.cli.jobs import AsJson
from overspill.cli.records import dollars
from overspill.cli.steering.said import seconds, who
from overspill.cli.surroundings import err, fail, mistakes_said, open_ledger, out, print_json
from overspill.cli.why.words import span


def prewarm(
    number: Annotated[
        int | None, typer.Argument(min=0, max=1000, help="Warm containers; 0 takes the wish back; nothing: show all.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="GPU class, as Modal spells it: H100, A100-80GB:4, ...")] = "",
    for_s: Annotated[
        float, typer.Option("--for", parser=seconds, metavar="SPAN", help="How long: 30m, 2h, ...")
    ] = "30m",  # type: ignore[assignment]  # the parser makes seconds of it
    why: Annotated[str, typer.Option(help="The reason; kept with your name.")] = "",
    json: AsJson = False,
) -> None:
    """Keep renderers warm on Modal before a peak. It costs what they cost, whether or not a job comes."""
    from infra.settings import Settings  # noqa: PLC0415
    from modal_apps.gpus import UnknownGpuClass, parse  # noqa: PLC0415 - `--help` needs none of it

    if number is None and (gpu or why):
        fail("expected how many containers, e.g. `overspill prewarm 4 --gpu H100 --for 30m`.", exit_code=2)
    with mistakes_said(), open_ledger() as ledger:
        settings = Settings()
        if number is None:
            wishes = ledger.budget.prewarms()
        else:
            try:
                chosen = parse(gpu or settings.modal_render_classes[0])
            except UnknownGpuClass as error:
                fail(str(error), exit_code=2)
            wishes = ledger.budget.set_prewarm(number, gpu=chosen.name, for_s=for_s, who=who(), why=why)
            # (Modal keeps the buffer beside the warm ones, and it is paid with them.)
            cost = settings.prices.cost_usd_micros(chosen, for_s) * (number + settings.warm_buffer)
            if number and not json:
                err.print(f"costs {dollars(cost)} at most, if no job comes", markup=False)
        now_ms = ledger.placing.view().now_ms
    if json:
        print_json([vars(wish) | {"kind": str(wish.kind)} for wish in wishes])
        return
    if not wishes:
        err.print("no warm containers are wished for", markup=False)
    for wish in wishes:
        left = span(max(0, wish.until_ms - now_ms) / 1000)
        reason = f": {wish.why}" if wish.why else ""
        words = f"{wish.number} warm {wish.gpu} for {wish.kind} jobs, for another {left}, by {wish.who}{reason}"
        out.print(words, markup=False, soft_wrap=True)
