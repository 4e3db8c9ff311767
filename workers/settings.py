"""Every setting of the control plane, declared once: unit, bounds and default. Read from `OVERSPILL_...`.

Modal's own variables (`MODAL_TOKEN_ID`, `MODAL_TOKEN_SECRET`, `MODAL_SERVER_URL`) are read by Modal's SDK, not here.
"""

import tempfile
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import SettingsError

from ledger.decisions import Limits
from ledger.models import Kind
from ledger.settings import LedgerSettings
from ledger.stages import DRAIN_RATIO
from modal_apps.gpus import Profile, parse_resources
from modal_apps.gpus import parse as parse_gpu
from modal_apps.names import RENDERER_APP, TRAINER_APP
from workers.placement.prices import NANOS_PER_USD, SECONDS_PER_HOUR, PriceList

MICROS_PER_USD = 1_000_000
#: A training call may take so much longer than its segment: a last evaluation, its save and its commit, seconds.
TRAIN_SEGMENT_MARGIN_S = 900.0
#: Attempts of a train job in all; each cause of failure has its own, lower bound.
TRAIN_MAX_ATTEMPTS = 10_000


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
    modal_render_fallbacks: tuple[str, ...] = Field(
        default=(), description="GPU types to fall back to, in this order, when none of the others comes; a JSON list."
    )
    gpu_exhausted_after_s: float = Field(
        default=180.0,
        gt=0,
        description="A call that has not begun by then, while its class has a backlog, takes another class, seconds.",
    )
    render_vram_gib: float = Field(default=40.0, gt=0, description="GPU memory that a render needs, GiB.")
    render_needs_fp8: bool = Field(default=True, description="The weights are FP8: Hopper, Ada or Blackwell only.")
    vram_headroom_ratio: float = Field(
        default=0.25, ge=0, le=4, description="Spare memory on top of the need, share of it."
    )
    modal_prices_usd_per_hour: dict[str, float] = Field(
        default_factory=dict,
        description='Own prices, as JSON: {"H100": 3.95}; dollars an hour of one GPU, or of a class with a count.',
    )
    modal_region_factor: float = Field(
        default=1.0, gt=0, le=10, description="What Modal multiplies prices by in the region that the app asks for."
    )
    render_call_estimate_s: float = Field(
        default=180.0,
        gt=0,
        description="Upper estimate of a render's seconds on Modal, cold start included; sizes the reservation.",
    )
    stop_margin_s: float = Field(
        default=15.0,
        ge=0,
        description="How long a call may go on between the decision to stop it and its end, seconds; reserved with it.",
    )

    # --- Budget: what Modal may cost, and how much of it may be alive at once. None: no cap.
    month_cap_usd: float = Field(default=100_000.0, ge=0, description="Dollars in a calendar month (UTC).")
    day_cap_usd: float | None = Field(default=None, ge=0, description="Dollars in a calendar day (UTC).")
    hour_rate_cap_usd: float | None = Field(
        default=None, ge=0, description="What all that is alive at once may cost, dollars an hour."
    )
    tenant_month_cap_usd: float | None = Field(
        default=None, ge=0, description="Dollars of each tenant in a calendar month, unless it has a cap of its own."
    )
    tenant_month_caps_usd: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description='Dollars of single tenants in a calendar month, as JSON: {"acme": 500}.'
    )
    kind_month_caps_usd: dict[Kind, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description='Dollars of a kind of job in a calendar month, as JSON: {"train": 20000}.'
    )
    max_modal_attempts: int = Field(default=100, ge=0, description="Modal attempts alive at once.")
    max_modal_gpus: int | None = Field(default=None, ge=0, description="GPUs at once; A100-80GB:4 is four.")
    max_modal_containers: int | None = Field(
        default=None, ge=0, description="Containers at once: of live attempts, and idle ones."
    )
    drain_ratio: float = Field(
        default=DRAIN_RATIO,
        gt=0,
        le=1,
        description="From this share of a dollar cap on only priority jobs may still spill; 1: a budget never drains.",
    )
    drain_priority: int = Field(
        default=7, ge=0, le=9, description="The least priority that still spills while a budget drains."
    )
    cancel_at_stop: bool = Field(
        default=False, description="When a budget is spent, running calls below the drain priority are cancelled."
    )
    modal_scaledown_window_s: float = Field(
        default=60.0,
        ge=2,
        le=3600,
        description="How long an idle Modal container stays, seconds; the deployed renderer reads the same variable.",
    )
    top_up_step_s: float = Field(
        default=60.0, ge=2, description="A call that outlasts its reservation gets so much more at a time, seconds."
    )
    at_reservation_end: Literal["cancel", "run_on"] = Field(
        default="cancel",
        description="What becomes of a call whose reservation is used up while the budget has no more for it.",
    )
    idle_watch_every_s: float = Field(
        default=5.0, gt=0, description="While containers may idle, Modal is asked how many exist so often, seconds."
    )
    true_up_hour_utc: int = Field(
        default=3, ge=0, le=23, description="In this hour (UTC) the ledger is compared with Modal's bill each day."
    )
    warm_usd_per_day: float = Field(
        default=0.0, ge=0, description="What containers warmed for forecast peaks may cost a day, dollars; 0: none are."
    )
    warm_share: float = Field(
        default=0.5, gt=0, le=1, description="Of the GPUs that a peak should need on Modal, so many are warm before it."
    )
    warm_most: int = Field(default=20, ge=0, description="Containers kept warm for forecast peaks at most.")
    warm_lead_s: float = Field(default=900.0, ge=0, description="How long before a peak they are there, seconds.")
    warm_keep_ratio: float = Field(
        default=0.6, ge=0, lt=1, description="How much of an hour's picture stays when the next week's is folded in."
    )
    warm_buffer: int = Field(default=0, ge=0, description="Idle containers that Modal keeps beside the warm ones.")
    warm_every_s: float = Field(default=30.0, gt=0, description="Warm containers are thought about so often, seconds.")
    modal_window: Literal["fixed", "measured"] = Field(
        default="fixed",
        description="`measured`: the idle window follows the measured cold start, up to modal_scaledown_window_s.",
    )
    spawn_concurrency: int = Field(
        default=20, ge=1, le=40, description="Spawns at once in one process; Modal's client stalls near 100 requests."
    )
    spawn_rate_per_s: float = Field(
        default=200.0,
        gt=0,
        description="Spawns a second, all overflow workers together; keep it below the workspace's limit.",
    )
    spawn_burst_s: float = Field(
        default=5.0, gt=0, description="How many seconds' worth of spawns may go out at once after a quiet time."
    )
    spawn_run_s: float = Field(
        default=60.0, gt=0, description="Longest that one overflow task spawns; the next nudge goes on, seconds."
    )
    breaker_failures: int = Field(
        default=5, ge=1, description="So many failed spawns within `breaker_window_s` stop all spawns for a while."
    )
    breaker_window_s: float = Field(default=30.0, gt=0, description="Window of `breaker_failures`, seconds.")
    breaker_open_s: float = Field(
        default=10.0,
        gt=0,
        description="How long spawns rest before Modal is asked again; doubles up to 2 min, seconds.",
    )
    spawn_timeout_s: float = Field(
        default=10.0, gt=0, description="Longest wait for one spawn, seconds; also its lease."
    )
    call_deadline_s: float = Field(default=1800.0, gt=0, description="Our own wall clock for a Modal call, seconds.")
    poll_first_s: float = Field(default=0.5, gt=0, description="First look at a call after its spawn, seconds.")
    poll_max_s: float = Field(
        default=5.0, gt=0, description="Longest time between two looks at a call that sends no hints, seconds."
    )
    poll_hinted_s: float = Field(
        default=30.0, gt=0, description="Time between two looks at a call whose hints come, seconds."
    )
    looks_per_s: float = Field(
        default=100.0,
        gt=0,
        description="Looks a second in one follower, about; more calls in flight are each looked at less often.",
    )
    result_transport: Literal["inline", "presigned"] = Field(
        default="inline",
        description="How a video comes back: as the function's result, or straight to S3 at a presigned address.",
    )
    max_result_bytes: int = Field(
        default=512 * 1024**2, ge=1024, description="A larger result of a call is not fetched into memory, bytes."
    )
    follow_batch: int = Field(default=200, ge=1, le=500, description="Calls that a follower claims at a time.")
    follow_concurrency: int = Field(
        default=30, ge=1, le=40, description="Looks at once; Modal's client stalls near 100 requests."
    )

    # --- Training
    train_engine: Literal["auto", "torch", "off"] = Field(
        default="auto", description="`auto`: train where torch is installed; `off`: a train job ends as `no_engine`."
    )
    train_folder: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()) / "overspill-train",
        description="In-house checkpoints and prepared datasets, before and beside S3; shared between hosts or not.",
    )
    train_threads: int | None = Field(default=None, ge=1, description="CPU threads of a run; None: torch's.")
    train_device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Device of in-house runs.")
    train_inhouse_vram_gib: float | None = Field(
        default=None, gt=0, description="GPU memory of one in-house GPU, GiB; None: any model is tried in-house."
    )
    train_segment_s: float = Field(
        default=82_800.0, gt=0, le=85_800, description="A run on Modal is cut into segments of this, seconds."
    )
    train_modal_app: str = Field(default=TRAINER_APP, description="Name of the deployed Modal app that trains.")
    modal_train_classes: tuple[str, ...] = Field(
        default=("L4", "A10", "L40S", "A100-40GB", "A100-80GB", "H100", "H200", "B200"),
        description="GPU types that train jobs may take when they do not name one, as a JSON list.",
    )
    modal_train_resources: str = Field(
        default="", description='Cores and GiB beside one GPU, where not the catalogue\'s: `{"H100": [32, 128]}`.'
    )
    modal_data_bucket: str | None = Field(
        default=None, description="S3 bucket with datasets that the deployed trainer mounts, read-only."
    )
    train_startup_s: float = Field(default=90.0, ge=0, description="From a spawn to the first step on Modal, seconds.")
    train_seconds_per_example: float = Field(
        default=0.002, gt=0, description="Guess of a run's speed before anything was learnt, seconds per example."
    )
    train_slack_margin_s: float = Field(
        default=60.0, ge=0, description="A waiting train job leaves for Modal so long before its slack is gone, s."
    )
    train_comes_home: bool = Field(
        default=True, description="A run on Modal comes home at a checkpoint when own GPUs idle and it pays."
    )
    train_mirror_every_s: float = Field(
        default=30.0, gt=0, description="A run on Modal is looked at for new checkpoints so often, seconds."
    )
    git_revision: str | None = Field(default=None, description="Of the deployed code, for checkpoints' metadata.")

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

    @model_validator(mode="after")
    def _every_class_has_a_price(self) -> Self:
        classes = (*self.modal_render_classes, *self.modal_render_fallbacks, *self.modal_train_classes)
        self.prices.check(list(classes))
        return self

    @property
    def limits(self) -> Limits:
        """The hard limits, as the ledger's script wants them."""
        return Limits(
            month_cap_usd_micros=_micros(self.month_cap_usd),
            max_modal_attempts=self.max_modal_attempts,
            day_cap_usd_micros=_micros_or_none(self.day_cap_usd),
            hour_rate_cap_usd_micros=_micros_or_none(self.hour_rate_cap_usd),
            tenant_cap_usd_micros=_micros_or_none(self.tenant_month_cap_usd),
            tenant_caps_usd_micros={name: _micros(usd) for name, usd in self.tenant_month_caps_usd.items()},
            kind_caps_usd_micros={str(kind): _micros(usd) for kind, usd in self.kind_month_caps_usd.items()},
            max_gpus=self.max_modal_gpus,
            max_containers=self.max_modal_containers,
            drain_ratio=self.drain_ratio,
            drain_priority=self.drain_priority,
        )

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
        pairs = [
            entry.strip().rpartition("=") for entry in self.api_keys.get_secret_value().split(",") if entry.strip()
        ]
        return {key: tenant or "default" for tenant, _, key in pairs}


def _micros(usd: float) -> int:
    return round(usd * MICROS_PER_USD)


def _micros_or_none(usd: float | None) -> int | None:
    return None if usd is None else _micros(usd)


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
