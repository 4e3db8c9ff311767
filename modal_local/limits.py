"""What a function may ask for. Pure: each check is of a definition, with its options merged in.

The figures are those that Modal documents (timeouts, cards of a container, disk). It enforces the largest CPU and
memory requests, too, but does not publish them: here they are what a large machine has, so that a slip of some zeros
is found.
Region names are checked by their form only: the list changes, but a name such as `mars` does not become one.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from modal_proto import api_pb2

from modal_local.errors import InvalidArgumentError, UnimplementedError
from modal_local.settings import GPU_TYPES, canonical_gpu

LONGEST_TIMEOUT_S: Final = 24 * 3600
MOST_CPU_CORES: Final = 256.0
LEAST_CPU_CORES: Final = 0.1
MOST_MEMORY_MIB: Final = 3 * 1024 * 1024
LEAST_MEMORY_MIB: Final = 128
MOST_DISK_MIB: Final = 3 * 1024 * 1024
MOST_CARDS: Final = 8
MOST_CARDS_OF: Final = {"A10": 4}
CLOUDS: Final = ("aws", "gcp", "oci", "auto")
_CONTINENTS: Final = (
    "us|eu|ap|uk|ca|me|sa|af|mx|jp|au|il|in|kr|sg|br|ch|europe|asia|australia|northamerica|southamerica|africa"
)
_REGION: Final = re.compile(rf"({_CONTINENTS})(-[a-z]+)*(-?\d{{1,2}})?")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A feature that is refused when a function asks for it."""

    name: str
    asked_for: Callable[[api_pb2.Function], bool]


#: What functions may ask of Modal, and not of this.
LEFT_OUT_OF_FUNCTIONS: Final = (
    LeftOut("clustered functions", lambda one: one._experimental_group_size > 0 or one._experimental_fabric_size > 0),
    LeftOut("network file systems", lambda one: bool(one.shared_volume_mounts)),
    LeftOut("proxies", lambda one: bool(one.proxy_id)),
    LeftOut("Servers", lambda one: one.is_server or one.HasField("http_config")),
    LeftOut("sessions", lambda one: one.is_sessioned),
    LeftOut("the private network between containers (i6pn)", lambda one: one.i6pn_enabled),
)


def check_definition(definition: api_pb2.Function) -> None:
    """Refuses what Modal refuses, and what is not served here.

    Raises:
        InvalidArgumentError: a request beyond a limit, or for what does not exist.
        UnimplementedError: a feature that is left out.
    """
    for feature in LEFT_OUT_OF_FUNCTIONS:
        if feature.asked_for(definition):
            raise UnimplementedError(
                f"modal_local does not serve {feature.name}, which {definition.function_name!r} asks for; "
                "docs/modal_local.md lists what is left out."
            )
    _check_seconds("timeout", definition.timeout_secs)
    _check_seconds("startup_timeout", definition.startup_timeout_secs)
    _check_resources(definition.resources)
    _check_place(definition.cloud_provider_str, definition.scheduler_placement)


def _check_seconds(name: str, seconds: int) -> None:
    if seconds > LONGEST_TIMEOUT_S:  # 0 stands for the default; what is less, the SDK refuses by itself
        raise InvalidArgumentError(f"Invalid {name}: expected 1 to {LONGEST_TIMEOUT_S} seconds (24 h), got {seconds}.")


def _check_resources(resources: api_pb2.Resources) -> None:
    cores = resources.milli_cpu / 1000
    if resources.milli_cpu and not LEAST_CPU_CORES <= cores <= MOST_CPU_CORES:
        raise InvalidArgumentError(
            f"Invalid cpu: expected {LEAST_CPU_CORES:g} to {MOST_CPU_CORES:g} cores, got {cores:g}."
        )
    memory = resources.memory_mb
    if memory and not LEAST_MEMORY_MIB <= memory <= MOST_MEMORY_MIB:
        raise InvalidArgumentError(
            f"Invalid memory: expected {LEAST_MEMORY_MIB} to {MOST_MEMORY_MIB} MiB, got {memory}."
        )
    if resources.ephemeral_disk_mb > MOST_DISK_MIB:
        raise InvalidArgumentError(
            f"Invalid ephemeral_disk: expected at most {MOST_DISK_MIB} MiB, got {resources.ephemeral_disk_mb}."
        )
    gpu = resources.gpu_config
    if gpu.count:
        card = known_card(gpu.gpu_type)
        most = MOST_CARDS_OF.get(card, MOST_CARDS)
        if gpu.count > most:
            raise InvalidArgumentError(f"Invalid GPU count: expected at most {most} of type {card}, got {gpu.count}.")


def known_card(name: str) -> str:
    """The card that a GPU string names: `H100!` is an H100, `A100` an A100-40GB.

    Raises:
        InvalidArgumentError: there is no such card.
    """
    card = canonical_gpu(name)
    if card not in GPU_TYPES:
        raise InvalidArgumentError(f"Invalid GPU type {name!r}: expected one of {', '.join(GPU_TYPES)}.")
    return card


def _check_place(cloud: str, placement: api_pb2.SchedulerPlacement) -> None:
    if cloud and cloud.lower() not in CLOUDS:
        raise InvalidArgumentError(f"Invalid cloud {cloud!r}: expected one of {', '.join(CLOUDS)}.")
    for region in placement.regions:
        if not _REGION.fullmatch(region):
            raise InvalidArgumentError(f"Invalid region {region!r}: expected a name such as us, us-east or eu-west.")
