"""Eight dispatchers race against every cap at once, while calls are topped up, end and are stopped, and containers are
kept warm: none is passed.

The dispatchers are processes; two of them are killed at work, and so is Redis, which comes back from its append-only
file. What is checked is not a sample: every movement of money is one entry of the ledger's journal, and the journal is
replayed from its beginning, summing up for itself.
"""

import multiprocessing
import random
import signal
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ledger import Kind, Ledger, LedgerSettings, LedgerUnavailable
from ledger.containers import ContainerUse, Usage
from ledger.decisions import RunInhouse, RunOnModal
from ledger.limits import Limits
from ledger.models import Artifact
from ledger.outcomes import Delivering, Placed, Refused
from ledger.warming import WarmHeld, WarmPool, WarmTerms
from tests.support.ledgers import RECEIPT, claim_spawns, fresh_ledger, limited, submit
from tests.support.redis_server import running_redis
from tests.support.waiting import until

ARTIFACT = Artifact(bucket="b", key="k", thumbnail_key=None, size_bytes=1, sha256="0")
RATE = 1_000_000
CLASSES = (RunOnModal("H100", 90_000, RATE), RunOnModal("A100-80GB:4", 120_000, 2 * RATE, gpus=4))
#: Every cap is near: each of them speaks in a run.
LIMITS = Limits(
    month_cap_usd_micros=2_000_000,
    max_modal_attempts=9,
    day_cap_usd_micros=1_950_000,
    hour_rate_cap_usd_micros=14 * 3_600_000,
    tenant_cap_usd_micros=700_000,
    tenant_caps_usd_micros={"acme": 400_000},
    kind_caps_usd_micros={"render": 1_900_000},
    max_gpus=21,
    max_containers=10,
    drain_ratio=0.9,
    drain_priority=5,
)
JOBS, DISPATCHERS = 300, 8
#: Dispatchers that are killed at work. One that has ended its work waits: on a busy machine the strike comes late.
VICTIMS = (0, 1)
#: The one that keeps containers warm beside (two others are killed).
KEEPER = 2
TENANTS = ("acme", "beta", "gamma", "delta")


def _dispatch(settings: LedgerSettings, seed: int) -> None:
    """A process: place what is queued, until nothing is left; a Redis that is away is waited for."""
    chance = random.Random(seed)
    mine: list[tuple[str, int, RunOnModal]] = []
    give_up_at = time.monotonic() + 60
    with Ledger(settings) as own:
        while time.monotonic() < give_up_at:
            try:
                if seed == KEEPER:
                    _keep_warm(own, chance)
                if not _round(own, chance, mine):
                    break
            except LedgerUnavailable:
                time.sleep(0.05)
    if seed in VICTIMS:
        signal.pause()


def _keep_warm(own: Ledger, chance: random.Random) -> None:
    """A round of the warm keeper, who wants now more and now fewer of a class."""
    decision, terms = chance.choice(CLASSES), WarmTerms(round_s=1)
    wanted = WarmPool(Kind.RENDER, decision.gpu, chance.randrange(4), 0, decision.usd_nanos_per_s)
    held = own.money.hold_warm(replace(wanted, buffer=min(wanted.number, 1)), terms)
    if isinstance(held, WarmHeld):
        own.money.pay_warm(replace(wanted, number=held.number, buffer=held.buffer), terms)


def _round(own: Ledger, chance: random.Random, mine: list[tuple[str, int, RunOnModal]]) -> bool:
    """Place a few jobs; and now and then top up, conclude or cancel one of the calls. False: nothing is queued."""
    claims = own.placement.claim_queued(Kind.RENDER, limit=3, lease_s=60)
    for claimed in claims:
        decision = chance.choice(CLASSES)
        outcome = own.placement.place(claimed, decision, receipt=RECEIPT)
        if isinstance(outcome, Placed):
            mine.append((claimed.record.id, outcome.attempt, decision))
        elif isinstance(outcome, Refused):
            own.placement.place(claimed, RunInhouse(), receipt=RECEIPT)
    while mine and chance.random() < 0.85:
        _touch(own, chance, mine)
    return bool(claims)


def _touch(own: Ledger, chance: random.Random, mine: list[tuple[str, int, RunOnModal]]) -> None:
    job_id, attempt, decision = mine[chance.randrange(len(mine))]
    if chance.random() < 0.3:
        own.modal_calls.top_up(job_id, attempt, reserve_usd_micros=chance.choice([100_000, 200_000]))
        return
    mine.remove((job_id, attempt, decision))
    if chance.random() < 0.2:
        own.jobs.cancel(job_id)
    for record in claim_spawns(own, worker="o", limit=20, lease_s=60):
        own.modal_calls.record_call(
            record.id, record.attempt, call_id=f"fc-{record.id}", first_check_s=0, deadline_s=600
        )
    usage = _usage(own, chance, job_id, attempt, decision)
    if isinstance(own.attempts.begin_delivery(job_id, attempt), Delivering):
        own.attempts.complete(job_id, attempt, artifact=ARTIFACT, measurements={}, usage=usage)
    for due in own.modal_calls.claim_cancels(limit=5, again_in_s=60):
        own.modal_calls.settle_cancel(due.job_id, due.attempt, usage=_usage(own, chance, due.job_id, due.attempt, None))
    own.modal_calls.idle_ended(Kind.RENDER, gpu=decision.gpu, alive=chance.randrange(6), asked_s_ago=0)
    own.maintenance.idle_containers(limit=50)


