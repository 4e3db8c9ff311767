"""`overspill spill auto|on|off` and `overspill prewarm`: an operator overrides the policy, or prepares for a peak."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from ledger.models import Kind
from overspill.cli.options import AsJson, seconds, who
from overspill.terminal.console import err, fail, open_ledger, out, print_json, report_errors
from overspill.terminal.text import dollars, duration

if TYPE_CHECKING:
    from ledger.budget import Override
    from ledger.polling import StoredBreaker
    from ledger.view import ClusterView

_MEANING = {
    "auto": "the policy decides",
    "on": "every job spills that fits and may",
    "off": "no job is placed on Modal; running calls continue",
}


def spill(
    mode: Annotated[
        Literal["auto", "on", "off"] | None, typer.Argument(help="The new mode. Default: show the current one.")
    ] = None,
    why: Annotated[str, typer.Option(help="The reason; recorded with your login.")] = "",
    for_s: Annotated[
        float | None,
        typer.Option("--for", parser=seconds, metavar="SPAN", help="Return to auto after this time: 30m, 2h, ..."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Override spilling: on (whatever may), off (nothing), auto (the policy decides). Without a mode: show it."""
    if mode is None and (why or for_s):
        fail("--why and --for go with auto, on or off.", exit_code=2)
    if mode == "auto" and for_s:
        fail("--for goes with on or off; auto follows after it.", exit_code=2)
    with report_errors(), open_ledger() as ledger:
        if mode is not None:
            ledger.money.set_override(mode, who=who(), why=why, for_s=for_s)
        hand, view, breaker = ledger.money.override(), ledger.placement.view(), ledger.modal_calls.breaker()
    if json:
        print_json(_facts(hand, view, breaker))
        return
    for line in _lines(hand, view, breaker):
        out.print(line, soft_wrap=True)


def _lines(hand: "Override", view: "ClusterView", breaker: "StoredBreaker") -> list[Text]:
    styles = {"auto": "bold green", "on": "bold magenta", "off": "bold red"}
    line = Text.assemble(("spill ", "bold"), (hand.mode, styles[hand.mode]), f": {_MEANING[hand.mode]}")
    if hand.mode != "auto" and hand.at_ms is not None:
        until = (
            f", for another {duration((hand.until_ms - view.now_ms) / 1000)}"
            if hand.until_ms
            else ", until it is set again"
        )
        line.append(f"; by {hand.who}, {duration(max(0, view.now_ms - hand.at_ms) / 1000)} ago{until}")
        if hand.why:
            line.append(f": {hand.why}")
    lines = [line]
    for kind in Kind:
        state = view.of(kind).spill
        since = f" for {duration(max(0, view.now_ms - state.since_ms) / 1000)}" if state.since_ms else ""
        lines.append(Text(f"{kind}: the policy {'spills' if state.active else 'does not spill'}{since}", style="dim"))
    if breaker.phase != "closed":
        what = f"Modal's circuit breaker is {breaker.phase.replace('_', ' ')}: {breaker.reason or 'unknown'}"
        lines.append(Text(what, style="bold red"))
    return lines


def _facts(hand: "Override", view: "ClusterView", breaker: "StoredBreaker") -> dict[str, object]:
    return {
        "mode": hand.mode,
        "who": hand.who or None,
        "why": hand.why or None,
        "at_ms": hand.at_ms,
        "until_ms": hand.until_ms,
        "kinds": {str(kind): {"spills": view.of(kind).spill.active} for kind in Kind},
        "breaker": {"phase": breaker.phase, "reason": breaker.reason or None},
    }


def prewarm(
    number: Annotated[
        int | None, typer.Argument(min=0, max=1000, help="Warm containers to keep; 0 ends it. Default: show all.")
    ] = None,
    gpu: Annotated[
        str, typer.Option(help="GPU class: H100, A100-80GB:4, ... Default: the first of the settings.")
    ] = "",
    for_s: Annotated[
        float, typer.Option("--for", parser=seconds, metavar="SPAN", help="Duration: 30m, 2h, ...")
    ] = "30m",  # type: ignore[assignment]  # the parser makes seconds of it
    why: Annotated[str, typer.Option(help="The reason; recorded with your login.")] = "",
    json: AsJson = False,
) -> None:
    """Keep renderers warm on Modal before a peak. They cost money whether or not a job arrives."""
    from infra.settings import Settings  # noqa: PLC0415
    from modal_apps.gpus import UnknownGpuClass, parse  # noqa: PLC0415 - `--help` needs none of it

    if number is None and (gpu or why):
        fail("expected how many containers, e.g. `overspill prewarm 4 --gpu H100 --for 30m`.", exit_code=2)
    with report_errors(), open_ledger() as ledger:
        settings = Settings()
        if number is None:
            wishes = ledger.money.prewarms()
        else:
            try:
                chosen = parse(gpu or settings.modal.render_classes[0])
            except UnknownGpuClass as error:
                fail(str(error), exit_code=2)
            wishes = ledger.money.set_prewarm(number, gpu=chosen.name, for_s=for_s, who=who(), why=why)
            # (Modal keeps the buffer beside the warm ones, and it is paid with them.)
            cost = settings.modal.prices.cost_usd_micros(chosen, for_s) * (number + settings.warm.buffer)
            if number and not json:
                err.print(f"costs {dollars(cost)} at most, if no job comes", markup=False)
        now_ms = ledger.placement.view().now_ms
    if json:
        print_json([vars(wish) | {"kind": str(wish.kind)} for wish in wishes])
        return
    if not wishes:
        err.print("no warm containers are requested", markup=False)
    for wish in wishes:
        left = duration(max(0, wish.until_ms - now_ms) / 1000)
        reason = f": {wish.why}" if wish.why else ""
        words = f"{wish.number} warm {wish.gpu} for {wish.kind} jobs, for another {left}, by {wish.who}{reason}"
        out.print(words, markup=False, soft_wrap=True)
