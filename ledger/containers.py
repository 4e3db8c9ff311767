"""What Modal bills is containers, from their start to their end: this is how their seconds come to the ledger.

A call tells which container it ran in, when that container began, and when the call ended. The ledger remembers up to
when each container is paid for, so calls that share one pay its start once and its waiting between them, and nothing
is paid twice, in whatever order the calls are concluded. When a container's last call is over, its idle tail (the
scaledown window) stays reserved until it is certainly gone, and is booked then.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ContainerUse:
    """One container's part in a call. Times are milliseconds since 1970, by the container's clock."""

    container_id: str
    started_ms: int
    #: When the call left it.
    finished_ms: int
    #: It was ended with the call, or died in it: there is no idle tail.
    gone: bool = False
    #: When the call's method began in it; None: not known, and all of it counts as execution.
    call_started_ms: int | None = None
    #: No other call ran in it before: what lies between its start and the method's is its cold start.
    first_call: bool = True


@dataclass(frozen=True)
class Usage:
    """All containers of one call, in order, and what they cost."""

    containers: Sequence[ContainerUse]
    usd_nanos_per_s: int
    idle_window_s: float

    def to_wire(self) -> dict[str, object]:
        """As the scripts want it."""
        return {
            "containers": [vars(use) for use in self.containers],
            "usd_nanos_per_s": self.usd_nanos_per_s,
            "idle_window_ms": round(self.idle_window_s * 1000),
        }
