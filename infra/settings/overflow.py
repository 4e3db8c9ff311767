"""Settings of the overflow plane: what runs on Modal, what it may cost, how calls are spawned and followed."""

from typing import Annotated, Literal

from pydantic import Field

from ledger.models import Kind
from ledger.settings import Group, group
from ledger.stages import DRAIN_RATIO
from modal_apps.names import RENDERER_APP
from modal_apps.prices import PriceList

MICROS_PER_USD = 1_000_000


class ModalSettings(Group):
    """What runs on Modal: apps, GPU classes, prices, wall clocks."""

    model_config = group("OVERSPILL_MODAL_")

    app: str = Field(default=RENDERER_APP, description="Name of the deployed Modal app.")
    environment: str | None = Field(default=None, description="Modal environment; unset: the token's default.")
    render_classes: tuple[str, ...] = Field(
        default=("H100", "H200"),
        description="GPU types validated for renders, as a JSON list; the cheapest that fits is taken.",
    )
    render_fallbacks: tuple[str, ...] = Field(
        default=(), description="GPU types to fall back to, in this order, when none of the others comes; a JSON list."
    )
    gpu_exhausted_after_s: float = Field(
        default=180.0,
        gt=0,
        validation_alias="OVERSPILL_GPU_EXHAUSTED_AFTER_S",
        description="A call that has not begun by then, while its class has a backlog, takes another class, seconds.",
    )
    render_vram_gib: float = Field(
        default=40.0,
        gt=0,
        validation_alias="OVERSPILL_RENDER_VRAM_GIB",
        description="GPU memory that a render needs, GiB.",
    )
    render_needs_fp8: bool = Field(
        default=True,
        validation_alias="OVERSPILL_RENDER_NEEDS_FP8",
        description="The weights are FP8: Hopper, Ada or Blackwell only.",
    )
    vram_headroom_ratio: float = Field(
        default=0.25,
        ge=0,
        le=4,
        validation_alias="OVERSPILL_VRAM_HEADROOM_RATIO",
        description="Spare memory on top of the need, share of it.",
    )
    prices_usd_per_hour: dict[str, float] = Field(
        default_factory=dict,
        description='Own prices, as JSON: {"H100": 3.95}; dollars an hour of one GPU, or of a class with a count.',
    )
    region_factor: float = Field(
        default=1.0, gt=0, le=10, description="What Modal multiplies prices by in the region that the app asks for."
    )
    render_call_estimate_s: float = Field(
        default=180.0,
        gt=0,
        validation_alias="OVERSPILL_RENDER_CALL_ESTIMATE_S",
        description="Upper estimate of a render's seconds on Modal, cold start included; sizes the reservation.",
    )
    call_deadline_s: float = Field(
        default=1800.0,
        gt=0,
        validation_alias="OVERSPILL_CALL_DEADLINE_S",
        description="Our own wall clock for a Modal call, seconds.",
    )
    stop_margin_s: float = Field(
        default=15.0,
        ge=0,
        validation_alias="OVERSPILL_STOP_MARGIN_S",
        description="How long a call may go on between the decision to stop it and its end, seconds; reserved with it.",
    )
    scaledown_window_s: float = Field(
        default=60.0,
        ge=2,
        le=3600,
        description="How long an idle Modal container stays, seconds; the deployed renderer reads the same variable.",
    )
    window: Literal["fixed", "measured"] = Field(
        default="fixed",
        description="`measured`: each class's idle window follows its own cold starts, up to the scaledown window.",
    )
    result_transport: Literal["inline", "presigned"] = Field(
        default="inline",
        validation_alias="OVERSPILL_RESULT_TRANSPORT",
        description="How a video comes back: as the function's result, or straight to S3 at a presigned address.",
    )
    max_result_bytes: int = Field(
        default=512 * 1024**2,
        ge=1024,
        validation_alias="OVERSPILL_MAX_RESULT_BYTES",
        description="A larger result of a call is not fetched into memory, bytes.",
    )

    @property
    def prices(self) -> PriceList:
        """What Modal's classes cost here."""
        return PriceList(usd_per_hour=self.prices_usd_per_hour, region_factor=self.region_factor)


class BudgetSettings(Group):
    """What Modal may cost, and how much of it may be alive at once. Unset: no cap."""

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
    top_up_step_s: float = Field(
        default=60.0,
        ge=2,
        description="Size of a top-up of a call that outlasts its reservation, in seconds of its price.",
    )
    at_reservation_end: Literal["cancel", "run_on"] = Field(
        default="cancel",
        description="What becomes of a call whose reservation is used up while the budget has no more for it.",
    )
    true_up_hour_utc: int = Field(
        default=3,
        ge=0,
        le=23,
        description="From this hour (UTC) on, but not before 02:00, the ledger is compared with Modal's bill each day.",
    )


class WarmSettings(Group):
    """Containers that are kept warm for forecast peaks."""

    model_config = group("OVERSPILL_WARM_")

    usd_per_day: float = Field(
        default=0.0, ge=0, description="What containers warmed for forecast peaks may cost a day, dollars; 0: none are."
    )
    most: int = Field(default=20, ge=0, description="Containers kept warm for forecast peaks at most.")
    lead_s: float = Field(default=900.0, ge=0, description="How long before a peak they are there, seconds.")
    buffer: int = Field(
        default=0, ge=0, description="Idle containers that Modal keeps beside the warm ones of a class; paid with them."
    )


class SpawnSettings(Group):
    """How calls are spawned."""

    model_config = group("OVERSPILL_SPAWN_")

    rate_per_s: float = Field(
        default=200.0,
        gt=0,
        description="Spawns a second, all overflow workers together; keep it below the workspace's limit.",
    )
    burst_s: float = Field(
        default=5.0, gt=0, description="Seconds' worth of spawns that may go out at once after a quiet time."
    )
    timeout_s: float = Field(default=10.0, gt=0, description="Longest wait for one spawn, seconds; also its lease.")


class PollSettings(Group):
    """How calls in flight are polled."""

    model_config = group("OVERSPILL_POLL_")

    first_s: float = Field(default=0.5, gt=0, description="From a spawn to the first poll of its call, seconds.")
    max_s: float = Field(
        default=5.0, gt=0, description="Longest time between two polls of a call that sends no hints, seconds."
    )
    hinted_s: float = Field(
        default=30.0, gt=0, description="Time between two polls of a call whose hints come, seconds."
    )
    rate_per_s: float = Field(
        default=100.0,
        gt=0,
        validation_alias="OVERSPILL_POLLS_PER_S",
        description="Polls a second in one follower, about; more calls in flight are each polled less often.",
    )
