"""What the environment says about limits, and the ledger of a process that may fill them from it.

The limits in force are the ledger's (ledger/limits.py). A process's environment fills only what the ledger does not
have yet, before the process's first script; where the two differ, a line in the log and `overspill doctor` say so.
"""

import os
import socket
from collections.abc import Mapping, Sequence

import structlog

from infra.settings import MICROS_PER_USD, Settings
from infra.settings.overflow import BudgetSettings
from ledger.limits import Difference, Unit, rule_of
from ledger.store import GivenLimits, Ledger

log = structlog.get_logger(__name__)

#: Which setting says what about which limit. Those of tenants and kinds are mappings.
_SETTINGS: Mapping[str, str] = {
    "month": "month_cap_usd",
    "day": "day_cap_usd",
    "hour_rate": "hour_rate_cap_usd",
    "tenant": "tenant_month_cap_usd",
    "attempts": "max_modal_attempts",
    "gpus": "max_modal_gpus",
    "containers": "max_modal_containers",
    "drain_ratio": "drain_ratio",
    "drain_priority": "drain_priority",
}
_MAPPINGS: Mapping[str, str] = {"tenant": "tenant_month_caps_usd", "kind": "kind_month_caps_usd"}


def given_limits(settings: Settings) -> dict[str, int | float]:
    """The limits that the environment names, by name. What is left at its default is not said by it."""
    given: dict[str, int | float] = {}
    for name, setting in _SETTINGS.items():
        value = getattr(settings.budget, setting)
        if setting in settings.budget.model_fields_set and value is not None:
            given[name] = _in_unit(name, value)
    for prefix, setting in _MAPPINGS.items():
        for label, value in getattr(settings.budget, setting).items():
            given[f"{prefix}:{label}"] = _in_unit(f"{prefix}:{label}", value)
    return given


def variable_of(name: str) -> str:
    """The environment variable that names a limit."""
    setting = _MAPPINGS[name.partition(":")[0]] if ":" in name else _SETTINGS[name]
    return BudgetSettings.variable(setting)


def open_ledger(settings: Settings) -> Ledger:
    """The ledger of a process that places jobs, or refuses them: it fills the limits that the ledger does not have."""
    who = f"{socket.gethostname()}:{os.getpid()}"
    return Ledger(settings.ledger, given=GivenLimits(given_limits(settings), who=who, on_difference=_warn))


def _in_unit(name: str, value: float) -> int | float:
    return round(value * MICROS_PER_USD) if rule_of(name).unit is Unit.USD_MICROS else value


def _warn(found: Sequence[Difference]) -> None:
    for one in found:
        log.warning("limit.differs", variable=variable_of(one.name), given=one.given, in_force=one.in_force)