def _usage(own: Ledger, chance: random.Random, job_id: str, attempt: int, decision: RunOnModal | None) -> Usage:
    """Some seconds of a container, within the reservation: of the idle one that was there for it, or of a new one."""
    warm = own.jobs.attempt(job_id, attempt).get("warm")
    rate = RATE if decision is None else decision.usd_nanos_per_s
    gone = decision is None or (decision.gpus > 1 and chance.random() < 0.5)
    now_ms = own.placement.view().now_ms
    use = ContainerUse(warm or f"ta-{job_id}", now_ms - chance.randrange(5, 40) * 1000, now_ms, gone)
    return Usage([use], rate, idle_window_s=20)


def _replay(ledger: Ledger) -> tuple[int, list[str]]:
    """Every instant's sums from the journal, each against its cap: how many instants, and what was passed."""
    reserved: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    burning: Counter[str] = Counter()
    passed: list[str] = []
    instants = 0
    rows: list[tuple[str, dict[str, str]]] = ledger.client.xrange(f"{ledger.prefix}:journal")  # type: ignore[assignment]  # redis-py is untyped here
    for _, row in rows:
        day = datetime.fromtimestamp(int(row["at_ms"]) / 1000, UTC).strftime("%Y-%m-%d")
        for scope in ("month", "day", f"tenant:{row['tenant']}", f"kind:{row['kind']}"):
            reserved[scope] += int(row["reserved"])
        for scope in (f"month:{day[:7]}", f"day:{day}", f"tenant:{row['tenant']}", f"kind:{row['kind']}"):
            spent[scope] += int(row["spent"])
        if "rate" not in row:
            continue  # more of the same script follows
        instants += 1
        burning.update({name: int(row[name]) for name in ("rate", "gpus", "calls", "idle")})
        bounds = {
            "month": (spent[f"month:{day[:7]}"] + reserved["month"], LIMITS.month_cap_usd_micros),
            "day": (spent[f"day:{day}"] + reserved["day"], LIMITS.day_cap_usd_micros),
            "kind": (spent["kind:render"] + reserved["kind:render"], LIMITS.kind_caps_usd_micros["render"]),
            "rate": (burning["rate"] * 36 // 10, LIMITS.hour_rate_cap_usd_micros),
            "gpus": (burning["gpus"], LIMITS.max_gpus),
            "calls": (burning["calls"], LIMITS.max_modal_attempts),
            "containers": (burning["calls"] + burning["idle"], LIMITS.max_containers),
        }
        for tenant in TENANTS:
            name = f"tenant:{tenant}"
            bounds[name] = (
                spent[name] + reserved[name],
                LIMITS.tenant_caps_usd_micros.get(tenant, LIMITS.tenant_cap_usd_micros),
            )
        passed += [f"{name}: {is_} > {cap}" for name, (is_, cap) in bounds.items() if cap is not None and is_ > cap]
    view = limited(ledger, LIMITS).money.view()
    assert (reserved["month"], sum(v for k, v in spent.items() if k.startswith("month:"))) == (
        view.month.reserved_usd_micros, view.month.spent_usd_micros,
    )  # fmt: skip
    used = view.gpus.used, view.calls.used, view.containers.used
    assert (burning["gpus"], burning["calls"], burning["calls"] + burning["idle"]) == used
    return instants, passed


def test_no_cap_is_passed_at_any_event_while_eight_dispatchers_race(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server, fresh_ledger(server.url(), ledger_timeout_s=5) as ledger:
        # Given many jobs of several tenants
        for number in range(JOBS):
            submit(ledger, tenant=TENANTS[number % len(TENANTS)], priority=number % 10)
        limited(ledger, LIMITS)
        fork = multiprocessing.get_context("fork")
        dispatchers = [fork.Process(target=_dispatch, args=(ledger.settings, seed)) for seed in range(DISPATCHERS)]
        journal = f"{ledger.prefix}:journal"

        # When eight dispatchers race, two of them die at work, and then Redis
        for one in dispatchers:
            one.start()
        for one, after in ((dispatchers[0], 20), (dispatchers[1], 35)):
            until(lambda: ledger.client.xlen(journal), lambda length, after=after: length >= after, timeout_s=30)  # type: ignore[misc]  # a lambda with a default
            one.kill()
        until(lambda: ledger.client.xlen(journal), lambda length: length >= 50, timeout_s=30)
        server.kill()
        server.start()
        for one in dispatchers:
            one.join(60)

        # Then at no entry of the journal a cap was passed, several of them spoke, and every sum adds up
        assert [one.exitcode for one in dispatchers] == [-signal.SIGKILL] * 2 + [0] * (DISPATCHERS - 2)
        instants, passed = _replay(ledger)
        assert passed == []
        assert instants > JOBS / 4
        counters = ledger.counters()
        refused = {name.rpartition("=")[2]: n for name, n in counters.items() if name.startswith("spill_refused_total")}
        assert len(refused) >= 3, refused
        assert not [name for name in counters if name.startswith("overshoot")]
        assert ledger.audit(LIMITS) == []
