"""Every setting of the control plane, declared once: unit, bounds and default. Read from `OVERSPILL_...`.

Modal's own variables (`MODAL_TOKEN_ID`, `MODAL_TOKEN_SECRET`, `MODAL_SERVER_URL`) are read by Modal's SDK, not here.
"""

from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsError

from infra.api_keys import parse_api_keys
from infra.overflow_settings import OverflowSettings
from ledger.models import Kind
from modal_apps.gpus import Profile, parse_resources
from modal_apps.gpus import parse as parse_gpu
from modal_apps.prices import NANOS_PER_USD, SECONDS_PER_HOUR, PriceList

MICROS_PER_USD = 1_000_000
#: A training call may take so much longer than its segment: a last evaluation, its save and its commit, seconds.
TRAIN_SEGMENT_MARGIN_S = 900.0
#: Attempts of a train job in all; each cause of failure has its own, lower bound.
TRAIN_MAX_ATTEMPTS = 10_000


class Settings(OverflowSettings):
    """The control plane's settings.

    The ledger's come first (ledger/settings.py), then train jobs' (training_settings.py) and the overflow plane's
    (overflow_settings.py).
    """

    # --- S3: where artifacts go
    s3_endpoint_url: str | None = Field(default=None, description="S3 server; None: AWS.")
    s3_public_endpoint_url: str | None = Field(
        default=None, description="The same server as clients reach it, for presigned addresses; None: s3_endpoint_url."
    )
    s3_region: str = Field(default="us-east-1", description="Region of the bucket.")
    s3_bucket: str = Field(default="overspill", min_length=3, max_length=63, description="Bucket of the artifacts.")
    s3_access_key_id: str | None = Field(default=None, description="None: boto3's own chain of credentials.")
    s3_secret_access_key: SecretStr | None = Field(default=None, description="None: boto3's own chain of credentials.")
    s3_timeout_s: float = Field(default=20.0, gt=0, description="Longest wait for one answer of S3, seconds.")
    presign_ttl_s: int = Field(default=900, ge=1, le=604_800, description="Life of a presigned address, seconds.")

    # --- API
    api_keys: SecretStr = Field(
        default=SecretStr(""),
        description="`key` or `tenant=key`, comma separated, keys of 16 characters at least; bare: tenant `default`.",
    )
    api_auth: Literal["required", "off"] = Field(
        default="required", description="`off`: whoever reaches the port may use it, as the tenant `default`."
    )
    api_unknown_fields: Literal["ignore", "refuse"] = Field(
        default="ignore", description="`refuse` is the strict mode: an unknown field is a 400."
    )
    api_max_body_bytes: int = Field(default=1_048_576, ge=1024, description="Longest request body, bytes.")

    api_header_timeout_s: float = Field(
        default=10.0, gt=0, le=600, description="Longest time for the head of a request to come, seconds."
    )
    api_max_connections: int = Field(
        default=512,
        ge=1,
        description="Most connections at once; fewer if the process may open fewer files. One that waits makes room.",
    )

    # --- Placement
    policy: Literal["watermark"] = Field(default="watermark", description="Which policy places jobs.")
    high_watermark: int = Field(default=8, ge=0, description="Spill while at least so many jobs wait in-house.")
    low_watermark: int = Field(default=2, ge=0, description="Stop spilling when no more than so many wait in-house.")
    min_dwell_s: float = Field(default=10.0, ge=0, description="Shortest time between two changes of mind, seconds.")
    dispatch_batch: int = Field(default=100, ge=1, le=500, description="Jobs that a dispatcher claims at a time.")
    dispatch_claim_s: float = Field(default=10.0, gt=0, description="Life of a dispatcher's claim, seconds.")
    hold_again_s: float = Field(default=5.0, gt=0, description="A held job is looked at again after this, seconds.")
    hold_timeout_s: float = Field(
        default=900.0, ge=0, description="A job held for longer is shed, seconds; 0: it is shed at once."
    )
    hold_timeout_s_by_kind: dict[Kind, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description='The same for a kind, as JSON: {"train": 86400}, seconds.'
    )
    hold_timeout_s_by_tenant: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description='The same for a tenant, before its kind, as JSON: {"acme": 0}, seconds.'
    )

    # --- Attempts
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
    train_progress_timeout_s: float = Field(
        default=1800.0, gt=0, description="An in-house training run without progress for longer is killed, seconds."
    )
    train_wall_clock_s: float = Field(
        default=30 * 86_400.0,
        gt=0,
        description="Longest time of one in-house training attempt, seconds; a shorter one follows from its own size.",
    )
    max_attempts: int = Field(default=25, ge=1, le=1000, description="Attempts that a job may have in all.")
    delivery_patience_s: float = Field(
        default=600.0, ge=0, description="How long a finished in-house result waits for an S3 that is away, seconds."
    )
    inhouse_usd_per_hour: float = Field(
        default=0.90, ge=0, description="What an hour of an in-house GPU costs us, dollars."
    )
    render_engine: str = Field(default="procedural", description="The engine that renders; see engines/render.")

    # --- Maintenance
    sweep_every_s: float = Field(
        default=1.0, gt=0, description="Interval of the repair services (leases, held jobs, nudges, ...), seconds."
    )
    sweep_batch: int = Field(default=500, ge=1, le=500, description="Jobs that a repair service takes at a time.")
    foreign_record_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="How long a bare Celery message is kept trying while the ledger is away, seconds.",
    )

    orphan_sweep_every_s: float = Field(
        default=15.0,
        gt=0,
        description="Time between two comparisons of Modal's running calls with the ledger, seconds.",
    )
    retention_s: float = Field(
        default=7 * 86_400.0,
        ge=60,
        description="Retention of an ended job and all that it has left in S3, seconds.",
    )

    # --- Celery and logs
    message_max_bytes: int = Field(
        default=1_048_576,
        ge=4096,
        le=64 * 1_048_576,
        description="Longest Celery message, and body in it after decompression, bytes; longer ones are dropped.",
    )
    worker_events: bool = Field(default=True, description="Task events for Flower; costs some throughput.")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: JSON unless on a terminal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")

    @field_validator("api_keys")
    @classmethod
    def _keys_can_be_told_apart(cls, value: SecretStr) -> SecretStr:
        parse_api_keys(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _watermarks_in_order(self) -> Self:
        if self.low_watermark > self.high_watermark:
            raise ValueError(
                f"expected low_watermark <= high_watermark, got {self.low_watermark} > {self.high_watermark}"
            )
        return self

    @model_validator(mode="after")
    def _every_class_has_a_price(self) -> Self:
        classes = (*self.modal_render_classes, *self.modal_render_fallbacks, *self.modal_train_classes)
        self.prices.check(list(classes))
        return self

    @property
    def inhouse_usd_nanos_per_s(self) -> int:
        """What an in-house GPU costs each second, nano-dollars."""
        return round(self.inhouse_usd_per_hour * NANOS_PER_USD / SECONDS_PER_HOUR)

    @property
    def prices(self) -> PriceList:
        """What Modal's classes cost here."""
        return PriceList(usd_per_hour=self.modal_prices_usd_per_hour, region_factor=self.modal_region_factor)

    def hold_timeout_of(self, kind: Kind, tenant: str) -> float:
        """How long a job of a kind and tenant is held when a cap says no, seconds; 0: it is shed at once."""
        by_kind = self.hold_timeout_s_by_kind.get(kind, self.hold_timeout_s)
        return self.hold_timeout_s_by_tenant.get(tenant, by_kind)

    def price_of(self, kind: Kind, gpu: str) -> int:
        """What a container of a class costs each second for a kind of job, nano-dollars: training wants more cores."""
        profile = Profile.TRAIN if kind is Kind.TRAIN else Profile.RENDER
        resources = parse_resources(self.modal_train_resources)
        return self.prices.usd_nanos_per_s(parse_gpu(gpu, profile, resources))

    def call_deadline_of(self, kind: Kind) -> float:
        """Our own wall clock for a Modal call of a kind, seconds. A training call lasts as long as its segment."""
        if kind is Kind.TRAIN:
            return self.train_segment_s + self.train_startup_s + TRAIN_SEGMENT_MARGIN_S
        return self.call_deadline_s

    def max_attempts_of(self, kind: Kind) -> int:
        """Attempts that a job of a kind may have in all. Training is bounded by its causes: a segment is no failure."""
        return max(self.max_attempts, TRAIN_MAX_ATTEMPTS) if kind is Kind.TRAIN else self.max_attempts

    @property
    def tenants_by_key(self) -> dict[str, str]:
        """API key -> tenant."""
        return parse_api_keys(self.api_keys.get_secret_value())


@cache
def settings() -> Settings:
    """The process's settings, read and checked once.

    Raises:
        SystemExit: a value is out of its bounds; the message names the variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"OVERSPILL_{'_'.join(str(part) for part in detail['loc']).upper()}: {detail['msg']}"
            if detail["loc"]
            else detail["msg"].removeprefix("Value error, ")
            for detail in error.errors(include_input=False, include_url=False)
        ]
        raise SystemExit("\n".join(["overspill: these settings are wrong:", *lines])) from None
    except SettingsError as error:
        # A list or mapping that is no JSON; the message names the field.
        raise SystemExit(f"overspill: these settings are wrong: {error} (expected JSON)") from None
