"""What one tenant may have at once: its quota. Pure.

A quota bounds what a tenant takes from others: places in the queue, Redis's memory, the front of the queue, Modal. The
ledger's script that accepts a job enforces it, so it binds the HTTP API, the client and bare Celery messages alike.
"""

import json
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ledger.models import BurstMode, RenderJob, TrainJob

J = TypeVar("J", RenderJob, TrainJob)

#: Under which the quota of tenants without one of their own lies.
EVERYBODY = "*"
#: Burst of a rate: this many seconds' worth of it may be used at once.
RATE_BURST_S = 60


class TenantQuota(BaseModel):
    """The bounds of one tenant. The defaults are far above what one tenant's honest use comes to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    priority: int = Field(default=9, ge=0, le=9, description="A job of a higher priority has this one.")
    burst: BurstMode = Field(default=BurstMode.ALWAYS, description="A job that asks for more of Modal has this.")
    jobs: int | None = Field(default=1_000_000, ge=1, description="Most jobs that have not ended.")
    spec_bytes: int | None = Field(
        default=4 * 2**30, ge=1_024, description="Most bytes that the requests of those jobs have in the ledger."
    )
    jobs_per_minute: float | None = Field(
        default=None, gt=0, le=1e6, description="Most new jobs a minute on average; those of a minute may come at once."
    )

    def __str__(self) -> str:
        """As it is written in the environment."""
        return json.dumps(self.to_wire())

    def to_wire(self) -> dict[str, object]:
        """As submit.lua reads it: what bounds nothing is left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def capped(self, job: J) -> J:
        """The job with the priority and the burst mode that it will have."""
        order = list(BurstMode)
        burst = min(job.burst, self.burst, key=order.index)
        return job.model_copy(update={"priority": min(job.priority, self.priority), "burst": burst})


class Quotas(BaseModel):
    """Of all tenants, as one process's settings have them."""

    model_config = ConfigDict(frozen=True)

    everybody: TenantQuota = TenantQuota()
    by_tenant: Mapping[str, TenantQuota] = {}
    #: Whether the settings say anything. Those of a process that says nothing are the ledger's own.
    said: bool = False

    def of(self, tenant: str) -> TenantQuota:
        """The quota of a tenant."""
        return self.by_tenant.get(tenant, self.everybody)

    def texts(self) -> dict[str, str]:
        """As the ledger keeps them, by tenant."""
        every = {EVERYBODY: self.everybody, **self.by_tenant}
        return {tenant: json.dumps(quota.to_wire()) for tenant, quota in every.items()}
