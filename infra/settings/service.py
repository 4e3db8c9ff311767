"""Settings of the service itself: S3, the API, placement, attempts on own GPUs, maintenance, logs."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from infra.api_keys import parse_api_keys
from ledger.models import Kind
from ledger.settings import Group, group
from modal_apps.prices import NANOS_PER_USD, SECONDS_PER_HOUR

#: Attempts of a train job in all; each cause of failure has its own, lower bound.
TRAIN_MAX_ATTEMPTS = 10_000


class S3Settings(Group):
    """Where artifacts go."""

    model_config = group("OVERSPILL_S3_")

    endpoint_url: str | None = Field(default=None, description="S3 server; unset: AWS.")
    public_endpoint_url: str | None = Field(
        default=None,
        description="The same server as clients reach it, for presigned addresses; unset: the address above.",
    )
    region: str = Field(default="us-east-1", description="Region of the bucket.")
    bucket: str = Field(default="overspill", min_length=3, max_length=63, description="Bucket of the artifacts.")
    access_key_id: str | None = Field(default=None, description="Unset: boto3's own chain of credentials.")
    secret_access_key: SecretStr | None = Field(default=None, description="Unset: boto3's own chain of credentials.")
    timeout_s: float = Field(default=20.0, gt=0, description="Longest wait for one answer of S3, seconds.")
    presign_ttl_s: int = Field(
        default=900,
        ge=1,
        le=604_800,
        validation_alias="OVERSPILL_PRESIGN_TTL_S",
        description="Life of a presigned address, seconds.",
    )


class ApiSettings(Group):
    """The front door."""

    model_config = group("OVERSPILL_API_")

    keys: SecretStr = Field(
        default=SecretStr(""),
        description="`key` or `tenant=key`, comma separated, keys of 16 characters at least; bare: tenant `default`.",
    )
    auth: Literal["required", "off"] = Field(
        default="required", description="`off`: whoever reaches the port may use it, as the tenant `default`."
    )
    unknown_fields: Literal["ignore", "refuse"] = Field(
        default="ignore", description="`refuse` is the strict mode: an unknown field is a 400."
    )
    max_body_bytes: int = Field(default=1_048_576, ge=1024, description="Longest request body, bytes.")
    header_timeout_s: float = Field(
        default=10.0, gt=0, le=600, description="Longest time for the head of a request to come, seconds."
    )
    max_connections: int = Field(
        default=512,
        ge=1,
        description="Most connections at once; fewer if the process may open fewer files. One that waits makes room.",
    )

    @field_validator("keys")
    @classmethod
    def _keys_can_be_told_apart(cls, value: SecretStr) -> SecretStr:
        parse_api_keys(value.get_secret_value())
        return value

    @property
    def tenants_by_key(self) -> dict[str, str]:
        """API key -> tenant."""
        return parse_api_keys(self.keys.get_secret_value())


class PlacementSettings(Group):
    """When a job spills, and how long one is held."""

    policy: Literal["watermark"] = Field(default="watermark", description="Which policy places jobs.")
    high_watermark: int = Field(default=8, ge=0, description="Jobs waiting in-house from which on new ones spill.")
    low_watermark: int = Field(default=2, ge=0, description="Jobs waiting in-house at which spilling stops.")
    min_dwell_s: float = Field(default=10.0, ge=0, description="Shortest time between two changes of mind, seconds.")
    hold_again_s: float = Field(default=5.0, gt=0, description="Interval at which a held job is tried again, seconds.")
    hold_timeout_s: float = Field(
        default=900.0, ge=0, description="A job held for longer is shed, seconds; 0: it is shed at once."
    )
    hold_timeout_s_by_kind: dict[Kind, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description='The same for a kind, as JSON: {"train": 86400}, seconds.'
    )
    hold_timeout_s_by_tenant: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description='The same for a tenant, before its kind, as JSON: {"acme": 0}, seconds.'
    )

    @model_validator(mode="after")
    def _watermarks_in_order(self) -> Self:
        if self.low_watermark > self.high_watermark:
            raise ValueError(
                f"expected low_watermark <= high_watermark, got {self.low_watermark} > {self.high_watermark}"
            )
        return self

    def hold_timeout_of(self, kind: Kind, tenant: str) -> float:
        """How long a job of a kind and tenant is held when a cap says no, seconds; 0: it is shed at once."""
        by_kind = self.hold_timeout_s_by_kind.get(kind, self.hold_timeout_s)
        return self.hold_timeout_s_by_tenant.get(tenant, by_kind)


class AttemptSettings(Group):
    """Attempts, and those on own GPUs."""

    lease_s: float = Field(
        default=10.0, ge=1, description="Life of an in-house lease; renewed three times in it, seconds."
    )
    start_timeout_s: float = Field(
        default=1800.0,
        gt=0,
        description="Longest time from an in-house attempt's start to its first progress (a model loads), seconds.",
    )
    render_progress_timeout_s: float = Field(
        default=300.0, gt=0, description="An in-house render without progress for longer is killed, seconds."
    )
    render_wall_clock_s: float = Field(
        default=1800.0, gt=0, description="An in-house render that takes longer is killed, seconds."
    )
    max_attempts: int = Field(default=25, ge=1, le=1000, description="Attempts that a job may have in all.")
    delivery_patience_s: float = Field(
        default=600.0, ge=0, description="How long a finished in-house result waits for an S3 that is away, seconds."
    )
    inhouse_usd_per_hour: float = Field(
        default=0.90, ge=0, description="What an hour of an in-house GPU costs us, dollars."
    )
    render_engine: str = Field(default="procedural", description="The engine that renders; see engines/render.")

    @property
    def inhouse_usd_nanos_per_s(self) -> int:
        """What an in-house GPU costs each second, nano-dollars."""
        return round(self.inhouse_usd_per_hour * NANOS_PER_USD / SECONDS_PER_HOUR)

    def max_attempts_of(self, kind: Kind) -> int:
        """Attempts that a job of a kind may have in all. Training is bounded by its causes: a segment is no failure."""
        return max(self.max_attempts, TRAIN_MAX_ATTEMPTS) if kind is Kind.TRAIN else self.max_attempts


class MaintenanceSettings(Group):
    """Repair and housekeeping."""

    sweep_every_s: float = Field(
        default=1.0, gt=0, description="Interval of the repair services (leases, held jobs, nudges, ...), seconds."
    )
    orphan_sweep_every_s: float = Field(
        default=15.0,
        gt=0,
        description="Interval at which Modal's running calls are compared with the ledger, seconds.",
    )
    retention_s: float = Field(
        default=7 * 86_400.0, ge=60, description="Retention of an ended job and all that it has left in S3, seconds."
    )


class LogSettings(Group):
    """What a process tells about itself."""

    model_config = group("OVERSPILL_LOG_")

    format: Literal["auto", "json", "console"] = Field(default="auto", description="auto: JSON unless on a terminal.")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")


class CelerySettings(Group):
    """Celery's messages and events."""

    message_max_bytes: int = Field(
        default=1_048_576,
        ge=4096,
        le=64 * 1_048_576,
        description="Longest Celery message, and body in it after decompression, bytes; longer ones are dropped.",
    )
    worker_events: bool = Field(default=True, description="Task events for Flower; costs some throughput.")


class ExporterSettings(Group):
    """The exporter of metrics."""

    model_config = group("OVERSPILL_EXPORTER_")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=9464, ge=0, le=65_535, description="Port to listen on; 0: a free one.")
    timeout_s: float = Field(
        default=0.5, gt=0, le=10, description="Longest wait for one answer of a Redis during a scrape, seconds."
    )
    noted_max_age_s: float = Field(
        default=300.0, gt=0, description="What a worker noted longer ago is not shown any more, seconds."
    )
