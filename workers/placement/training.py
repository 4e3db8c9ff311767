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
from ledger.states import State
from ledger.view import ClusterView, KindView
from modal_apps.gpus import GpuClass, Profile, Resources, parse
from modal_apps.prices import PriceList
from workers.placement.policy import Verdict

INHOUSE = "inhouse"
#: An estimate of a run's time is reserved with so much on top.
RESERVE_FACTOR = 1.3
#: The least that coming home must save, as a multiple of what the move costs.
HOME_FACTOR = 2.0
#: Codes of jobs that are refused: they cannot be run as they are, or their memory ran out wherever they may run.
INVALID, OUT_OF_MEMORY = "invalid_request", "out_of_memory"


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

    def gpu_class(self, job: TrainJob, *, above_gib: float, without: Sequence[str]) -> GpuClass | None:
        """The class that the job named or the cheapest that holds it; None: none is allowed. Raises CannotRun.

        `above_gib`: each GPU must have more than this; memory ran out on one that had so much.
        """

    def fits(self, job: TrainJob, vram_gib: float) -> bool:
        """Whether it fits own GPUs of so much memory."""

    def data_is_kept(self, job: TrainJob) -> str | None:
        """Why its data cannot be read on Modal; None: it can."""


@dataclass(frozen=True)
class NotThere:
    """A place cannot have a job: the rule that sends it to the other one, and what it is told if that cannot either.

    Attributes:
        rule: for the receipt.
        message: for people.
        code: of a job that is refused for it.
        surely: another attempt there would end the same way.
    """

    rule: str
    message: str
    code: str = INVALID
    surely: bool = True


