"""`overspill spill`: whether anything spills now, and the operator's hand on it."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from ledger.models import Kind
from overspill.cli.jobs import AsJson
from overspill.cli.steering.said import seconds, who
from overspill.cli.surroundings import fail, mistakes_said, open_ledger, out, print_json
from overspill.cli.why.words import span

if TYPE_CHECKING:
    from ledger.budget import Override
    from ledger.following import StoredBreaker
    from ledger.view import ClusterView

_MEANING = {
    "auto": "the policy decides",
    "on": "everything spills that fits and may",
    "off": "nothing is placed on Modal; what runs there goes on",
}


def spill(
    mode: Annotated[
        Literal["auto", "on", "off"] | None, typer.Argument(help="What holds from now on; nothing: show how it stands.")
    ] = None,
    why: Annotated[str, typer.Option(help="The reason; kept with your name.")] = "",
    for_s: Annotated[
        float | None, typer.Option("--for", parser=seconds, metavar="SPAN", help="Then auto again: 30m, 2h, ...")
    ] = None,
    json: AsJson = False,
) -> None:
    """Let everything spill (on), nothing (off), or what the policy wants (auto); alone: show how it stands."""
    if mode is None and (why or for_s):
        fail("--why and --for go with auto, on or off.", exit_code=2)
    if mode == "auto" and for_s:
        fail("--for goes with on or off: auto is what comes after.", exit_code=2)
    with mistakes_said(), open_ledger() as ledger:
        if mode is not None:
            ledger.budget.set_override(mode, who=who(), why=why, for_s=for_s)
        hand, view, breaker = ledger.budget.override(), ledger.placing.view(), ledger.following.breaker()
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
            f", for another {span((hand.until_ms - view.now_ms) / 1000)}"
            if hand.until_ms
            else ", until it is set again"
        )
        line.append(f"; by {hand.who}, {span(max(0, view.now_ms - hand.at_ms) / 1000)} ago{until}")
        if hand.why:
            line.append(f": {hand.why}")
    lines = [line]
    for kind in Kind:
        state = view.of(kind).spill
        since = f" for {span(max(0, view.now_ms - state.since_ms) / 1000)}" if state.since_ms else ""
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
