"""What must hold at the end of a run, asked of what was observed. Pure."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.bill import Bill
from tests.chaos.injector import Strike
from tests.chaos.observations import TERMINAL, JobFacts, LedgerFacts, ModalFacts, ObjectFacts
from tests.chaos.plan import Door, Fault, Plan, PlannedJob
from tests.chaos.submitter import Receipt

_END_EVENTS = frozenset(f"job.{state}" for state in TERMINAL)


@dataclass(frozen=True)
class Evidence:
    """All that was seen of a run."""

    plan: Plan
    receipts: Mapping[int, Receipt]
    strikes: Sequence[Strike]
    ledger: LedgerFacts
    objects: Mapping[str, ObjectFacts]
    modal: ModalFacts
    #: What `Ledger.audit()` found, during the run and at its end, one line each.
    audit: Sequence[str]
    bill: Bill
    bill_tolerance_percent: float
    #: Puts that S3 has done and that its client was told had failed.
    s3_answers_lost: int = 0
    #: How often the ledger was audited.
    audits: int = 1
    #: Counters that are not what the ledger's records add up to.
    miscounted: Sequence[str] = ()


@dataclass(frozen=True)
class Check:
    """One thing that must hold. `jobs` are those that break it, for their histories."""

    name: str
    holds: bool
    figure: str
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """All checks, and the figures of the last line."""

    checks: Sequence[Check]
    lost: int
    double: int
    leaked: int

    @property
    def well(self) -> bool:
        """Whether everything holds."""
        return all(check.holds for check in self.checks)


def judge(evidence: Evidence) -> Verdict:
    """Every check."""
    lost, double, leaked = _lost(evidence), _double(evidence), _leaked(evidence.modal)
    checks = [
        Check("accepted jobs lost", not lost, str(len(lost)), tuple(lost)),
        Check("ended, submitted or published twice", not double, str(len(double)), tuple(double)),
        Check("Modal calls or containers leaked", not leaked, str(len(leaked))),
        _all_ended(evidence),
        _records(evidence),
        *_artifacts(evidence),
        _unreferenced(evidence),
        _reservations(evidence.ledger),
        Check("audit() is empty, every time", not evidence.audit, _audited(evidence)),
        Check(
            "every counter is what the records add up to",
            not evidence.miscounted,
            "; ".join([f"{len(evidence.miscounted)} differences", *evidence.miscounted[:3]]),
        ),
        _bill(evidence),
        Check("every fault struck", not _missed(evidence), ", ".join(_missed(evidence)) or str(len(evidence.strikes))),
    ]
    return Verdict(checks, len(lost), len(double), len(leaked))


def accepted_jobs(evidence: Evidence) -> dict[int, str]:
    """Number -> job id of every accepted job. Bare Celery's are accepted once the ledger has their key."""
    found = {number: receipt.job_id for number, receipt in evidence.receipts.items() if receipt.job_id is not None}
    for number, receipt in evidence.receipts.items():
        job_id = evidence.ledger.idempotency.get(f"default:celery:{receipt.task_id}")
        if receipt.task_id is not None and job_id is not None:
            found[number] = job_id
    return found


def lost_by_celery(evidence: Evidence) -> list[str]:
    """Task ids of bare messages that were sent, and that the ledger never had."""
    accepted = accepted_jobs(evidence)
    return [r.task_id for n, r in sorted(evidence.receipts.items()) if r.task_id is not None and n not in accepted]


def refused(evidence: Evidence) -> list[Receipt]:
    """Submissions that were told no, or nothing, and were given up."""
    return [receipt for receipt in evidence.receipts.values() if receipt.refused is not None]


def outcomes(ledger: LedgerFacts, kind: str) -> Counter[str]:
    """How often jobs of a kind ended how: `completed`, `cancelled`, `failed: <code>`."""
    return Counter(
        f"failed: {job.fields.get('error_code')}" if job.state == "failed" else job.state
        for job in ledger.jobs.values()
        if job.fields.get("kind") == kind
    )


def unknown_calls(evidence: Evidence) -> list[str]:
    """Modal calls that no attempt in the ledger knows by their id."""
    known = {
        row["call_id"] for job in evidence.ledger.jobs.values() for row in job.attempts.values() if "call_id" in row
    }
    return [call["call_id"] for call in evidence.modal.calls if call["call_id"] not in known]


