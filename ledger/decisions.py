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
class Limits:
    """What no decision may pass, whoever takes it. Checked in the same script that places or tops up.

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
    #: The same for single tenants.
    tenant_caps_usd_micros: Mapping[str, int] = field(default_factory=dict)
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

    def tenant_cap(self, tenant: str) -> int | None:
        """A tenant's cap, micro-dollars a month; None: it has none."""
        return self.tenant_caps_usd_micros.get(tenant, self.tenant_cap_usd_micros)

    def to_wire(self, *, tenant: str, kind: str) -> dict[str, object]:
        """What the script needs to know about one job's placement."""
        return {
            **self._shared_wire(),
            "tenant": self.tenant_cap(tenant),
            "kind": self.kind_caps_usd_micros.get(kind),
        }

    def to_wire_whole(self) -> dict[str, object]:
        """The same for any job: all tenants and kinds."""
        return {
            **self._shared_wire(),
            "tenant_default": self.tenant_cap_usd_micros,
            "tenants": dict(self.tenant_caps_usd_micros),
            "kinds": dict(self.kind_caps_usd_micros),
        }

    def _shared_wire(self) -> dict[str, object]:
        return {
            "month": self.month_cap_usd_micros,
            "day": self.day_cap_usd_micros,
            "hour_rate": self.hour_rate_cap_usd_micros,
            "gpus": self.max_gpus,
            "containers": self.max_containers,
            "calls": self.max_modal_attempts,
            "drain_ratio": self.drain_ratio,
            "drain_priority": self.drain_priority,
        }


@dataclass(frozen=True)
class SpillState:
    """The memory of a policy with two thresholds: whether it spills now, and since when."""

    active: bool = False
    since_ms: int = 0
