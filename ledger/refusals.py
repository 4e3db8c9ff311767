"""Why a hard limit says no, in one word each: the words that the scripts answer with, and what each is about. Pure."""

from enum import StrEnum


class Refusal(StrEnum):
    """The limit that spoke. `..._budget`: the cap would be passed; `..._drain`: what is left is for priority jobs."""

    MONTH_BUDGET = "month_budget"
    DAY_BUDGET = "day_budget"
    TENANT_BUDGET = "tenant_budget"
    KIND_BUDGET = "kind_budget"
    MONTH_DRAIN = "month_drain"
    DAY_DRAIN = "day_drain"
    TENANT_DRAIN = "tenant_drain"
    KIND_DRAIN = "kind_drain"
    #: What is alive costs too much an hour.
    HOUR_RATE = "hour_rate"
    GPUS_AT_CAP = "gpus_at_cap"
    CONTAINERS_AT_CAP = "containers_at_cap"
    MODAL_CALLS_AT_CAP = "modal_calls_at_cap"
    #: The operator's hand.
    SPILL_OFF = "spill_off"
    #: Modal may not be used now: the circuit breaker is open.
    BREAKER_OPEN = "breaker_open"


#: Caps on what is alive at once: there is room again when a call ends.
AT_ONCE = frozenset({Refusal.HOUR_RATE, Refusal.GPUS_AT_CAP, Refusal.CONTAINERS_AT_CAP, Refusal.MODAL_CALLS_AT_CAP})


#: Dollar budgets: what is refused waits for the next period, or for a call that gives something back.
ABOUT_DOLLARS = frozenset(reason for reason in Refusal if reason.endswith(("_budget", "_drain")))


def is_about_dollars(reason: str) -> bool:
    """Whether a budget spoke."""
    return reason in ABOUT_DOLLARS


def public_code(reason: str) -> str:
    """The error code of a job that is shed for this reason: the outside is told what it was about, not which cap."""
    return "budget_exhausted" if is_about_dollars(reason) else "overloaded"


def as_lua() -> str:
    """The refusals that are about dollars as Lua source, to stand before the scripts that tell the outside so."""
    return "local ABOUT_DOLLARS = { " + ", ".join(f"{reason} = true" for reason in sorted(ABOUT_DOLLARS)) + " }"
