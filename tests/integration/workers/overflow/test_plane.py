"""The overflow plane through the real SDK on a simulated Modal: endings, hints, cancels, orphans, money, breaker."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import modal
import pytest
from modal.exception import ServiceError

from ledger import Kind, Ledger, Pool, State
from ledger.decisions import RunOnModal
from ledger.limits import Limits
from ledger.outcomes import ClaimedJob, Placed, Refused
from ledger.polling import SpawnRate
from tests.support.ledgers import RECEIPT, ROOMY, claim_spawns, limited, limited_by, submit
from tests.support.overflow import APP, Plane, client_of, deploy_renderer
from tests.support.simulated_modal import simulated_modal
from tests.support.waiting import until
from workers.dispatch import render_need
from workers.overflow.breaker import BreakerProbe, BreakerRules, FailureReason, Phase
from workers.overflow.classify import failure_reason_of
from workers.overflow.containers import IdleWatch, WarmKeeper
from workers.overflow.modal_sdk.client import ModalSdk
from workers.overflow.orphans import OrphanSweep

_RATE = SpawnRate(per_s=1000, burst=1000)


@dataclass(frozen=True)
class SimulatedModal:
    environment: dict[str, str]
    client: modal.Client


@pytest.fixture(scope="module")
def cloud() -> Iterator[SimulatedModal]:
    with simulated_modal(gpus="H100=400,H200=400,B200=0") as environment:
        deploy_renderer(environment)
        yield SimulatedModal(environment, client_of(environment))


@pytest.fixture
def plane(ledger: Ledger, cloud: SimulatedModal) -> Iterator[Plane]:
    made = Plane.on(ledger, cloud.environment, cloud.client)
    yield made
    made.admin.clear()


def _plane(ledger: Ledger, cloud: SimulatedModal, **settings: Any) -> Plane:
    return Plane.on(ledger, cloud.environment, cloud.client, **settings)


def test_a_call_is_spawned_shows_its_progress_and_its_end_is_noticed_by_its_hint(
    ledger: Ledger, cloud: SimulatedModal
) -> None:
    # Given a call that works for three seconds, on a plane whose polls would take half a minute
    slow_polls = _plane(ledger, cloud, poll_first_s=30, poll_max_s=30)
    job_id = slow_polls.placed("simulated 4.5")
    assert slow_polls.spawn() == {"spawned": 1}
    began = time.monotonic()
    # When it is followed
    with slow_polls.following():
        # Then its progress shows on the way
        seen = until(lambda: ledger.jobs.get(job_id), lambda job: job.progress >= 40, timeout_s=10)
        assert seen.state is State.RUNNING
        done = slow_polls.ended(job_id)
    # And its end is noticed long before the next poll, with what its container said of itself
    assert (done.state, done.progress) == (State.COMPLETED, 100)
    assert time.monotonic() - began < 12
    attempt = ledger.jobs.attempt(job_id, 1)
    assert int(attempt["peak_gpu_memory_bytes"]) == 30 * 2**30
    assert "call.started" in [event.event for event in ledger.jobs.history(job_id)]
    assert int(attempt["cost_usd_micros"]) > 0


@pytest.mark.parametrize("silent", ["", " silent"])
def test_many_calls_end_each_in_its_own_way(plane: Plane, silent: str) -> None:
    # Given a call for each ending that a container can have; without hints the polls find them
    endings = {
        "simulated 0.2": ("completed", State.COMPLETED),
        "simulated 0.2 answer=garbage": ("bad_envelope", State.FAILED),
        "simulated 0.2 answer=old": ("bad_envelope", State.FAILED),
        "simulated 0.2 answer=value_lacks": ("bad_envelope", State.FAILED),
        "simulated 0.2 answer=too_large": ("result_too_large", State.FAILED),
        "simulated 0.2 answer=oom": ("out_of_memory", State.QUEUED),
        "simulated 0.2 raise=timeout": ("error", State.QUEUED),
        "simulated 0.2 raise=error": ("error", State.QUEUED),
        # What the SDK raises itself when Modal cannot be asked, raised by the method
        "simulated 0.2 raise=auth": ("error", State.QUEUED),
        "simulated 0.2 raise=file": ("error", State.QUEUED),
        "simulated 0.2 clock=3600": ("completed", State.COMPLETED),
    }
    ids = {prompt: plane.placed(prompt + silent) for prompt in endings}
    # When they are spawned at once and followed
    assert plane.spawn() == {"spawned": len(endings)}
    with plane.following():
        outcomes = {prompt: plane.attempt_ended(job_id)["outcome"] for prompt, job_id in ids.items()}
    # Then each has the outcome and the state that its ending calls for
    assert outcomes == {prompt: outcome for prompt, (outcome, _) in endings.items()}
    states = {prompt: plane.ledger.jobs.get(job_id).state for prompt, job_id in ids.items()}
    assert states == {prompt: state for prompt, (_, state) in endings.items()}
    # And a clock that is an hour ahead costs what it worked, not an hour
    skewed = plane.ledger.jobs.attempt(ids["simulated 0.2 clock=3600"], 1)
    assert int(skewed["cost_usd_micros"]) < 10 * plane.settings.modal.prices.usd_nanos_per_s("H100") / 1000
    # And none of what the methods raised was taken for trouble with Modal
    assert plane.gate.read().phase is Phase.CLOSED
    # And after an out of memory the job wants a larger class
    assert plane.ledger.jobs.get(ids["simulated 0.2 answer=oom"]).outgrown_gpu == "H100"


def test_the_platform_cancels_loses_and_expires_calls(plane: Plane) -> None:
    # Given one call that Modal cancels, and one whose result it has dropped
    cancelled, expired = plane.placed("simulated 60"), plane.placed("simulated 0.1")
    plane.spawn()
    call_ids = {one: plane.ledger.jobs.get(one).call_id or "" for one in (cancelled, expired)}
    asyncio.run(plane.modal.cancel(call_ids[cancelled]))
    until(lambda: plane.admin.call(call_ids[expired]), lambda call: call["state"] == "done", timeout_s=10)
    plane.admin.inject("expire_results", call_id=call_ids[expired])
    # When they are followed
    with plane.following():
        outcomes = {one: plane.attempt_ended(one)["outcome"] for one in call_ids}
    # Then each is named for what it is, and tried again
    assert outcomes == {cancelled: "cancelled_remotely", expired: "result_expired"}
    assert {plane.ledger.jobs.get(one).state for one in call_ids} == {State.QUEUED}


def test_forty_cancels_stop_their_gpus_soon_and_say_what_they_cost(plane: Plane) -> None:
    # Given forty calls in flight
    ids = [plane.placed("simulated 300", reserve_usd_micros=1_000) for _ in range(40)]
    assert plane.spawn() == {"spawned": 40}
    until(lambda: len(plane.admin.calls(state="running")), lambda number: number >= 40, timeout_s=20)
    # When all are cancelled
    with plane.following():
        began = time.monotonic()
        for job_id in ids:
            plane.ledger.jobs.cancel(job_id)
        until(plane.ledger.placement.view, lambda view: view.modal_attempts == 0, timeout_s=20)
    # Then every GPU has stopped within ten seconds
    assert time.monotonic() - began < 10
    assert plane.admin.calls(state="running") == []
    # And each says when, and what it cost
    stopped = [event for event in plane.ledger.jobs.history(ids[0]) if event.event == "call.stopped"]
    assert len(stopped) == 1
    assert "usd_micros" in (stopped[0].detail or "")


def test_a_call_whose_spawner_died_is_adopted_while_its_attempt_waits_for_it(plane: Plane) -> None:
    # Given a call whose spawner died before it wrote the id
    job_id = plane.placed("simulated 3")
    (record,) = claim_spawns(plane.ledger, worker="dies", limit=1, lease_s=60)
    request = {"prompt": "simulated 3", "width": 320, "height": 180, "seconds": 4, "fps": 24, "seed": 0}
    spawn = plane.modal.spawn(request, attempt_of=(record.id, 1), gpu="H100", timeout_s=10)
    call_id = asyncio.run(spawn)
    # When it is followed: its hint tells of it
    with plane.following():
        done = plane.ended(job_id)
    # Then it was taken for the attempt's own, and nobody paid twice
    assert (done.state, done.attempt, done.call_id) == (State.COMPLETED, 1, call_id)
    assert "call.adopted" in [event.event for event in plane.ledger.jobs.history(job_id)]
    assert len([call for call in plane.admin.calls() if call["call_id"] == call_id]) == 1


def test_of_two_calls_of_one_attempt_the_one_that_works_is_followed(plane: Plane) -> None:
    # Given an attempt whose spawn was answered twice: the first call works, and the second one was recorded
    job_id = plane.placed("simulated 1.5")
    claim_spawns(plane.ledger, worker="twice", limit=1, lease_s=60)
    request = {"prompt": "simulated 1.5", "width": 320, "height": 180, "seconds": 4, "fps": 24, "seed": 0}

    def spawned() -> str:
        return asyncio.run(plane.modal.spawn(request, attempt_of=(job_id, 1), gpu="H100", timeout_s=10))

    works = spawned()
    until(lambda: asyncio.run(plane.modal.announcement(job_id, 1)), lambda found: found is not None, timeout_s=10)
    recorded = spawned()
    assert plane.ledger.modal_calls.record_call(job_id, 1, call_id=recorded, first_check_s=0, deadline_s=60)
    # When it is followed
    with plane.following():
        done = plane.ended(job_id)
    # Then the recorded one leaves, and the job is done by the other, without another attempt
    assert (done.state, done.attempt, done.call_id) == (State.COMPLETED, 1, works)


def test_that_modal_cannot_be_asked_is_not_taken_for_a_call_that_never_began(plane: Plane) -> None:
    # Given a Dict of Modal's that is away; when it is asked for an announcement, then that is said
    plane.admin.inject("unavailable", methods=["DictGet"])
    with pytest.raises(ServiceError):
        asyncio.run(plane.modal.announcement("video_never", 1))
    # And when it is back, then one that never began is told by None
    plane.admin.clear()
    assert asyncio.run(plane.modal.announcement("video_never", 1)) is None


def test_one_sweep_stops_strangers_and_forgets_what_is_settled(plane: Plane) -> None:
    # Given a settled call, and one of a job that this ledger never had
    settled = plane.placed("simulated 0.1")
    plane.spawn()
    with plane.following():
        plane.ended(settled)
    request = {"prompt": "simulated 300", "width": 320, "height": 180, "seconds": 4, "fps": 24, "seed": 0}
    stranger = asyncio.run(plane.modal.spawn(request, attempt_of=("video_never", 1), gpu="H100", timeout_s=10))

    async def announced() -> set[str]:
        return {one.job_id async for page in plane.modal.announced(page=50) for one in page}

    until(lambda: asyncio.run(announced()), lambda found: {settled, "video_never"} <= found, timeout_s=10)
    # When the sweep goes round once
    asyncio.run(OrphanSweep(plane.ledger, plane.modal, plane.settings, owner="test").sweep())
    # Then the stranger is stopped, and both announcements are gone
    assert plane.admin.call(stranger)["state"] != "running"
    assert not {settled, "video_never"} & asyncio.run(announced())


def test_a_class_of_which_no_gpu_comes_is_given_up_for_another(ledger: Ledger, cloud: SimulatedModal) -> None:
    # Given a call on a class that has no card
    plane = _plane(ledger, cloud, gpu_exhausted_after_s=1.0)
    job_id = plane.placed("simulated 1", gpu="B200")
    plane.spawn()
    # When it is followed
    with plane.following():
        attempt = plane.attempt_ended(job_id)
        # Then it is stopped, and the job knows which class did not come
        until(ledger.placement.view, lambda view: view.modal_attempts == 0, timeout_s=10)
    assert attempt["outcome"] == "gpu_exhausted"
    assert ledger.jobs.get(job_id).exhausted_gpus == ("B200",)


def test_a_call_that_outlasts_its_reservation_is_topped_up_or_stopped(ledger: Ledger, cloud: SimulatedModal) -> None:
    # Given two calls whose reservations cover a second, and a budget that has room for both for about eight
    rate = 1_140_960
    plane = _plane(
        ledger, cloud, modal_scaledown_window_s=2, stop_margin_s=1, top_up_step_s=2, month_cap_usd=0.03, poll_max_s=1
    )
    reserve = 4 * rate // 1000
    first = plane.placed("simulated 4", reserve_usd_micros=reserve)
    second = plane.placed("simulated 60 silent", reserve_usd_micros=reserve)
    plane.spawn()
    limited_by(ledger, plane.settings)
    # When they are followed
    with plane.following():
        ended = plane.attempt_ended(second)
        done = plane.ended(first)
        until(ledger.placement.view, lambda view: view.modal_attempts == 0, timeout_s=20)
    # Then the one of four seconds goes on to its end, and the other is stopped in time, with its reason
    assert done.state is State.COMPLETED
    assert ended["outcome"] == "budget"
    counters = ledger.counters()
    assert counters["top_ups_total|kind=render|outcome=topped_up"] > 0
    spent = ledger.placement.view().money
    assert spent.spent_usd_micros + spent.reserved_usd_micros <= 30_000


def test_tails_of_containers_that_died_early_are_given_back(ledger: Ledger, cloud: SimulatedModal) -> None:
    # Given a call that has ended, with its container's idle tail set aside
    plane = _plane(ledger, cloud, modal_scaledown_window_s=3600)
    job_id = plane.placed("simulated 0.1", gpu="H200")
    plane.spawn()
    with plane.following():
        plane.ended(job_id)
    assert ledger.placement.view().money.reserved_usd_micros > 0
    # When its container dies, and the watch asks Modal
    (task_id,) = json.loads(ledger.jobs.attempt(job_id, 1)["measurements"])["container_id"].split()
    plane.admin.inject("kill", task_id=task_id)
    watch = IdleWatch(ledger, plane.modal)

    def reserved() -> int:
        asyncio.run(watch.compare())
        return ledger.placement.view().money.reserved_usd_micros

    # Then nothing is set aside for it any more
    until(reserved, lambda usd_micros: usd_micros == 0, timeout_s=10)


def test_the_rate_is_shared_and_kept(ledger: Ledger, cloud: SimulatedModal) -> None:
    # Given a bucket of five tokens, refilled ten times a second, and two spawners
    one = _plane(ledger, cloud, spawn_rate_per_s=10, spawn_burst_s=0.5)
    for _ in range(15):
        one.placed("simulated 0.5", reserve_usd_micros=1_000)
    # When everything is spawned
    began = time.monotonic()
    assert one.spawn() == {"spawned": 15}
    # Then the five went at once, and the other ten took their second
    assert 0.9 < time.monotonic() - began < 6


def test_an_app_that_is_not_deployed_holds_jobs_and_uses_up_no_retry(ledger: Ledger, cloud: SimulatedModal) -> None:
    # Given a plane whose app nobody has deployed
    plane = _plane(ledger, cloud, app="overspill-nowhere")
    job_id = plane.placed("simulated 1")
    # When it spawns
    tally = plane.spawn()
    # Then no attempt failed: the job waits again, and the breaker says why
    assert tally.get("not_deployed") == 1
    record = ledger.jobs.get(job_id)
    assert (record.state, record.pool) == (State.QUEUED, None)
    assert ledger.jobs.attempt(job_id, 1)["outcome"] == "given_back"
    assert (ledger.modal_calls.breaker().phase, ledger.modal_calls.breaker().reason) == ("open", "not_deployed")
    assert ledger.counters()["spawn_errors_total|reason=not_deployed"] == 1
    # And nothing more is placed on Modal
    assert _place_again(ledger) == Refused("breaker_open")


class _OneClassMissing(ModalSdk):
    """Asks for a class that the deployed app has not."""

    async def spawn(self, *_: object, **__: object) -> str:
        missing = modal.Cls.from_name(APP, "NoSuchClass", client=self._client)
        await missing().render.spawn.aio()
        raise AssertionError("expected NotFoundError")


def test_one_class_that_is_missing_is_its_jobs_trouble_and_nobody_elses(ledger: Ledger, cloud: SimulatedModal) -> None:
    # Given a job that asks for what the deployment lacks
    plane = _plane(ledger, cloud)
    plane.modal = _OneClassMissing(app_name=APP, environment=None, max_result_bytes=10**6, client=cloud.client)
    job_id = plane.placed("simulated 1")
    # When it is spawned
    assert plane.spawn() == {"spawn_refused": 1}
    # Then its attempt failed with Modal's words, and the breaker lets others through
    attempt = ledger.jobs.attempt(job_id, 1)
    assert attempt["outcome"] == "spawn_refused"
    assert "NoSuchClass" in attempt["message"]
    assert ledger.modal_calls.breaker().phase == "closed"


def _place_again(ledger: Ledger, *, limits: Limits = ROOMY) -> Placed | Refused:
    def claim() -> list[ClaimedJob]:
        return ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=10)

    (claimed,) = until(claim, bool, timeout_s=10)
    decision = RunOnModal("H100", 1_000, usd_nanos_per_s=1)
    outcome = limited(ledger, limits).placement.place(claimed, decision, receipt=RECEIPT)
    assert isinstance(outcome, Placed | Refused)
    return outcome


def test_modal_that_is_away_opens_the_breaker_and_it_closes_when_modal_is_back(
    ledger: Ledger, cloud: SimulatedModal
) -> None:
    # Given a Modal that answers no spawn
    plane = _plane(ledger, cloud, rules=BreakerRules(failures=2, open_s=0.5))
    plane.admin.inject("unavailable", methods=["FunctionMap"])
    ids = [plane.placed("simulated 0.1") for _ in range(6)]
    # When the first few have failed
    plane.spawn()
    assert plane.gate.read().phase is Phase.OPEN
    # Then what still waited was given back, and nothing is claimed
    assert plane.ledger.modal_calls.claim_spawns(worker="w", limit=9, lease_s=1, rate=_RATE).records == []
    assert all(ledger.jobs.get(one).pool is not Pool.MODAL for one in ids)
    # When Modal is back, it is asked something cheap, and a few spawns close the breaker
    plane.admin.clear()
    probe = BreakerProbe(ledger, plane.gate, plane.modal.probe, failure_reason_of)

    def probed() -> Phase:
        asyncio.run(probe.probe_if_due())
        return plane.gate.read().phase

    assert until(probed, lambda phase: phase is not Phase.OPEN, timeout_s=10) is Phase.HALF_OPEN
    for _ in range(plane.gate.rules.probes):
        submit(ledger, prompt="simulated 0.1")
        assert isinstance(_place_again(ledger), Placed)
    plane.spawn()
    assert plane.gate.read().phase is Phase.CLOSED


def test_two_workers_agree_on_the_breaker(ledger: Ledger, cloud: SimulatedModal) -> None:
    one, other = _plane(ledger, cloud), _plane(ledger, cloud)
    one.gate.failed(FailureReason.TOKEN_REFUSED)
    assert other.gate.read().phase is Phase.OPEN
    transitions = [name for name in ledger.counters() if name.startswith("modal_breaker_transitions_total")]
    assert transitions == ["modal_breaker_transitions_total|reason=token_refused|to=open"]


def test_a_token_that_is_revoked_stops_spills_and_says_so_and_all_goes_on_when_it_is_mended(
    ledger: Ledger, cloud: SimulatedModal
) -> None:
    # Given a plane with a wrong token: a call in flight cannot be asked about, another cannot be spawned
    good = _plane(ledger, cloud, rules=BreakerRules(open_s=0.2))
    running = good.placed("simulated 0.5")
    good.spawn()
    wrong = client_of({**cloud.environment, "MODAL_TOKEN_SECRET": "as-revoked"})
    revoked = Plane.on(ledger, cloud.environment, wrong, rules=BreakerRules(open_s=0.2), poll_max_s=0.5)
    waiting = revoked.placed("simulated 0.1")
    # When it works
    with revoked.following():
        until(lambda: revoked.gate.read().phase, lambda phase: phase is Phase.OPEN, timeout_s=10)
        until(lambda: ledger.jobs.get(waiting).state, lambda state: state is State.QUEUED, timeout_s=10)
        # Then the call in flight is not given up
        assert ledger.jobs.get(running).state is State.RUNNING
        assert revoked.gate.read().reason == "token_refused"
    # And when the token is good again, what ran is fetched, and spawns go out
    with good.following():
        assert good.ended(running).state is State.COMPLETED
        until(lambda: good.gate.read().phase, lambda phase: phase is Phase.HALF_OPEN, timeout_s=10)
    assert isinstance(_place_again(ledger), Placed)
    assert good.spawn() == {"spawned": 1}


def test_a_wish_for_warm_containers_is_kept_paid_for_and_given_back(ledger: Ledger, cloud: SimulatedModal) -> None:
    # Given an operator's wish for three warm containers of a class
    plane = _plane(ledger, cloud)
    keeper = WarmKeeper(plane.resources, plane.modal, render_need(plane.settings), every_s=30)
    ledger.money.set_prewarm(3, gpu="H200", for_s=60, who="op", why="a launch")
    # When the keeper goes round
    asyncio.run(keeper.keep())
    # Then Modal has them, the ledger knows, and half a minute of three is booked ahead
    until(lambda: asyncio.run(plane.modal.pool("H200")), lambda pool: pool.runners >= 3, timeout_s=10)
    assert ledger.money.kept_warm() == {(Kind.RENDER, "H200"): 3}
    rate = plane.settings.modal.prices.usd_nanos_per_s("H200")
    spent = ledger.placement.view().money.spent_usd_micros
    assert spent == pytest.approx(3 * 30 * rate / 1000, rel=0.01)
    # When the wish is taken back, another keeper (the first one died) gives them back
    ledger.money.set_prewarm(0, gpu="H200", for_s=60, who="op", why="over")
    asyncio.run(WarmKeeper(plane.resources, plane.modal, render_need(plane.settings), every_s=30).keep())
    assert ledger.money.kept_warm() == {}
    assert ledger.placement.view().money.spent_usd_micros == spent
    assert ledger.audit(ledger.money.limits()) == []