def hung(evidence: Evidence) -> tuple[int, int]:
    """How many jobs' engines were made to hang in-house, and how many of these have an attempt that ended for it."""
    jobs = {job_id for s in evidence.strikes if s.planned.fault is Fault.HANG_ENGINE for job_id in s.jobs}
    rows = {job_id: evidence.ledger.jobs[job_id].attempts.values() for job_id in jobs if job_id in evidence.ledger.jobs}
    ended = [job_id for job_id, found in rows.items() if any(row.get("outcome") == "timeout" for row in found)]
    return len(jobs), len(ended)


def unreferenced_objects(evidence: Evidence) -> list[str]:
    """Keys of objects that no completed job points to."""
    pointed = set()
    for job in evidence.ledger.jobs.values():
        if job.artifact is not None:
            pointed |= {job.artifact["key"], job.artifact.get("thumbnail_key")}
    return sorted(set(evidence.objects) - pointed)


def _ends(job: JobFacts) -> list[str]:
    """The ends that its history tells. Other events, of its calls, may follow an end and name its state."""
    return [entry["state"] for entry in job.history if entry["event"] in _END_EVENTS]


def _lost(evidence: Evidence) -> list[str]:
    jobs = evidence.ledger.jobs
    return sorted(
        job_id
        for job_id in accepted_jobs(evidence).values()
        if job_id not in jobs or jobs[job_id].state not in TERMINAL or not _ends(jobs[job_id])
    )


def _double(evidence: Evidence) -> list[str]:
    """Jobs that ended more than once, and jobs of one planned submission that became several."""
    ended_twice = {job.id for job in evidence.ledger.jobs.values() if len(_ends(job)) > 1}
    by_wish: dict[tuple[str, object], list[str]] = defaultdict(list)
    for job in evidence.ledger.jobs.values():
        by_wish[_wish(job)].append(job.id)
    keyed = {_planned_wish(planned) for planned in evidence.plan.jobs if planned.keyed or planned.door is Door.CELERY}
    doubled = {job_id for wish, ids in by_wish.items() if wish in keyed and len(ids) > 1 for job_id in ids}
    return sorted(ended_twice | doubled)


def _wish(job: JobFacts) -> tuple[str, object]:
    """What tells one planned job from all others."""
    return job.fields.get("kind", ""), job.spec.get("prompt") or job.spec.get("seed")


def _planned_wish(planned: PlannedJob) -> tuple[str, object]:
    return planned.kind, planned.fields.get("prompt") or planned.fields.get("seed")


def _leaked(modal: ModalFacts) -> list[str]:
    """Calls that still run, and containers that are busy with something else."""
    running = [call for call in modal.calls if call["state"] == "running"]
    theirs = {entry["input_id"] for call in running for entry in call["inputs"]}
    busy = [row["task_id"] for row in modal.containers if set(row["running_inputs"]) - theirs]
    return [*(call["call_id"] for call in running), *busy]


def _audited(evidence: Evidence) -> str:
    return "; ".join([f"{len(evidence.audit)} violations in {evidence.audits} audits", *evidence.audit[:3]])


def _planted(evidence: Evidence) -> tuple[set[str], set[str]]:
    """Jobs whose record was rewritten as another version would have: those that can be read, and those that cannot."""
    pairs = [s.jobs for s in evidence.strikes if s.planned.fault is Fault.NEWER_RECORD and s.jobs]
    return {newer for newer, _ in pairs}, {unreadable for _, unreadable in pairs}


def _records(evidence: Evidence) -> Check:
    """What can be read is done like any other job; what cannot is set aside, and nothing else is."""
    newer, unreadable = _planted(evidence)
    jobs, aside = evidence.ledger.jobs, set(evidence.ledger.quarantined)
    undone = {job_id for job_id in newer if job_id not in jobs or jobs[job_id].state not in TERMINAL}
    wrong = sorted(undone | (aside ^ unreadable))
    figure = f"{len(newer)} with an unknown field, {len(unreadable)} unreadable, {len(aside)} set aside"
    return Check("records of another version are read or set aside, alone", not wrong, figure, tuple(wrong))


def _all_ended(evidence: Evidence) -> Check:
    """Every job of the ledger, also those whose caller was told nothing; what cannot be read is set aside instead."""
    unreadable = _planted(evidence)[1]
    live = sorted(j.id for j in evidence.ledger.jobs.values() if j.state not in TERMINAL and j.id not in unreadable)
    return Check("jobs in the ledger that have not ended", not live, str(len(live)), tuple(live))


