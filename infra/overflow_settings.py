"""Settings of the overflow plane: what runs on Modal, what it may cost, how calls are spawned and followed."""

from typing import Annotated, Literal

from pydantic import Field

from infra.training_settings import TrainingSettings
from ledger.models import Kind
from ledger.stages import DRAIN_RATIO
from modal_apps.names import RENDERER_APP


class OverflowSettings(TrainingSettings):
    """Read from `OVERSPILL_...` as part of infra/settings.py."""

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
        default=60.0,
        ge=2,
        description="Size of a top-up of a call that outlasts its reservation, in seconds of its price.",
    )
    at_reservation_end: Literal["cancel", "run_on"] = Field(
        default="cancel",
        description="What becomes of a call whose reservation is used up while the budget has no more for it.",
    )
    idle_watch_every_s: float = Field(
        default=5.0,
        gt=0,
        description="Interval of the question to Modal how many containers exist, while some may idle, seconds.",
    )
    true_up_hour_utc: int = Field(
        default=3,
        ge=0,
        le=23,
        description="From this hour (UTC) on, but not before 02:00, the ledger is compared with Modal's bill each day.",
    )
    warm_usd_per_day: float = Field(
        default=0.0, ge=0, description="What containers warmed for forecast peaks may cost a day, dollars; 0: none are."
    )
    warm_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share of the GPUs that a peak should need on Modal that is warm before it.",
    )
    warm_most: int = Field(default=20, ge=0, description="Containers kept warm for forecast peaks at most.")
    warm_lead_s: float = Field(default=900.0, ge=0, description="How long before a peak they are there, seconds.")
    warm_keep_ratio: float = Field(
        default=0.6, ge=0, lt=1, description="How much of an hour's picture stays when the next week's is folded in."
    )
    warm_buffer: int = Field(
        default=0, ge=0, description="Idle containers that Modal keeps beside the warm ones of a class; paid with them."
    )
    warm_every_s: float = Field(
        default=30.0, gt=0, description="Interval of the decision about warm containers, seconds."
    )
    modal_window: Literal["fixed", "measured"] = Field(
        default="fixed",
        description="`measured`: each class's idle window follows its own cold starts, up to modal_scaledown_window_s.",
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
        default=5, ge=1, description="Number of failures within `breaker_window_s` that stop all spawns for a while."
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
    poll_first_s: float = Field(
        default=0.5, gt=0, description="Time from a spawn to the first poll of the call, seconds."
    )
    poll_max_s: float = Field(
        default=5.0, gt=0, description="Longest interval between two polls of a call that sends no hints, seconds."
    )
    poll_hinted_s: float = Field(
        default=30.0, gt=0, description="Interval between two polls of a call that sends hints, seconds."
    )
    polls_per_s: float = Field(
        default=100.0,
        gt=0,
        description="Polls a second of one follower, about; with more calls in flight, each is polled less often.",
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
        default=30, ge=1, le=40, description="Polls at once in one follower; Modal's client stalls near 100 requests."
    )
