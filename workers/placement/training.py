"""Where a train job runs: it waits for own GPUs until its slack is used up, and comes home when that pays. Pure.

Training is long, so an hour of waiting for an own GPU costs less than an hour of a rented one, and a run that was begun
on Modal can go on at home from any checkpoint. What a run takes is foreseen from the speed that runs of its recipe have
shown, in-house and on each class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ledger.decisions import Decision, Receipt, RunInhouse, RunOnModal, Shed, SpillState
from ledger.models import BurstMode, JobRecord, Kind, TrainJob, speed_key
from ledger.view import ClusterView, KindView
from modal_apps.gpus import GpuClass, Profile, Resources, parse
from workers.placement.policy import Verdict
from workers.placement.prices import PriceList

INHOUSE = "inhouse"
#: An estimate of a run's time is reserved with so much on top.
RESERVE_FACTOR = 1.3
#: The least that coming home must save, as a multiple of what the move costs.
HOME_FACTOR = 2.0


class CannotRun(Exception):
    """The engine does not take a job, or no class holds it; the text says what to do."""


@dataclass(frozen=True)
class RunSize:
    """What decides how long a run takes."""

    recipe: str
    #: Examples that it sees in all its steps.
    examples: int


class Sizes(Protocol):
    """What the engine and its allocator say of a job. Functions of their arguments alone."""

    def run(self, job: TrainJob) -> RunSize:
        """How much there is to do; raises CannotRun where the engine does not take the job."""

    def gpu_class(self, job: TrainJob, *, outgrown: str | None, without: Sequence[str]) -> GpuClass | None:
        """The class that the job named or the cheapest that holds it; None: none is allowed. Raises CannotRun."""

    def fits(self, job: TrainJob, vram_gib: float) -> bool:
        """Whether it fits GPUs of so much memory."""


@dataclass(frozen=True)
class TrainNeeds:
    """What the deployment says about training.

    Attributes:
        sizes: what the engine and its allocator say of a job.
        enabled: whether it trains at all; if not, a job goes in-house, where it is told so.
        resources: cores and GiB beside one GPU, where they are not the catalogue's.
        prices: what classes cost here.
        inhouse_vram_gib: memory of one own GPU; None: any model is tried.
        inhouse_usd_per_hour: what an own GPU costs, dollars.
        guess_s_per_example: speed before any was learnt, seconds.
        speeds: what was learnt: `speed_key` -> seconds per example.
        startup_s: from a spawn to the first step, seconds.
        idle_s: an idle container stays so long, seconds.
        segment_s: longest part of a run on Modal, seconds.
        margin_s: a waiting job leaves so long before its slack is gone, seconds.
        comes_home: whether runs come home.
    """

    sizes: Sizes
    enabled: bool = True
    resources: Resources = field(default_factory=dict)
    prices: PriceList = field(default_factory=PriceList)
    inhouse_vram_gib: float | None = None
    inhouse_usd_per_hour: float = 0.9
    guess_s_per_example: float = 0.002
    speeds: Mapping[str, float] = field(default_factory=dict)
    startup_s: float = 90.0
    idle_s: float = 60.0
    segment_s: float = 82_800.0
    margin_s: float = 60.0
    comes_home: bool = True

    def run_s(self, run: RunSize, place: str, *, done_ratio: float = 0.0) -> float:
        """Seconds that the rest of a run takes at a place: `inhouse` or a class's name."""
        known = self.speeds.get(speed_key(run.recipe, place))
        any_known = [speed for key, speed in self.speeds.items() if key.startswith(speed_key(run.recipe, ""))]
        per_example = known or (max(any_known) if any_known else self.guess_s_per_example)
        return per_example * run.examples * (1 - done_ratio)


