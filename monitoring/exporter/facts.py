"""What the exporter knows from its settings and its own installation, independent of the ledger."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Self

from infra.settings import Settings
from modal_apps.gpus import CATALOGUE

_NANOS = 1e-9
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Facts:
    """Prices and versions."""

    version: str
    python: str
    #: Dollars for a second of a container, by GPU class; `inhouse` is our own.
    prices_usd_per_s: Mapping[str, float]
    noted_max_age_s: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The facts of this installation."""
        try:
            ours = version("overspill")
        except PackageNotFoundError:
            ours = "unknown"
        return cls(
            version=ours,
            python=platform.python_version(),
            prices_usd_per_s={
                "inhouse": settings.attempts.inhouse_usd_per_hour / _SECONDS_PER_HOUR,
                **{gpu.name: settings.modal.prices.usd_nanos_per_s(gpu) * _NANOS for gpu in CATALOGUE},
            },
            noted_max_age_s=settings.exporter.noted_max_age_s,
        )
