"""Every setting of the control plane, declared once: unit, bounds and default. Read from `OVERSPILL_...`.

Modal's own variables (`MODAL_TOKEN_ID`, `MODAL_TOKEN_SECRET`, `MODAL_SERVER_URL`) are read by Modal's SDK, not here.
"""

from functools import cache
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator

from ledger.decisions import Limits
from ledger.settings import LedgerSettings
from modal_apps.names import RENDERER_APP

MICROS_PER_USD = 1_000_000


class Settings(LedgerSettings):
    """The control plane's settings; the ledger's come first (see ledger/settings.py)."""

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
        default=SecretStr(""), description="`key` or `tenant=key`, comma separated; a bare key is the tenant `default`."
    )
    api_auth: Literal["required", "off"] = Field(
        default="required", description="`off`: whoever reaches the port may use it, as the tenant `default`."
    )
    api_unknown_fields: Literal["ignore", "refuse"] = Field(
        default="ignore", description="`refuse` is the strict mode: an unknown field is a 400."
    )
    api_max_body_bytes: int = Field(default=1_048_576, ge=1024, description="Longest request body, bytes.")

    # --- Placement
    policy: Literal["watermark"] = Field(default="watermark", description="Which policy places jobs.")
    high_watermark: int = Field(default=8, ge=0, description="Spill while at least so many jobs wait in-house.")
    low_watermark: int = Field(default=2, ge=0, description="Stop spilling when no more than so many wait in-house.")
    min_dwell_s: float = Field(default=10.0, ge=0, description="Shortest time between two changes of mind, seconds.")
    dispatch_batch: int = Field(default=100, ge=1, le=500, description="Jobs that a dispatcher claims at a time.")
    dispatch_claim_s: float = Field(default=10.0, gt=0, description="Life of a dispatcher's claim, seconds.")
    hold_again_s: float = Field(default=5.0, gt=0, description="A held job is looked at again after this, seconds.")
    hold_timeout_s: float = Field(default=900.0, gt=0, description="A job held for longer is shed, seconds.")

    # --- Attempts
    lease_s: float = Field(
        default=10.0, ge=1, description="Life of an in-house lease; renewed three times in it, seconds."
    )
    max_attempts: int = Field(default=25, ge=1, le=1000, description="Attempts that a job may have in all.")
    delivery_patience_s: float = Field(
        default=600.0, ge=0, description="How long a finished in-house result waits for an S3 that is away, seconds."
    )
    inhouse_usd_per_hour: float = Field(
        default=0.90, ge=0, description="What an hour of an in-house GPU costs us, dollars."
    )
    render_engine: str = Field(default="procedural", description="The engine that renders; see engines/render.")

    # --- Modal
    modal_app: str = Field(default=RENDERER_APP, description="Name of the deployed Modal app.")
    modal_environment: str | None = Field(default=None, description="Modal environment; None: the token's default.")
    modal_render_classes: tuple[str, ...] = Field(
        default=("H100", "H200"),
        description="GPU types validated for renders, as a JSON list; the cheapest that fits is taken.",
    )
    render_vram_gib: float = Field(default=40.0, gt=0, description="GPU memory that a render needs, GiB.")
    render_needs_fp8: bool = Field(default=True, description="The weights are FP8: Hopper, Ada or Blackwell only.")
    vram_headroom_ratio: float = Field(
        default=0.25, ge=0, le=4, description="Spare memory on top of the need, share of it."
    )
    max_modal_attempts: int = Field(default=100, ge=0, description="Modal attempts alive at once.")
    month_cap_usd: float = Field(default=100_000.0, ge=0, description="Dollars for Modal in a calendar month (UTC).")
    render_call_estimate_s: float = Field(
        default=180.0, gt=0, description="Upper estimate of a render's seconds on Modal; sizes the reservation."
    )
    modal_scaledown_window_s: float = Field(
        default=60.0,
        ge=2,
        le=3600,
        description="How long an idle Modal container stays, seconds; the deployed renderer reads the same variable.",
    )
    spawn_batch: int = Field(default=20, ge=1, le=500, description="Attempts that one overflow task spawns.")
    spawn_timeout_s: float = Field(
        default=10.0, gt=0, description="Longest wait for one spawn, seconds; also its lease."
    )
    call_deadline_s: float = Field(default=1800.0, gt=0, description="Our own wall clock for a Modal call, seconds.")
    poll_first_s: float = Field(default=0.5, gt=0, description="First look at a call after its spawn, seconds.")
    poll_max_s: float = Field(default=5.0, gt=0, description="Longest time between two looks at a call, seconds.")
    follow_batch: int = Field(default=200, ge=1, le=500, description="Calls that a follower claims at a time.")
    follow_concurrency: int = Field(
        default=40, ge=1, le=50, description="Looks at once; Modal's client stalls near 100."
    )

    # --- Reconciler
    sweep_every_s: float = Field(default=1.0, gt=0, description="Time between two sweeps, seconds.")
    sweep_batch: int = Field(default=500, ge=1, le=500, description="Jobs that one sweep takes at a time.")
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
        default=7 * 86_400.0, ge=60, description="An ended job and its artifact are forgotten after this, seconds."
    )

    # --- Celery and logs
    worker_events: bool = Field(default=True, description="Task events for Flower; costs some throughput.")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: JSON unless on a terminal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")

    @model_validator(mode="after")
    def _watermarks_in_order(self) -> Self:
        if self.low_watermark > self.high_watermark:
            raise ValueError(
                f"expected low_watermark <= high_watermark, got {self.low_watermark} > {self.high_watermark}"
            )
        return self

    @property
    def limits(self) -> Limits:
        """The hard limits, as the ledger's script wants them."""
        return Limits(
            month_cap_usd_micros=round(self.month_cap_usd * MICROS_PER_USD),
            max_modal_attempts=self.max_modal_attempts,
        )

    @property
    def tenants_by_key(self) -> dict[str, str]:
        """API key -> tenant."""
        pairs = [
            entry.strip().rpartition("=") for entry in self.api_keys.get_secret_value().split(",") if entry.strip()
        ]
        return {key: tenant or "default" for tenant, _, key in pairs}


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
            for detail in error.errors(include_input=False, include_url=False)
        ]
        raise SystemExit("\n".join(["overspill: these settings are wrong:", *lines])) from None
