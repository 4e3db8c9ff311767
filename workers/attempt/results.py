"""How the run of an engine ended, whatever the kind of job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

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
    """The attempt was lost while the engine ran; there is nothing to say any more."""


@dataclass(frozen=True)
class Failure:
    """It ended without a result.

    Attributes:
        cause: what ended it.
        message: what happened, for the user.
        retryable: False: another attempt cannot help, whatever the cause's rule.
        where: which memory ran out, for `Cause.OUT_OF_MEMORY`; None: as far as the message tells.
    """

    cause: Cause
    message: str
    retryable: bool = True
    where: Literal["cuda", "host"] | None = None


Execution = Finished | Abandoned | Failure


def inhouse_cost_usd_micros(seconds: float, usd_per_hour: float) -> int:
    """What an in-house GPU costs us for so many seconds, micro-dollars."""
    return round(seconds * usd_per_hour * MICROS_PER_USD / SECONDS_PER_HOUR)
