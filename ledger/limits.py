"""The hard limits: what no decision may pass, whoever takes it. Pure.

The values in force live in the ledger, so every process places under the same ones. Operators change them
(`overspill budget set`); a process's environment fills only those that the ledger does not have yet. A limit that
neither of them names has the default of this module.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from ledger.models import Kind
from ledger.stages import DRAIN_RATIO

#: A limit's value: micro-dollars, a number of things, a share, or a priority. None: no limit.
Value = int | float | None

#: In the ledger: there is no such limit; and, of one tenant: what holds for every tenant holds for it.
NONE, DEFAULT = "none", "default"

#: No cap may be larger, micro-dollars; sums of such numbers are exact in Lua.
MOST_USD_MICROS = 10**15
#: No number of things at once may be larger.
MOST_AT_ONCE = 10**6

_TENANT = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


class Unit(StrEnum):
    """What a limit is counted in."""

    USD_MICROS = "usd_micros"
    NUMBER = "number"
    RATIO = "ratio"
    PRIORITY = "priority"


@dataclass(frozen=True)
class Rule:
    """What is known of one limit: its unit, and its value where nobody has said anything."""

    unit: Unit
    default: Value = None

    @property
    def optional(self) -> bool:
        """Whether it may be absent."""
        return self.default is None


#: The limits by name. `tenant` holds for every tenant; `tenant:<name>` and `kind:<kind>` are further ones.
RULES: Mapping[str, Rule] = {
    "month": Rule(Unit.USD_MICROS, 100_000_000_000),
    "day": Rule(Unit.USD_MICROS),
    "hour_rate": Rule(Unit.USD_MICROS),
    "tenant": Rule(Unit.USD_MICROS),
    "attempts": Rule(Unit.NUMBER, 100),
    "gpus": Rule(Unit.NUMBER),
    "containers": Rule(Unit.NUMBER),
    "drain_ratio": Rule(Unit.RATIO, DRAIN_RATIO),
    "drain_priority": Rule(Unit.PRIORITY, 7),
}
_OF_SCOPE = Rule(Unit.USD_MICROS)


class LimitRefused(ValueError):
    """A limit that does not exist, or a value that it cannot have."""


def rule_of(name: str) -> Rule:
    """What is known of a limit.

    Raises:
        LimitRefused: there is no such limit.
    """
    if name in RULES:
        return RULES[name]
    scope, _, label = name.partition(":")
    if scope == "tenant" and _TENANT.fullmatch(label):
        return _OF_SCOPE
    if scope == "kind" and label in set(Kind):
        return _OF_SCOPE
    raise LimitRefused(f"no limit has the name {name.replace(':', '.')!r}")


def to_text(name: str, value: Value) -> str:
    """A value as the ledger keeps it.

    Raises:
        LimitRefused: there is no such limit, or it cannot have this value.
    """
    rule = rule_of(name)
    if value is None:
        if not rule.optional:
            raise LimitRefused(f"{name} cannot be absent; its default is {rule.default}")
        return NONE
    low, high, what = _BOUNDS[rule.unit]
    whole = rule.unit is not Unit.RATIO
    if not math.isfinite(value) or not low <= value <= high or (whole and value != int(value)):
        raise LimitRefused(f"expected {what} for {name.replace(':', '.')}, got {value}")
    return str(int(value)) if whole else f"{value:.15g}"


_BOUNDS: Mapping[Unit, tuple[float, float, str]] = {
    Unit.USD_MICROS: (0, MOST_USD_MICROS, "0 to 1,000,000,000 dollars"),
    Unit.NUMBER: (0, MOST_AT_ONCE, "a whole number from 0 to 1,000,000"),
    # (The least ratio that a text of 15 digits tells from 0 is far below any that makes sense.)
    Unit.RATIO: (1e-6, 1, "a share above 0 and up to 1"),
    Unit.PRIORITY: (0, 9, "a priority from 0 to 9"),
}


def from_text(name: str, text: str) -> Value:
    """The opposite of `to_text`."""
    if text in (NONE, DEFAULT):
        return None
    return float(text) if rule_of(name).unit is Unit.RATIO else int(text)


def text_when_unset(name: str) -> str:
    """What the ledger keeps of a limit that was taken back: no such limit, or its default.

    Raises:
        LimitRefused: there is no such limit.
    """
    rule = rule_of(name)
    if name.startswith("tenant:"):
        return DEFAULT
    return to_text(name, rule.default)


@dataclass(frozen=True)
class Limits:
    """The values in force.

    A cap of None is no cap. Dollars are Modal's; periods are calendar months and days in UTC. Every dollar cap is over
    what is spent in its period and what is reserved now.
    """

    #: Dollars that may be spent on Modal in a calendar month, micro-dollars.
    month_cap_usd_micros: int
    #: Modal attempts alive at once, whatever their kind.
    max_modal_attempts: int
    #: Dollars in a calendar day, micro-dollars.
    day_cap_usd_micros: int | None = None
    #: What all live attempts, idle and warm containers together may cost an hour, micro-dollars.
    hour_rate_cap_usd_micros: int | None = None
    #: Dollars of one tenant in a calendar month, micro-dollars, for tenants that have no cap of their own.
    tenant_cap_usd_micros: int | None = None
    #: The same for single tenants; None: that tenant has no cap.
    tenant_caps_usd_micros: Mapping[str, int | None] = field(default_factory=dict)
    #: Dollars of one kind of job in a calendar month, micro-dollars.
    kind_caps_usd_micros: Mapping[str, int] = field(default_factory=dict)
    #: GPUs of live attempts, idle and warm containers at once.
    max_gpus: int | None = None
    #: Live attempts, and idle and warm containers that none of them is expected to take, at once.
    max_containers: int | None = None
    #: From this share of a dollar cap on, only jobs of `drain_priority` or above may still spill. 1: no draining.
    drain_ratio: float = 1.0
    #: The least priority that still spills while a budget drains.
    drain_priority: int = 0

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> Self:
        """The limits that the ledger's texts say; where it says nothing, the default holds."""

        def value(name: str) -> Value:
            return from_text(name, texts[name]) if name in texts else RULES[name].default

        def whole(name: str) -> int | None:
            found = value(name)
            return None if found is None else int(found)

        def scopes(prefix: str) -> Iterable[tuple[str, str]]:
            found = sorted(texts.items())
            return [(name, text) for name, text in found if name.startswith(prefix) and text != DEFAULT]

        kinds = {name.removeprefix("kind:"): from_text(name, text) for name, text in scopes("kind:")}
        return cls(
            month_cap_usd_micros=whole("month") or 0,
            max_modal_attempts=whole("attempts") or 0,
            day_cap_usd_micros=whole("day"),
            hour_rate_cap_usd_micros=whole("hour_rate"),
            tenant_cap_usd_micros=whole("tenant"),
            tenant_caps_usd_micros={
                name.removeprefix("tenant:"): None if text == NONE else int(text) for name, text in scopes("tenant:")
            },
            kind_caps_usd_micros={kind: int(cap) for kind, cap in kinds.items() if cap is not None},
            max_gpus=whole("gpus"),
            max_containers=whole("containers"),
            drain_ratio=float(value("drain_ratio") or 1.0),
            drain_priority=whole("drain_priority") or 0,
        )

    def named(self) -> dict[str, Value]:
        """Every limit by its name, as the ledger calls it."""
        return {
            "month": self.month_cap_usd_micros,
            "day": self.day_cap_usd_micros,
            "hour_rate": self.hour_rate_cap_usd_micros,
            "tenant": self.tenant_cap_usd_micros,
            "attempts": self.max_modal_attempts,
            "gpus": self.max_gpus,
            "containers": self.max_containers,
            "drain_ratio": self.drain_ratio,
            "drain_priority": self.drain_priority,
            **{f"tenant:{name}": cap for name, cap in self.tenant_caps_usd_micros.items()},
            **{f"kind:{kind}": cap for kind, cap in self.kind_caps_usd_micros.items()},
        }

    def to_wire(self) -> dict[str, object]:
        """As JSON types, for the audit: all tenants and kinds."""
        return {
            "month": self.month_cap_usd_micros,
            "day": self.day_cap_usd_micros,
            "hour_rate": self.hour_rate_cap_usd_micros,
            "gpus": self.max_gpus,
            "containers": self.max_containers,
            "attempts": self.max_modal_attempts,
            "tenant_default": self.tenant_cap_usd_micros,
            "tenants": dict(self.tenant_caps_usd_micros),
            "kinds": dict(self.kind_caps_usd_micros),
        }


