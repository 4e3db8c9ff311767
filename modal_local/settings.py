"""What a server is started with."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modal_local.errors import ModalLocalError

# As in the public price table: what a request may name. "H100!" and the like name the same cards, without upgrade.
GPU_TYPES = (
    "T4", "L4", "A10", "A10G", "L40S", "A100", "A100-40GB", "A100-80GB", "RTX-PRO-6000",
    "H100", "H200", "B200", "B300", "ANY",
)  # fmt: skip
#: What becomes of the input of a container that died.
CrashPolicy = Literal["reschedule", "internal_failure", "remote_error", "init_failure"]
CRASH_POLICIES: tuple[CrashPolicy, ...] = ("reschedule", "internal_failure", "remote_error", "init_failure")
UNLIMITED = 1_000_000
_STARTS_PER_S = 10.0
_HEARTBEAT_INTERVAL_S = 15.0  # the SDK's own


class SettingsError(ModalLocalError):
    """A flag that makes no sense; the sentence says which."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All flags of `serve`.

    Attributes:
        port: gRPC port on 127.0.0.1; 0 takes a free one.
        state: directory that survives restarts; None keeps state in memory and files in a temporary place.
        gpus: how many cards of each type there are; a type that is not listed is unlimited, unless any is listed.
        cold_start: seconds added to each container start: a number, or `dist` for the distribution of simulated ones.
        faults: a TOML file with scripted faults.
        simulate: containers are simulated in this process.
        max_containers: cap on containers in all; None: twice the cores, or no cap to speak of for simulated ones.
        starts_per_s: cap on container starts per second; None: 10, or no cap to speak of for simulated ones.
        token_id: the accepted token; None makes a random one.
        token_secret: its secret.
        seed: for drawn cold starts and random faults.
        crash_policy: what becomes of an input whose container died.
        crash_limit: deaths that are forgiven before a policy other than `reschedule` ends the input.
        init_failure_limit: failed starts in a row after which waiting inputs get the container's exception.
        heartbeat_timeout_s: a container that is silent for longer is killed.
        web_timeout_s: a request to a web function that has no answer by then is sent away by 303, to ask again.
        terminate_containers: `FunctionCall.cancel(terminate_containers=True)` is served; else it is refused, as the
            live service is reported to do.
        standby: containers are forked from an interpreter that has the SDK imported; else each starts its own.
    """

    port: int = 0
    state: Path | None = None
    gpus: dict[str, int] = field(default_factory=dict)
    cold_start: str = "0"
    faults: Path | None = None
    simulate: bool = False
    max_containers: int | None = None
    starts_per_s: float | None = None
    token_id: str | None = None
    token_secret: str | None = None
    seed: int = 0
    crash_policy: CrashPolicy = "reschedule"
    crash_limit: int = 0
    init_failure_limit: int = 3
    heartbeat_timeout_s: float = 60.0
    standby: bool = True
    terminate_containers: bool = True
    web_timeout_s: float = 150.0

    @property
    def heartbeat_interval_s(self) -> float:
        """How often containers say that they live: three times before they are taken for dead, at most as on Modal."""
        return min(_HEARTBEAT_INTERVAL_S, self.heartbeat_timeout_s / 3)

    @property
    def container_cap(self) -> int:
        """The cap on containers in all."""
        if self.max_containers is not None:
            return self.max_containers
        return UNLIMITED if self.simulate else 2 * (os.cpu_count() or 1)

    @property
    def start_rate_per_s(self) -> float:
        """The cap on container starts per second."""
        if self.starts_per_s is not None:
            return self.starts_per_s
        return float(UNLIMITED) if self.simulate else _STARTS_PER_S

    def gpu_capacity(self, gpu_type: str) -> int:
        """How many cards of a type exist."""
        if not self.gpus:
            return UNLIMITED
        return self.gpus.get(gpu_type, 0)


def parse_gpus(text: str) -> dict[str, int]:
    """Reads `H100=8,A100-80GB=4`.

    Raises:
        SettingsError: an unknown type, or a count that is no number of cards.
    """
    inventory: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, count = part.partition("=")
        if name.upper() not in GPU_TYPES:
            raise SettingsError(f"--gpus: expected one of {', '.join(GPU_TYPES)}, got {name!r}.")
        if not count.isdigit():
            raise SettingsError(f"--gpus: expected a number of cards after {name}=, got {count!r}.")
        inventory[canonical_gpu(name)] = int(count)
    return inventory


def canonical_gpu(name: str) -> str:
    """One name for each card: `H100!` is an H100, `A100-40GB` an A100. The name need not be known."""
    plain = name.upper().rstrip("!+")
    return {"A100-40GB": "A100", "A10G": "A10"}.get(plain, plain)
