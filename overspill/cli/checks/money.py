"""The money: how the budget stands, whether anything may spill, and whether our prices are Modal's."""

from collections.abc import Mapping
from decimal import Decimal
from typing import cast

from infra.limits import given_limits, variable_of
from infra.settings import MICROS_PER_USD, Settings
from ledger import Ledger, LedgerError
from ledger.budget import BudgetView
from ledger.limits import Unit, Value, differences, rule_of
from ledger.stages import Stage
from modal_apps.gpus import parse
from modal_apps.prices import NANOS_PER_USD, SECONDS_PER_HOUR, PriceList
from overspill.cli.checks.finding import Finding, note, ok, wrong
from overspill.cli.checks.services import answer_within
from overspill.terminal.text import dollars

_MODAL_TIMEOUT_S = 15.0
#: Prices that differ by less are the same: ours are kept in whole nano-dollars a second.
_SAME_WITHIN = 0.005


def budget(settings: Settings) -> Finding:
    """How near the month, the day and each tenant are to their caps."""
    try:
        with Ledger(settings.ledger) as ledger:
            return of_budget(ledger.money.view())
    except LedgerError as error:
        return wrong("budget", str(error), "mend the ledger first")


def limits(settings: Settings) -> Finding:
    """Whether the limits that this environment names are those in force."""
    try:
        with Ledger(settings.ledger) as ledger:
            return of_limits(given_limits(settings), ledger.money.stored_limits())
    except LedgerError as error:
        return wrong("limits", str(error), "mend the ledger first")


def of_limits(given: Mapping[str, int | float], stored: Mapping[str, str]) -> Finding:
    """What an environment and the limits of the ledger mean together.

    Args:
        given: the limits that the environment names, by name.
        stored: those of the ledger.
    """
    if not stored:
        return ok("limits", "the ledger has none yet; the first process that starts fills them from its environment")
    found = differences(given, stored)
    if not found:
        return ok("limits", "as the ledger keeps them; this environment says nothing else")
    words = [
        f"{variable_of(one.name)} says {_amount(one.name, one.given)}, in force is {_amount(one.name, one.in_force)}"
        for one in found
    ]
    settings = " ".join(_setting(one.name, one.given) for one in found)
    remedy = f"`overspill budget set {settings} --why ...`, or mend the environment"
    return note("limits", f"{'; '.join(words)} (the ledger's hold, see `overspill budget history`)", remedy)


def _amount(name: str, value: Value) -> str:
    if value is None:
        return "no limit"
    return dollars(int(value)) if rule_of(name).unit is Unit.USD_MICROS else f"{value:g}"


def _setting(name: str, value: Value) -> str:
    amount = (value or 0) / MICROS_PER_USD if rule_of(name).unit is Unit.USD_MICROS else value
    return f"{name.replace(':', '.')}={amount:.12g}"


def of_budget(view: BudgetView) -> Finding:
    """What a view of the budget means."""
    month = view.month
    committed = max(0, month.spent_usd_micros) + month.reserved_usd_micros
    share = f" ({committed / month.cap_usd_micros:.0%})" if month.cap_usd_micros else ""
    cap = dollars(month.cap_usd_micros or 0)
    said = f"{dollars(committed)} of {cap} spent or set aside in {view.month_name}{share}"
    scopes = {"the month": month, "today": view.day}
    scopes |= {f"tenant {name}": scope for name, scope in view.tenants.items()}
    scopes |= {f"kind {name}": scope for name, scope in view.kinds.items()}
    # A cap of 0 is a decision, not an accident: nothing is meant to be spent.
    stopped = [name for name, scope in scopes.items() if scope.stage is Stage.STOP and scope.cap_usd_micros]
    draining = [name for name, scope in scopes.items() if scope.stage is Stage.DRAIN]
    if stopped:
        remedy = "wait for the next period, or raise the cap with `overspill budget set`"
        return wrong("budget", f"{said}; nothing is left for {', '.join(stopped)}", remedy)
    if draining:
        return note(
            "budget",
            f"{said}; only priority jobs still spill for {', '.join(draining)}",
            "raise the cap with `overspill budget set`",
        )
    if month.cap_usd_micros is not None and view.projected_usd_micros > month.cap_usd_micros:
        projected = f"at the last day's pace the month would cost {dollars(view.projected_usd_micros)}"
        return note("budget", f"{said}; {projected}", "see `overspill cost --by day`")
    return ok("budget", said)


def spilling(settings: Settings) -> Finding:
    """Whether an operator or the circuit breaker keeps jobs off Modal."""
    try:
        with Ledger(settings.ledger) as ledger:
            hand, breaker = ledger.money.override(), ledger.modal_calls.breaker()
    except LedgerError as error:
        return wrong("spilling", str(error), "mend the ledger first")
    if breaker.phase == "open":
        remedies = {
            "token_refused": "make a new token with `modal token new`, and restart the overflow workers with it",
            "not_deployed": "deploy it with `modal deploy -m modal_apps.renderer`",
        }
        remedy = remedies.get(breaker.reason, "nothing: Modal is asked again by itself; see its status page")
        return wrong("spilling", f"the circuit breaker before Modal is open: {breaker.reason or 'unknown'}", remedy)
    if hand.mode != "auto":
        reason = f": {hand.why}" if hand.why else ""
        return note("spilling", f"turned {hand.mode} by {hand.who}{reason}", "`overspill spill auto`")
    return ok(
        "spilling", "as the policy decides; the circuit breaker before Modal is " + breaker.phase.replace("_", " ")
    )


def prices(settings: Settings) -> Finding:
    """Whether what we reckon with is what this workspace pays."""
    answer = answer_within(_rates, _MODAL_TIMEOUT_S)
    if isinstance(answer, BaseException):
        return note("prices", f"Modal's own rates could not be asked: {type(answer).__name__}", "compare them by hand")
    return of_rates(settings.modal.prices, settings.modal.render_classes, cast("Mapping[str, Decimal]", answer))


def of_rates(ours: PriceList, names: tuple[str, ...], rates: Mapping[str, Decimal]) -> Finding:
    """What the workspace's rates (dollars an hour) mean for our price list."""
    differ: dict[str, float] = {}
    unknown: list[str] = []
    for name in names:
        gpu = ours.priced(parse(name))
        known = rates.get(f"gpu_hour_cost_{gpu.type.lower().replace('-', '_')}")
        we_say = gpu.usd_nanos_per_s * SECONDS_PER_HOUR / NANOS_PER_USD
        if known is None:
            unknown.append(gpu.type)
        elif abs(we_say - float(known)) > _SAME_WITHIN * float(known):
            differ[gpu.type] = float(known)
    if differ:
        setting = ", ".join(f'"{name}": {usd:g}' for name, usd in differ.items())
        return wrong(
            "prices",
            f"Modal charges this workspace otherwise than we reckon for {', '.join(differ)}",
            f"set OVERSPILL_MODAL_PRICES_USD_PER_HOUR='{{{setting}}}'",
        )
    if unknown:
        return note("prices", f"Modal names no rate for {', '.join(unknown)}", "compare it by hand")
    return ok("prices", f"as Modal charges this workspace, for {', '.join(names)}")


def _rates() -> object:
    import modal as sdk  # noqa: PLC0415 - heavy, and most checks do without

    return sdk.Workspace.from_context().billing.rates()
