"""A decision, its receipt, and the hard limits. The policy advises; the script that commits enforces the limits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class RunInhouse:
    """Run it on our own GPUs."""


@dataclass(frozen=True)
class RunOnModal:
    """Spawn it on a Modal GPU class, with dollars set aside."""

    #: The class as Modal spells it, e.g. `H100` or `A100-80GB:4`.
    gpu: str
    #: The upper estimate that is reserved, micro-dollars.
    reserve_usd_micros: int


@dataclass(frozen=True)
class Hold:
    """Wait in the control plane, look again later, give up at the latest after `timeout_s` of holding."""

    reason: str
    again_in_s: float
    timeout_s: float


@dataclass(frozen=True)
class Shed:
    """Refuse: end the job as failed with an honest reason."""

    code: str
    message: str


Decision = RunInhouse | RunOnModal | Hold | Shed


@dataclass(frozen=True)
class Receipt:
    """The record of one decision: what was seen, what was foreseen, and the rule that spoke."""

    policy: str
    rule: str
    decision: str
    #: What the policy looked at: depths, slots, prices, dollars left.
    signals: Mapping[str, object] = field(default_factory=dict)

    def to_wire(self) -> dict[str, object]:
        """As JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """What no decision may pass, whoever takes it. Checked in the same script that places."""

    #: Dollars that may be spent on Modal in a calendar month (UTC), micro-dollars.
    month_cap_usd_micros: int
    #: Modal attempts alive at once, whatever their kind.
    max_modal_attempts: int


@dataclass(frozen=True)
class SpillState:
    """The memory of a policy with two thresholds: whether it spills now, and since when."""

    active: bool = False
    since_ms: int = 0
