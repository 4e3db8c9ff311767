"""A decision and its receipt. The policy advises; the script that commits enforces the limits (ledger/limits.py)."""

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
    #: The upper estimate that is reserved, micro-dollars: cold start, execution, the margin to stop it, idle tail.
    reserve_usd_micros: int
    #: What such a container costs each second, nano-dollars: what the attempt adds to the burn rate. 0: not counted.
    usd_nanos_per_s: int = 0
    #: GPUs in one such container.
    gpus: int = 1


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
class SpillState:
    """The memory of a policy with two thresholds: whether it spills now, and since when."""

    active: bool = False
    since_ms: int = 0
