"""What a container knows of itself: when it began, how many inputs it has seen, and how it answers one of them."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engines.memory import peak_memory_bytes
from modal_apps.announce import Announcement, ContainerStart
from modal_apps.envelope import Envelope, RemoteError, Timings


def process_age_s() -> float | None:
    """How long this container's process has lived, seconds: what is billed begins with it, not with our code.

    By the kernel's clock since boot, which nobody sets. None where /proc does not tell.
    """
    try:
        with open("/proc/self/stat", encoding="ascii") as stat, open("/proc/uptime", encoding="ascii") as uptime:  # noqa: PTH123 - /proc
            ticks = int(stat.read().rpartition(")")[2].split()[19])
            up_s = float(uptime.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return max(0.0, up_s - ticks / os.sysconf("SC_CLK_TCK"))


@dataclass
class Container:
    """This container, made once when it starts."""

    started_at: float = field(default_factory=lambda: time.time() - (process_age_s() or 0.0))
    inputs_seen: int = 0

    @property
    def here(self) -> ContainerStart:
        """This container as an announcement names it."""
        return ContainerStart(os.environ.get("MODAL_TASK_ID", ""), self.started_at)

    def begin(self) -> "Input":
        """An input has come."""
        self.inputs_seen += 1
        return Input(self, is_first=self.inputs_seen == 1)


@dataclass
class Input:
    """One input on its way through a container."""

    container: Container
    is_first: bool
    started_at: float = field(default_factory=time.time)
    began: float = field(default_factory=time.monotonic)

    def answer(
        self,
        value: Mapping[str, Any] | None,
        error: RemoteError | None,
        *,
        announced: Announcement | None = None,
        peak_gpu_memory_bytes: int | None = None,
    ) -> dict[str, Any]:
        """The envelope of its answer, as it goes over the wire."""
        here = self.container.here
        return Envelope(
            timings=Timings(
                here.started_at,
                self.started_at,
                time.time(),
                ran_s=time.monotonic() - self.began,
                container_age_s=process_age_s(),
            ),
            container_id=here.container_id,
            cold_start=self.is_first,
            peak_memory_bytes=peak_memory_bytes(),
            peak_gpu_memory_bytes=peak_gpu_memory_bytes,
            value=value,
            error=error,
            earlier=tuple(
                (start.container_id, start.started_at)
                for start in (announced.containers if announced else ())
                if start.container_id != here.container_id
            ),
        ).to_wire()