@dataclass(frozen=True)
class TrainNeeds:
    """What the deployment says about training.

    Attributes:
        sizes: what the engine and its allocator say of a job.
        enabled: whether it trains at all; if not, a job goes in-house, where it is told so.
        resources: cores and GiB beside one GPU, where they are not the catalogue's.
        prices: what classes cost here.
        inhouse_vram_gib: memory of one own GPU; None: any model is tried.
        inhouse_gpus: GPUs of one in-house slot; None: as many as a job asks for (ranks on a CPU).
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
    inhouse_gpus: int | None = 1
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
            "live_slots": here.live_slots, "progress": job.progress, "override": view.override,
        }  # fmt: skip
        return self._verdict(job, view, here, signals)

    def refusal(self, train: TrainJob) -> str | None:
        """Why a job would be refused wherever it arrived, as far as it says so itself; None: it would not be."""
        record = JobRecord(
            id="", kind=Kind.TRAIN, tenant=train.tenant, state=State.QUEUED, priority=train.priority,
            burst=train.burst, created_ms=0, changed_ms=0, spec=train.model_dump_json(),
        )  # fmt: skip
        enabled = replace(self, needs=replace(self.needs, enabled=True))
        decision = enabled.decide(record, ClusterView(0, {})).decision
        return decision.message if isinstance(decision, Shed) else None

    def spill_state(self, kind: Kind, view: ClusterView) -> SpillState:
        """Trains have no watermark."""
        return view.of(kind).spill

    def leaves(self, job: JobRecord, view: ClusterView) -> tuple[str, RunOnModal] | None:
        """Why a job that waits for an in-house slot should go to Modal now, and on what; None: let it wait.

        Whether a hard limit keeps it off Modal is not asked here; it is when the job is recalled.
        """
        verdict = self._verdict(job, view, _without_self(_home(view, job.kind)), {})
        return (verdict.receipt.rule, verdict.decision) if isinstance(verdict.decision, RunOnModal) else None

    def goes_home(self, job: JobRecord, view: ClusterView, *, done_ratio: float) -> str | None:
        """Why a run on Modal should come home at the checkpoint that it has just left; None: let it run.

        It comes when an own GPU is idle, nobody waits for one, its deadline allows it, and what is left of it costs
        more on Modal than at home by a multiple of what the move costs (the idle tail here, and what a start takes).
        Where an operator has everything spill, it stays.
        """
        here = _home(view, job.kind)
        if not self.needs.comes_home or view.override == "on" or job.burst is BurstMode.ALWAYS or not job.gpu:
            return None
        if here.free_slots <= 0 or here.queued > 0:
            return None
        train = job.job
        if not isinstance(train, TrainJob) or self._not_at_home(job, train) is not None:
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

    def _verdict(self, job: JobRecord, view: ClusterView, here: KindView, signals: dict[str, object]) -> Verdict:
        rule, decision, otherwise = self._rule(job, view, here, signals)
        return Verdict(
            job.id, decision, Receipt(self.name, rule, type(decision).__name__, signals), otherwise=otherwise
        )

    def _rule(
        self, job: JobRecord, view: ClusterView, here: KindView, signals: dict[str, object]
    ) -> tuple[str, Decision, Decision | None]:
        """The rule, the decision, and the one instead of it if a hard limit refuses it (None: it is held)."""
        train = job.job
        if not self.needs.enabled or not isinstance(train, TrainJob):
            return "no_engine", RunInhouse(), None
        rule = "invalid_config"
        try:
            run = self.needs.sizes.run(train)
            # What the job itself names of Modal's must be right, wherever it would have run.
            rule = "does_not_fit"
            away = self._on_modal(job, train, run, is_open=view.money.max_modal_attempts > 0)
        except CannotRun as error:
            return rule, Shed(INVALID, str(error)), None
        not_home = self._not_at_home(job, train)
        if isinstance(away, RunOnModal) and job.burst is not BurstMode.NEVER:
            signals["gpu"] = away.gpu
            if job.burst is BurstMode.ALWAYS:
                return "burst_always", away, None
            if not_home is None:
                return *self._auto(job, run, away, here, view, signals), RunInhouse()
            return not_home.rule, away, None if not_home.surely else RunInhouse()
        return *_at_home(job.burst, not_home, away if isinstance(away, NotThere) else None), None

    def _auto(
        self, job: JobRecord, run: RunSize, away: RunOnModal, here: KindView, view: ClusterView,
        signals: dict[str, object],
    ) -> tuple[str, Decision]:  # fmt: skip
        """Of a job that both places can have, and that leaves the choice to us."""
        if view.override == "off":
            return "spill_off", RunInhouse()
        if here.live_slots == 0 or view.override == "on":
            return "no_live_slot" if here.live_slots == 0 else "spill_on", away
        if here.free_slots > 0:
            return "own_gpu_free", RunInhouse()
        if job.deadline_ms is None:
            return "waits_for_own_gpus", RunInhouse()
        run_s = self.needs.run_s(run, away.gpu) + self.needs.startup_s
        slack_s = (job.deadline_ms - view.now_ms) / 1000 - run_s
        signals |= {"predicted_run_s": round(run_s, 1), "slack_s": round(slack_s, 1)}
        if slack_s > self.needs.margin_s:
            return "waits_for_own_gpus", RunInhouse()
        return "slack_used_up", away

    def _not_at_home(self, job: JobRecord, train: TrainJob) -> NotThere | None:
        """Why our own GPUs cannot have it; None: they can, as far as is known."""
        own_gib, own_gpus, gpus = self.needs.inhouse_vram_gib, self.needs.inhouse_gpus, train.gpus or 1
        if job.outgrown_inhouse:
            # A host's memory may have been another's fault: a job that can go nowhere else is tried there again.
            said, is_its_own = "memory ran out on our own GPUs", job.outgrown_inhouse == "cuda"
            return NotThere("outgrown_own_gpus", said, OUT_OF_MEMORY, surely=is_its_own)
        if job.outgrown_gpu is not None and (own_gib is None or parse(job.outgrown_gpu).vram_gib >= own_gib):
            have = "have no more" if own_gib else "may have no more (set OVERSPILL_TRAIN_INHOUSE_VRAM_GIB)"
            said = f"memory ran out on {job.outgrown_gpu}, and our own GPUs {have}"
            return NotThere("outgrown_own_gpus", said, OUT_OF_MEMORY)
        if own_gpus is not None and gpus > own_gpus:
            said = f"it asks for {gpus} GPUs, and an in-house slot has {own_gpus} (OVERSPILL_TRAIN_INHOUSE_GPUS)"
            return NotThere("too_few_own_gpus", said)
        if own_gib is not None and not self.needs.sizes.fits(train, own_gib):
            said = f"it needs more than the {own_gib:g} GiB of our own GPUs (OVERSPILL_TRAIN_INHOUSE_VRAM_GIB)"
            return NotThere("too_large_for_own_gpus", said)
        return None

    def _on_modal(
        self, job: JobRecord, train: TrainJob, run: RunSize, *, is_open: bool
    ) -> RunOnModal | NotThere | None:
        """The class that holds the run, with its reservation; None if none is allowed (nothing may be alive on Modal).

        Raises:
            CannotRun: the class that the job names is none that it can have.
        """
        above_gib = self._outgrown_gib(job)
        try:
            gpu = self.needs.sizes.gpu_class(train, above_gib=above_gib, without=job.exhausted_gpus)
        except CannotRun as error:
            if train.gpu is not None and not above_gib:
                raise
            return NotThere("no_modal_class", str(error), OUT_OF_MEMORY if above_gib else INVALID)
        kept = self.needs.sizes.data_is_kept(train)
        if kept is not None:
            return NotThere("data_is_inhouse", kept)
        if gpu is None or not (is_open or job.burst is BurstMode.ALWAYS):
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

    def _outgrown_gib(self, job: JobRecord) -> float:
        """Memory of a GPU on which it ran out, GiB; 0: it did on none, or how much that had is not known."""
        inhouse = self.needs.inhouse_vram_gib if job.outgrown_inhouse == "cuda" else None
        return max(inhouse or 0.0, parse(job.outgrown_gpu).vram_gib if job.outgrown_gpu else 0.0)


def _at_home(burst: BurstMode, not_home: NotThere | None, not_away: NotThere | None) -> tuple[str, Decision]:
    """Of a job that Modal cannot or may not have: it runs in-house, or nowhere."""
    if burst is BurstMode.ALWAYS and not_away is not None:
        return "does_not_fit", Shed(not_away.code, f"burst: always asks for Modal, and {not_away.message}")
    if not_home is None or not not_home.surely:
        if burst is BurstMode.NEVER:
            return "burst_never", RunInhouse()
        return (not_away.rule if not_away else "no_modal_class"), RunInhouse()
    because = "burst: never keeps it in-house" if burst is BurstMode.NEVER else "no Modal class may be taken"
    message = f"{not_home.message}; {because if not_away is None or burst is BurstMode.NEVER else not_away.message}"
    return "does_not_fit", Shed(not_home.code, message)


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