def _artifacts(evidence: Evidence) -> list[Check]:
    missing, broken, misplaced = [], [], []
    completed = [job for job in evidence.ledger.jobs.values() if job.state == "completed"]
    for job in completed:
        artifact = job.artifact or {}
        found = evidence.objects.get(artifact.get("key", ""))
        if found is None:
            missing.append(job.id)
        elif not _whole(job, artifact, found, evidence.objects):
            broken.append(job.id)
        if artifact.get("key") not in _places(job):
            misplaced.append(job.id)
    published = [job.id for job in evidence.ledger.jobs.values() if job.state != "completed" and job.artifact]
    return [
        Check(
            "completed jobs without their object", not missing, f"{len(missing)} of {len(completed)}", tuple(missing)
        ),
        Check("artifacts that are not whole", not broken, f"{len(broken)} of {len(completed)}", tuple(broken)),
        Check("artifacts of another attempt than the last", not misplaced, str(len(misplaced)), tuple(misplaced)),
        Check("artifacts published for other jobs", not published, str(len(published)), tuple(published)),
    ]


def _places(job: JobFacts) -> list[str]:
    """Where the artifact may lie: a video, under the last attempt; a last checkpoint, under the one that reached it."""
    newest = int(job.fields["attempt"])
    if job.fields["kind"] == "render":
        return [f"render/{job.id}/{newest}/video.mp4"]
    last = f"step-{job.spec['steps']}/metadata.json"
    return [f"train/{job.id}/{attempt}/{last}" for attempt in range(1, newest + 1)]


def _whole(
    job: JobFacts, artifact: Mapping[str, object], found: ObjectFacts, objects: Mapping[str, ObjectFacts]
) -> bool:
    """Size and digest as recorded, and as many frames, or steps, as were asked for."""
    if job.fields["kind"] == "train":
        folder = found.key.rpartition("/")[0] + "/"
        size_bytes = sum(one.size_bytes for key, one in objects.items() if key.startswith(folder))
        return (
            size_bytes == artifact["size_bytes"]
            and found.sha256 == artifact["sha256"]
            and found.step == int(job.spec["steps"])
        )
    return (
        found.size_bytes == artifact["size_bytes"]
        and found.sha256 == artifact["sha256"]
        and found.frames == int(job.spec["seconds"]) * int(job.spec["fps"])
    )


def _unreferenced(evidence: Evidence) -> Check:
    """Objects of attempts that lost may lie about; of an attempt that won, or of no job that is known, none may.

    A run's other checkpoints, and the files of the last one, belong to it.
    """
    wrong: list[str] = []
    found = unreferenced_objects(evidence)
    for key in found:
        kind, job_id, attempt, *_ = [*key.split("/"), "", ""]
        job = evidence.ledger.jobs.get(job_id)
        won = job is not None and job.state == "completed" and job.fields["attempt"] == attempt
        if job is None or (won and kind == "render"):
            wrong.append(key)
    return Check("objects that are not a lost attempt's", not wrong, f"{len(wrong)} of {len(found)} left over")


def _reservations(ledger: LedgerFacts) -> Check:
    figure = f"{ledger.reserved_usd_micros} micro-dollars in {len(ledger.reservations)} reservations"
    zero = ledger.reserved_usd_micros == 0 and not ledger.reservations and not ledger.cancels
    return Check("reservations are zero, nothing is to be stopped", zero, f"{figure}, {len(ledger.cancels)} to stop")


def _bill(evidence: Evidence) -> Check:
    bill = evidence.bill
    within = abs(bill.off_percent) <= evidence.bill_tolerance_percent
    adds_up = bill.ledger == bill.attempts
    figure = f"{bill.off_percent:+.1f} % (tolerance {evidence.bill_tolerance_percent:g} %)"
    figure += f", {bill.off_before_percent:+.1f} % before the true-up"
    if not adds_up:
        figure += f"; attempts, idle tails and the true-up add up to {bill.attempts}, the ledger says {bill.ledger}"
    return Check(f"the ledger's Modal spend is the bill ({bill.compared})", within and adds_up, figure)


def _missed(evidence: Evidence) -> list[str]:
    found = [f"#{s.planned.number} {s.planned.fault}: {s.missed}" for s in evidence.strikes if s.missed]
    absent = len(evidence.plan.faults) - len(evidence.strikes)
    return [*found, *([f"{absent} never came to strike"] if absent else [])]
