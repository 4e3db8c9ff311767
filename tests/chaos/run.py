"""A run from start to end: stack, jobs, faults, quiet, observations, verdict."""

import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from redis.exceptions import RedisError
from rich.console import Console

from modal_local.admin_client import AdminClient
from tests.chaos.bill import BillOf, compare
from tests.chaos.books import close_the_hour, miscounted
from tests.chaos.checks import Evidence, Verdict, judge
from tests.chaos.injector import Injector
from tests.chaos.observations import ModalFacts, RawLedger, RawObjects, modal_facts
from tests.chaos.plan import Plan, make_plan
from tests.chaos.recovery import recoveries
from tests.chaos.report import print_report, save_evidence
from tests.chaos.stack import ChaosStack, scrub_environment
from tests.chaos.submitter import Submitter
from tests.chaos.watch import AuditWatch

#: What runs on Modal at once: more would only wait for one of two cores.
MODAL_FLAGS = ("--gpus", "H100=4,L4=1", "--max-containers", "4")
#: How long an idle container stays, seconds.
SCALEDOWN_WINDOW_S = 20.0
_LOOK_AGAIN_S = 0.25
#: After the last job has ended, calls that nobody wants have so long to end: a sweep, and what stopping takes, seconds.
_ONE_SWEEP_S = 15.0


@dataclass(frozen=True)
class Options:
    """How a run is to be.

    Attributes:
        seed: for everything that is drawn.
        jobs: how many come in.
        faults: how many strike.
        lease_s: life of an in-house lease.
        spawn_timeout_s: longest wait for a spawn, which is also how long a lost one is waited for.
        quiet_s: how long the system may take to come to rest after the last step.
        bill_tolerance_percent: how far the ledger's spend may be from the bill.
        bill_of: which part of the bill.
        folder: where the stack's state is kept; None: a temporary one, removed if all is well.
    """

    seed: int
    jobs: int
    faults: int
    lease_s: float = 10.0
    spawn_timeout_s: float = 10.0
    quiet_s: float = 300.0
    bill_tolerance_percent: float = 1.0
    bill_of: BillOf = BillOf.WHOLE
    folder: Path | None = None

    @property
    def settings(self) -> dict[str, str]:
        """Environment of every process; what is not named has its default."""
        return {
            "OVERSPILL_LEASE_S": f"{self.lease_s:g}",
            "OVERSPILL_SPAWN_TIMEOUT_S": f"{self.spawn_timeout_s:g}",
            # An engine that hangs is found out in seconds, but in longer than a lease: that alone must not end it.
            "OVERSPILL_START_TIMEOUT_S": f"{max(12.0, 1.5 * self.lease_s):g}",
            "OVERSPILL_RENDER_PROGRESS_TIMEOUT_S": f"{1.2 * self.lease_s:g}",
            "OVERSPILL_TRAIN_PROGRESS_TIMEOUT_S": f"{3 * self.lease_s:g}",
            # Idle containers cost memory here, and starts are what is to be tried.
            "OVERSPILL_MODAL_SCALEDOWN_WINDOW_S": f"{SCALEDOWN_WINDOW_S:g}",
            # There is one L4 (see MODAL_FLAGS): a train job waits for it, and not for long, then takes an H100.
            "OVERSPILL_MODAL_TRAIN_CLASSES": '["L4", "H100"]',
            "OVERSPILL_MODAL_RENDER_CLASSES": '["H100"]',
            "OVERSPILL_GPU_EXHAUSTED_AFTER_S": "10",
            "OVERSPILL_LOG_FORMAT": "json",
        }


def run(options: Options, console: Console) -> Verdict:
    """Do it, and print everything about it."""
    scrub_environment()
    plan = make_plan(options.seed, jobs=options.jobs, faults=options.faults, lease_s=options.lease_s)
    print_plan(console, plan)
    folder = options.folder or Path(tempfile.mkdtemp(prefix=f"overspill-chaos-{options.seed}-"))
    stack = ChaosStack(folder, settings=options.settings, modal_flags=MODAL_FLAGS)
    began = time.monotonic()
    try:
        stack.start()
        console.print(f"the stack is ready after {time.monotonic() - began:.1f} s: {folder}", soft_wrap=True)
        evidence = _do(options, plan, stack, console)
    finally:
        stack.stop()
    verdict = judge(evidence)
    print_report(console, evidence, verdict, recoveries(evidence.strikes, evidence.ledger), folder)
    save_evidence(evidence, folder / "evidence.json")
    if verdict.well and options.folder is None:
        rmtree(folder, ignore_errors=True)
    return verdict


