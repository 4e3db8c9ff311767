"""Where a train job runs: own GPUs while there is slack, Modal when there is none, home when that pays."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ledger.decisions import RunInhouse, RunOnModal, Shed
from ledger.models import BurstMode, JobRecord, Kind, TrainJob
from ledger.states import Pool, State
from ledger.view import ClusterView, KindView, MoneyView
from modal_apps.gpus import GpuClass, Profile, parse
from workers.placement.training import CannotRun, RunSize, TrainNeeds, TrainPolicy
from workers.training.sizing import EngineSizes

NOW_MS = 1_790_000_000_000
JOB: dict[str, Any] = {"recipe": "image_classifier", "steps": 1000, "batch_size": 100}
ALLOWED = ("L4", "A100-80GB", "H100")


def _record(*, deadline_s: float | None = None, **fields: Any) -> JobRecord:
    job = TrainJob.model_validate({**JOB, **fields})
    return JobRecord(
        id="ftjob_" + "0" * 32, kind=Kind.TRAIN, tenant="default", state=State.QUEUED, priority=5, burst=job.burst,
        created_ms=NOW_MS, changed_ms=NOW_MS, spec=job.model_dump_json(),
        deadline_ms=None if deadline_s is None else NOW_MS + int(deadline_s * 1000),
    )  # fmt: skip


def _view(
    *, slots: int = 1, active: int = 0, waiting: int = 0, rendering: int = 0, queued: int = 0, override: str = "auto"
) -> ClusterView:
    train = KindView(queued=queued, live_slots=slots, active_inhouse=active, waiting_inhouse=waiting)
    render = KindView(live_slots=slots, active_inhouse=rendering)
    return ClusterView(NOW_MS, {Kind.TRAIN: train, Kind.RENDER: render}, override=override)


def _policy(**changed: Any) -> TrainPolicy:
    # 1000 steps of 100 examples at 10 ms each: 1000 s.
    needs = TrainNeeds(EngineSizes(ALLOWED), guess_s_per_example=0.01, margin_s=60, startup_s=90)
    return TrainPolicy(replace(needs, **changed))


@pytest.mark.parametrize(
    ("deadline_s", "view", "rule", "to"),
    [
        (None, _view(), "own_gpu_free", RunInhouse),
        (None, _view(active=1, waiting=5), "waits_for_own_gpus", RunInhouse),
        # 1000 s of training, 90 s of start, 60 s of margin
        (1200, _view(active=1), "waits_for_own_gpus", RunInhouse),
        (1100, _view(active=1), "slack_used_up", RunOnModal),
        # A slot that renders is not free for training either
        (1100, _view(rendering=1), "slack_used_up", RunOnModal),
        (1100, _view(), "own_gpu_free", RunInhouse),
        (None, _view(slots=0), "no_live_slot", RunOnModal),
        # The operator's hand: off keeps it, even where no own GPU lives; on spills it, even where one is free
        (1100, _view(active=1, override="off"), "spill_off", RunInhouse),
        (None, _view(slots=0, override="off"), "spill_off", RunInhouse),
        (None, _view(override="on"), "spill_on", RunOnModal),
    ],
)
def test_train_waits_for_own_gpus_until_its_slack_is_used_up(
    deadline_s: float | None, view: ClusterView, rule: str, to: type
) -> None:
    verdict = _policy().decide(_record(deadline_s=deadline_s), view)
    assert (verdict.receipt.rule, type(verdict.decision)) == (rule, to)


def test_a_waiting_job_is_recalled_when_its_slack_is_gone_and_not_before() -> None:
    policy, view = _policy(), _view(active=1, waiting=1)
    assert policy.leaves(_record(deadline_s=1200), view) is None
    leaves = policy.leaves(_record(deadline_s=1100), view)
    assert leaves is not None
    assert (leaves[0], leaves[1].gpu) == ("slack_used_up", "L4")
    assert policy.leaves(_record(deadline_s=1100, burst="never"), view) is None
    assert policy.leaves(_record(deadline_s=1100), replace(view, override="off")) is None


def test_what_was_learnt_replaces_the_guess() -> None:
    quick = _policy(speeds={"image_classifier@L4": 0.001})
    assert quick.decide(_record(deadline_s=300), _view(active=1)).receipt.rule == "waits_for_own_gpus"


def test_the_reservation_covers_the_run_its_start_and_its_idle_tail_with_cores_and_memory() -> None:
    decision = _policy().decide(_record(burst="always"), _view()).decision
    assert isinstance(decision, RunOnModal)
    gpu = parse("L4", Profile.TRAIN)
    assert decision.gpu == "L4"
    assert decision.usd_nanos_per_s == gpu.price_usd_nanos_per_s()
    assert decision.reserve_usd_micros == gpu.cost_usd_micros(1000 * 1.3 + 90 + 60)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"batch_size": 33, "gpus": 2}, "batch_size"),
        ({"recipe": "diffusion_transformer", "width": 97}, "width"),
        ({"image_size": 8, "depth": 5}, "depth"),
        ({"gpu": "H1000"}, "H1000"),
        ({"gpu": "A10:8"}, "A10:8"),
        ({"recipe": "diffusion_transformer", "width": 4096, "depth": 64, "gpu": "L4"}, "L4"),
        # Counts for which the trainer has no class, and two counts that contradict each other
        ({"batch_size": 96, "gpus": 3}, "GPUs"),
        ({"batch_size": 96, "gpu": "L4:3"}, "expected 1, 2, 4 or 8 GPUs"),
        ({"gpu": "L4", "gpus": 2}, "L4:2"),
    ],
)
@pytest.mark.parametrize("burst", ["auto", "never", "always"])
def test_what_cannot_run_is_refused_before_money_is_spent(fields: dict[str, Any], wanted: str, burst: str) -> None:
    verdict = _policy().decide(_record(burst=burst, **fields), _view())
    assert isinstance(verdict.decision, Shed), verdict
    assert verdict.decision.code == "invalid_request"
    assert wanted in verdict.decision.message
    # The same is said where it is submitted
    assert _policy().refusal(TrainJob.model_validate({**JOB, **fields, "burst": burst})) == verdict.decision.message


PATH, BUCKET = "/data/pets", "s3://pictures/pets"


@pytest.mark.parametrize(
    ("dataset", "burst", "rule", "to"),
    [
        # What a container cannot read waits for own GPUs, whoever is away
        (PATH, "auto", "data_is_inhouse", RunInhouse),
        ("s3://others/pets", "auto", "data_is_inhouse", RunInhouse),
        (PATH, "never", "burst_never", RunInhouse),
        (PATH, "always", "does_not_fit", Shed),
        ("s3://others/pets", "always", "does_not_fit", Shed),
        (BUCKET, "auto", "no_live_slot", RunOnModal),
        (BUCKET, "always", "burst_always", RunOnModal),
    ],
)
def test_a_job_goes_only_where_its_data_can_be_read(dataset: str, burst: str, rule: str, to: type) -> None:
    policy = _policy(sizes=EngineSizes(ALLOWED, data_bucket="pictures"))
    verdict = policy.decide(_record(dataset=dataset, burst=burst), _view(slots=0))
    assert (verdict.receipt.rule, type(verdict.decision)) == (rule, to)
    if isinstance(verdict.decision, Shed):
        assert dataset in verdict.decision.message
        assert ("no disk of ours" if dataset == PATH else "OVERSPILL_MODAL_DATA_BUCKET") in verdict.decision.message


@pytest.mark.parametrize(
    ("gpus", "own_gpus", "burst", "rule", "to"),
    [
        (2, 1, "auto", "too_few_own_gpus", RunOnModal),
        (2, 1, "never", "does_not_fit", Shed),
        (2, 2, "auto", "own_gpu_free", RunInhouse),
        # Ranks on a CPU are as many as are asked for; of a count that Modal has not, own GPUs may have enough
        (2, None, "auto", "own_gpu_free", RunInhouse),
        (4, 4, "never", "burst_never", RunInhouse),
        (5, 8, "auto", "no_modal_class", RunInhouse),
        (5, 8, "always", "does_not_fit", Shed),
    ],
)
def test_a_job_that_asks_for_more_gpus_than_a_slot_has_goes_to_modal(
    gpus: int, own_gpus: int | None, burst: str, rule: str, to: type
) -> None:
    verdict = _policy(inhouse_gpus=own_gpus).decide(_record(gpus=gpus, burst=burst), _view())
    assert (verdict.receipt.rule, type(verdict.decision)) == (rule, to)


def test_only_what_own_gpus_can_have_waits_for_them_when_modal_is_refused() -> None:
    assert _policy().decide(_record(deadline_s=1100), _view(active=1)).otherwise == RunInhouse()
    for elsewhere in (_record(burst="always"), _record(gpus=2), _outgrown(gpu="L4")):
        verdict = _policy().decide(elsewhere, _view())
        assert (type(verdict.decision), verdict.otherwise) == (RunOnModal, None)


@pytest.mark.parametrize(
    "fields",
    [{"learning_rate": 0}, {"learning_rate": float("nan")}, {"colour": "red"}, {"recipe": "poetry"}, {"steps": 0}],
)
def test_what_is_wrong_in_itself_is_refused_at_the_door(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        TrainJob.model_validate({**JOB, **fields})


def test_a_model_that_fits_nowhere_is_refused_and_one_too_large_for_own_gpus_goes_to_modal() -> None:
    huge: dict[str, Any] = {
        "recipe": "diffusion_transformer",
        "width": 8192,
        "heads": 8,
        "depth": 128,
        "image_size": 64,
    }
    small_gpus = _policy(inhouse_vram_gib=8.0)
    assert isinstance(small_gpus.decide(_record(**huge), _view()).decision, Shed)
    large: dict[str, Any] = {
        "recipe": "diffusion_transformer",
        "width": 1024,
        "heads": 8,
        "depth": 24,
        "batch_size": 64,
    }
    verdict = small_gpus.decide(_record(**large), _view())
    assert verdict.receipt.rule == "too_large_for_own_gpus"


def test_after_an_out_of_memory_the_next_class_has_more_memory() -> None:
    outgrown = replace(_record(burst="always"), outgrown_gpu="L4")
    decision = _policy().decide(outgrown, _view()).decision
    assert isinstance(decision, RunOnModal)
    assert parse(decision.gpu).vram_gib > 24


def _outgrown(*, gpu: str | None = None, inhouse: str | None = None, **fields: Any) -> JobRecord:
    return replace(_record(**fields), outgrown_gpu=gpu, outgrown_inhouse=inhouse)


@pytest.mark.parametrize(
    ("record", "own_gib", "rule", "above_gib"),
    [
        # In-house, on GPUs of which nothing is known: what the allocator says; of known ones: above them
        (_outgrown(inhouse="cuda"), None, "outgrown_own_gpus", 0),
        (_outgrown(inhouse="cuda"), 24.0, "outgrown_own_gpus", 24),
        (replace(_record(gpu="L4"), outgrown_inhouse="cuda"), 24.0, "outgrown_own_gpus", 24),
        # On Modal: not at home, unless that is known to have more
        (_outgrown(gpu="L4"), None, "outgrown_own_gpus", 24),
        (_outgrown(gpu="L4"), 24.0, "outgrown_own_gpus", 24),
        (_outgrown(gpu="L4"), 80.0, "own_gpu_free", None),
    ],
)
def test_after_an_out_of_memory_no_attempt_is_made_where_memory_is_not_more(
    record: JobRecord, own_gib: float | None, rule: str, above_gib: float | None
) -> None:
    verdict = _policy(inhouse_vram_gib=own_gib).decide(record, _view())
    assert verdict.receipt.rule == rule
    if above_gib is None:
        assert verdict.decision == RunInhouse()
    else:
        assert isinstance(verdict.decision, RunOnModal)
        assert parse(verdict.decision.gpu).vram_gib > above_gib


@pytest.mark.parametrize(
    ("fields", "attempts", "said"),
    [
        ({"burst": "never"}, 1, "burst: never"),
        ({"dataset": PATH}, 1, "no disk of ours"),
        ({}, 0, "no Modal class"),
    ],
)
def test_a_job_that_has_outgrown_own_gpus_and_may_not_leave_them_fails_and_says_why(
    fields: dict[str, Any], attempts: int, said: str
) -> None:
    view = replace(_view(), money=MoneyView(max_modal_attempts=attempts))
    decision = _policy().decide(_outgrown(inhouse="cuda", **fields), view).decision
    assert isinstance(decision, Shed)
    assert decision.code == "out_of_memory"
    assert "memory ran out on our own GPUs" in decision.message
    assert said in decision.message


def test_a_host_whose_memory_ran_out_is_tried_again_by_a_job_that_can_go_nowhere_else() -> None:
    own, away = _outgrown(inhouse="host", burst="never"), _outgrown(inhouse="host")
    assert _policy().decide(own, _view()).decision == RunInhouse()
    verdict = _policy(inhouse_vram_gib=24.0).decide(away, _view())
    assert isinstance(verdict.decision, RunOnModal)
    assert (verdict.decision.gpu, verdict.otherwise) == ("L4", RunInhouse())


class _Fixed:
    """Sizes of a run that lasts so long."""

    def __init__(self, examples: int) -> None:
        self._examples = examples

    def run(self, job: TrainJob) -> RunSize:
        return RunSize(job.recipe, self._examples)

    def gpu_class(self, job: TrainJob, *, above_gib: float, without: Sequence[str]) -> GpuClass | None:
        raise CannotRun("not asked")

    def data_is_kept(self, job: TrainJob) -> str | None:
        raise CannotRun("not asked")

    def fits(self, job: TrainJob, vram_gib: float) -> bool:
        return True


def _on_modal(**changed: Any) -> JobRecord:
    return replace(_record(), state=State.RUNNING, pool=Pool.MODAL, gpu="H100", **changed)


def test_a_run_comes_home_when_own_gpus_idle_and_what_is_left_costs_more_than_the_move() -> None:
    # Given an hour of training on an H100, at the same speed on both sides
    policy = _policy(sizes=_Fixed(360_000), idle_s=60)
    idle, busy = _view(slots=2), _view(slots=1, active=1)
    # Then it comes home early in the run, and not when there is little left, no own GPU, or somebody who waits
    assert policy.goes_home(_on_modal(), idle, done_ratio=0.1) == "own_gpu_idle"
    assert policy.goes_home(_on_modal(), idle, done_ratio=0.95) is None
    assert policy.goes_home(_on_modal(), busy, done_ratio=0.1) is None
    assert policy.goes_home(_on_modal(), _view(slots=2, queued=1), done_ratio=0.1) is None
    # Nor when it would be late at home, when the job wants Modal, or when the setting says no
    assert policy.goes_home(_on_modal(deadline_ms=NOW_MS + 60_000), idle, done_ratio=0.1) is None
    assert policy.goes_home(_on_modal(burst=BurstMode.ALWAYS), idle, done_ratio=0.1) is None
    # Nor where it would be sent away again at once, nor to GPUs that it has outgrown
    assert policy.goes_home(_on_modal(), replace(idle, override="on"), done_ratio=0.1) is None
    assert policy.goes_home(_on_modal(outgrown_inhouse="cuda"), idle, done_ratio=0.1) is None
    assert _policy(sizes=_Fixed(360_000), comes_home=False).goes_home(_on_modal(), idle, done_ratio=0.1) is None


def test_where_nothing_trains_a_job_is_told_so_in_house() -> None:
    verdict = _policy(enabled=False).decide(_record(burst="always"), _view())
    assert (verdict.receipt.rule, verdict.decision) == ("no_engine", RunInhouse())


def test_a_render_with_a_trained_model_stays_where_pytorch_is() -> None:
    from infra.settings import Settings
    from ledger.models import RenderJob
    from workers.dispatch import policy_from

    job = RenderJob(prompt="a red circle", model="dit:ftjob_" + "0" * 32, burst=BurstMode.ALWAYS)
    record = replace(_record(), kind=Kind.RENDER, spec=job.model_dump_json(), burst=job.burst)
    verdict = policy_from(Settings()).decide(record, _view())
    assert (verdict.receipt.rule, verdict.decision) == ("trained_model", RunInhouse())