@dataclass(frozen=True)
class TrainPolicy:
    """Places train jobs."""

    needs: TrainNeeds
    name: str = "train"

    def decide(self, job: JobRecord, view: ClusterView) -> Verdict:
        """In-house, on Modal, or refused because nothing can run it."""
        here = _home(view, job.kind)
        signals: dict[str, object] = {
            "waiting_inhouse": here.waiting_inhouse, "active_inhouse": here.active_inhouse,
            "live_slots": here.live_slots, "progress": job.progress,
        }  # fmt: skip
        rule, decision = self._rule(job, here, view.now_ms, signals)
        return Verdict(job.id, decision, Receipt(self.name, rule, type(decision).__name__, signals))

    def spill_state(self, kind: Kind, view: ClusterView) -> SpillState:
        """Trains have no watermark."""
        return view.of(kind).spill

    def recheck(self, view: ClusterView) -> Sequence[Verdict]:
        """Waiting jobs are decided about one by one (see `leaves`)."""
        return ()

    def leaves(self, job: JobRecord, view: ClusterView) -> str | None:
        """Why a job that waits for an in-house slot should be decided about again; None: let it wait."""
        rule = self._rule(job, _without_self(_home(view, job.kind)), view.now_ms, {})
        return rule[0] if isinstance(rule[1], RunOnModal) else None

    def goes_home(self, job: JobRecord, view: ClusterView, *, done_ratio: float) -> str | None:
        """Why a run on Modal should come home at the checkpoint that it has just left; None: let it run.

        It comes when an own GPU is idle, nobody waits for one, its deadline allows it, and what is left of it costs
        more on Modal than at home by a multiple of what the move costs (the idle tail here, and what a start takes).
        """
        here = _home(view, job.kind)
        if not self.needs.comes_home or job.burst is BurstMode.ALWAYS or not job.gpu:
            return None
        if here.free_slots <= 0 or here.queued > 0:
            return None
        train = job.job
        if not isinstance(train, TrainJob) or not self._fits_at_home(train):
            return None
        run = self.needs.sizes.run(train)
        gpu = parse(job.gpu, Profile.TRAIN, self.needs.resources)
        per_s = self.needs.prices.usd_nanos_per_s(gpu) / 1e9
        home_s = self.needs.run_s(run, INHOUSE, done_ratio=done_ratio)
        away_usd = self.needs.run_s(run, gpu.name, done_ratio=done_ratio) * per_s
        home_usd = home_s * self.needs.inhouse_usd_per_hour / 3600
        move_usd = (self.needs.idle_s + self.needs.startup_s) * per_s
        late = job.deadline_ms is not None and view.now_ms + home_s * 1000 > job.deadline_ms
        return "own_gpu_idle" if not late and away_usd - home_usd > HOME_FACTOR * move_usd else None

    def _rule(self, job: JobRecord, here: KindView, now_ms: int, signals: dict[str, object]) -> tuple[str, Decision]:
        train = job.job
        if not self.needs.enabled or not isinstance(train, TrainJob):
            return "no_engine", RunInhouse()
        try:
            run = self.needs.sizes.run(train)
        except CannotRun as error:
            return "invalid_config", Shed("invalid_request", str(error))
        fits_at_home = self._fits_at_home(train)
        try:
            away = self._on_modal(job, train, run)
        except CannotRun as error:
            # A class that the job named and that cannot hold it is an error, wherever it would have run.
            if train.gpu is not None or not fits_at_home:
                return "does_not_fit", Shed("invalid_request", str(error))
            away = None
        if away is not None:
            signals["gpu"] = away.gpu
            if job.burst is BurstMode.ALWAYS or (job.burst is BurstMode.AUTO and not fits_at_home):
                return ("burst_always" if fits_at_home else "too_large_for_own_gpus"), away
            if job.burst is BurstMode.AUTO:
                return self._auto(job, run, away, here, now_ms, signals)
        return ("burst_never" if job.burst is BurstMode.NEVER else "no_modal_class"), RunInhouse()

    def _auto(
        self, job: JobRecord, run: RunSize, away: RunOnModal, here: KindView, now_ms: int, signals: dict[str, object]
    ) -> tuple[str, Decision]:
        if here.live_slots == 0:
            return "no_live_slot", away
        if here.free_slots > 0:
            return "own_gpu_free", RunInhouse()
        if job.deadline_ms is None:
            return "waits_for_own_gpus", RunInhouse()
        run_s = self.needs.run_s(run, away.gpu) + self.needs.startup_s
        slack_s = (job.deadline_ms - now_ms) / 1000 - run_s
        signals |= {"predicted_run_s": round(run_s, 1), "slack_s": round(slack_s, 1)}
        if slack_s > self.needs.margin_s:
            return "waits_for_own_gpus", RunInhouse()
        return "slack_used_up", away

    def _fits_at_home(self, train: TrainJob) -> bool:
        own_gib = self.needs.inhouse_vram_gib
        return own_gib is None or self.needs.sizes.fits(train, own_gib)

    def _on_modal(self, job: JobRecord, train: TrainJob, run: RunSize) -> RunOnModal | None:
        """The class that holds the run, with its reservation; None if none is allowed."""
        gpu = self.needs.sizes.gpu_class(train, outgrown=job.outgrown_gpu, without=job.exhausted_gpus)
        if gpu is None:
            return None
        # A job that has run for a while has less to do; how much is not known here, so the whole is set aside.
        seconds = min(self.needs.run_s(run, gpu.name) * RESERVE_FACTOR, self.needs.segment_s)
        prices = self.needs.prices
        return RunOnModal(
            gpu=gpu.name,
            reserve_usd_micros=prices.cost_usd_micros(gpu, seconds + self.needs.startup_s + self.needs.idle_s),
            usd_nanos_per_s=prices.usd_nanos_per_s(gpu),
            gpus=gpu.count,
        )


def _home(view: ClusterView, kind: Kind) -> KindView:
    """Own GPUs as a train job sees them: a slot that renders, or is about to, is not free for it either."""
    here = view.of(kind)
    others = [other for name, other in view.kinds.items() if name is not kind]
    return replace(
        here,
        waiting_inhouse=here.waiting_inhouse + sum(other.waiting_inhouse for other in others),
        active_inhouse=here.active_inhouse + sum(other.active_inhouse for other in others),
    )


def _without_self(here: KindView) -> KindView:
    """The picture that a waiting job decides by: it does not wait for itself."""
    return replace(here, waiting_inhouse=max(0, here.waiting_inhouse - 1))