def print_plan(console: Console, plan: Plan) -> None:
    """The seed and every fault."""
    console.print(f"seed {plan.seed}: {len(plan.jobs)} jobs, {len(plan.faults)} faults in {plan.length_s:.0f} s")
    for step in plan.faults:
        console.print(str(step), markup=False, highlight=False)


def _do(options: Options, plan: Plan, stack: ChaosStack, console: Console) -> Evidence:
    redis_service, s3_service, _ = stack.services()
    raw = RawLedger(redis_service.port)
    objects = RawObjects(stack.environment, url=s3_service.url)
    submitter = Submitter(stack.environment, plan.seed)
    injector = Injector(stack, raw, submitter, host=socket.gethostname(), seed=plan.seed)
    watch = AuditWatch(redis_service.url(0))
    began = time.monotonic()
    try:
        faults = threading.Thread(target=injector.run, args=(plan,), kwargs={"began": began}, name="injector")
        faults.start()
        watch.start()
        submitter.run(plan, began=began)
        faults.join()
        console.print(f"the last step is done after {time.monotonic() - began:.1f} s")
        quiet_after_s = _wait_for_quiet(raw, options.quiet_s)
        console.print(_quiet_words(quiet_after_s, options.quiet_s))
        admin = AdminClient(stack.admin_url)
        _wait_for_the_books(raw, admin)
        modal = _after_one_sweep(admin)
        wrong = miscounted(redis_service.url(0))
        close_the_hour(raw, modal, url=redis_service.url(0))
        facts = raw.facts()
        published = [str(job.artifact["key"]) for job in facts.jobs.values() if job.artifact]
        return Evidence(
            plan=plan,
            receipts=submitter.receipts,
            strikes=sorted(injector.strikes, key=lambda strike: strike.planned.number),
            ledger=facts,
            objects=objects.facts(published),
            modal=modal,
            audit=_last_audit(watch),
            audits=watch.audits,
            miscounted=wrong,
            bill=compare(facts, modal, of=options.bill_of),
            bill_tolerance_percent=options.bill_tolerance_percent,
            s3_answers_lost=stack.proxies()[1].lost,
        )
    finally:
        watch.stop()
        submitter.close()
        objects.close()
        raw.close()


def _wait_for_quiet(raw: RawLedger, patience_s: float) -> float | None:
    """Seconds until no job lives and no call is to be stopped; None: not in this time."""
    began = time.monotonic()
    while (waited_s := time.monotonic() - began) < patience_s:
        try:
            if raw.live() == 0:
                return waited_s
        except RedisError:
            pass  # it is just being started again
        time.sleep(_LOOK_AGAIN_S)
    return None


def _wait_for_the_books(raw: RawLedger, admin: AdminClient) -> None:
    """Until idle containers have gone and their tails are booked, or should have been."""
    until = time.monotonic() + SCALEDOWN_WINDOW_S + _ONE_SWEEP_S
    while time.monotonic() < until and (raw.reserved() or admin.containers(live=True)):
        time.sleep(_LOOK_AGAIN_S)


def _quiet_words(after_s: float | None, patience_s: float) -> str:
    if after_s is None:
        return f"NOT quiet within {patience_s:g} s: jobs live, or calls are still to be stopped"
    return f"quiet after {after_s:.1f} s more"


def _after_one_sweep(admin: AdminClient) -> ModalFacts:
    """modal_local's records when nothing of it runs any more, or when a sweep would have stopped it."""
    until = time.monotonic() + _ONE_SWEEP_S
    while admin.calls(state="running", limit=1) and time.monotonic() < until:
        time.sleep(_LOOK_AGAIN_S)
    return modal_facts(admin)


def _last_audit(watch: AuditWatch) -> list[str]:
    """What was seen in any audit, the last one at rest included."""
    watch.audit()
    return [f"{what} (first in {when} of {watch.audits})" for what, when in watch.found.items()]