@dataclass(frozen=True)
class Difference:
    """A limit that the environment of a process says, and that the ledger holds otherwise: the ledger's is in force."""

    name: str
    given: Value
    in_force: Value


def differences(given: Mapping[str, int | float], stored: Mapping[str, str]) -> list[Difference]:
    """Where an environment and the ledger differ.

    Args:
        given: what the environment says, by name; what it does not say is in no disagreement.
        stored: what the ledger keeps; what it does not keep yet will be filled.
    """
    return [
        Difference(name, value, in_force_of(name, stored))
        for name, value in sorted(given.items())
        if name in stored and stored[name] != to_text(name, value)
    ]


def in_force_of(name: str, stored: Mapping[str, str]) -> Value:
    """The value of a limit that is in force; of a tenant without a cap of its own, that of every tenant."""
    text = stored.get(name)
    if name.startswith("tenant:") and text in (None, DEFAULT):
        return in_force_of("tenant", stored)
    if text is None:
        return rule_of(name).default
    return from_text(name, text)


def as_lua() -> str:
    """Names, units and defaults as Lua source, to stand before the scripts that read limits."""
    rules = ", ".join(f"{name} = '{rule.unit}'" for name, rule in RULES.items())
    needed = ", ".join(f"{name} = true" for name, rule in RULES.items() if not rule.optional)
    defaults = ", ".join(f"{name} = {rule.default}" for name, rule in RULES.items() if not rule.optional)
    bounds = ", ".join(f"{unit} = {{ {low:.15g}, {high:.15g} }}" for unit, (low, high, _) in _BOUNDS.items())
    names = ", ".join(f"'{name}'" for name in RULES)
    return "\n".join(
        [
            f"local LIMIT_NAMES = {{ {names} }}",
            f"local LIMIT_UNITS = {{ {rules} }}",
            f"local LIMIT_NEEDED = {{ {needed} }}",
            f"local LIMIT_DEFAULTS = {{ {defaults} }}",
            f"local LIMIT_BOUNDS = {{ {bounds} }}",
        ]
    )
