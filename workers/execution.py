"""How one in-house execution of an engine ended, whatever the kind of job."""

from collections.abc import Mapping
from dataclasses import dataclass

from infra.artifacts import Stored, Uploaded, Video
from infra.settings import MICROS_PER_USD
from ledger.retries import Cause

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Finished:
    """There is a result to deliver."""

    result: Video | Uploaded | Stored
    measurements: Mapping[str, object]
    cost_usd_micros: int


@dataclass(frozen=True)
class Abandoned:
    """The lease was lost while the engine ran; there is nothing to say any more."""


@dataclass(frozen=True)
class Broken:
    """It ended without a result. `retryable` False: another attempt cannot help, whatever the cause's rule."""

    cause: Cause
    message: str
    retryable: bool = True


Execution = Finished | Abandoned | Broken


def inhouse_cost_usd_micros(seconds: float, usd_per_hour: float) -> int:
    """What an in-house GPU costs us for so many seconds, micro-dollars."""
    return round(seconds * usd_per_hour * MICROS_PER_USD / SECONDS_PER_HOUR)
