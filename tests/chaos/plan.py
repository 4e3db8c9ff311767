"""The plan of a run, pure: which jobs come in when and through which door, and which faults strike when."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

#: One job comes in so often, seconds: about what two slots and four containers on two cores keep up with.
JOB_EVERY_S = 0.36
#: One fault strikes so often, seconds: a process takes about two seconds of a core to start again.
FAULT_EVERY_S = 1.9
#: Nothing strikes before the first jobs are on their way, seconds.
QUIET_START_S = 1.0


#: One job in so many trains: one takes as much of a core as a dozen renders, most of it to import torch.
_TRAIN_SHARE = 0.01
#: What a training run is here: three checkpoints of a model of a few thousand numbers.
_TINY: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "image_classifier": {"width": 8, "depth": 1},
        "diffusion_transformer": {"width": 16, "depth": 1, "heads": 2, "patch_size": 4, "sample_steps": 2},
    }
)
_RUN = MappingProxyType(
    {"image_size": 8, "steps": 12, "batch_size": 8, "checkpoint_every_steps": 4, "warmup_steps": 4, "eval_examples": 24}
)


class Door(StrEnum):
    """How a job comes in."""

    API = "api"
    CLIENT = "client"
    CELERY = "celery"


class Fault(StrEnum):
    """What is done to the system."""

    # SIGKILL, and whatever supervises the process starts it again
    KILL_API = "kill_api"
    KILL_DISPATCH = "kill_dispatch"
    KILL_GPU = "kill_gpu"
    KILL_GPU_CHILD = "kill_gpu_child"
    KILL_OVERFLOW = "kill_overflow"
    KILL_CONTAINER = "kill_container"
    KILL_MODAL = "kill_modal"
    KILL_EXPORTER = "kill_exporter"
    # SIGSTOP for longer than a lease, then SIGCONT
    STOP_DISPATCH = "stop_dispatch"
    STOP_GPU = "stop_gpu"
    STOP_OVERFLOW = "stop_overflow"
    # SIGSTOP to the process that runs an engine, and to it alone: its worker lives, and so does its lease
    HANG_ENGINE = "hang_engine"
    # Redis and the way to it
    KILL_REDIS = "kill_redis"
    CUT_REDIS = "cut_redis"
    REFUSE_REDIS = "refuse_redis"
    SLOW_REDIS = "slow_redis"
    HOLD_REDIS = "hold_redis"
    # S3 and the way to it
    KILL_S3 = "kill_s3"
    REFUSE_S3 = "refuse_s3"
    # It hangs and does not die: connections stay open, nothing is answered
    HANG_S3 = "hang_s3"
    LOSE_S3_ANSWERS = "lose_s3_answers"
    # Modal did it, and said that it had not
    LOSE_MODAL_ANSWERS = "lose_modal_answers"
    # Celery's messages
    DUPLICATE_MESSAGES = "duplicate_messages"
    REORDER_MESSAGES = "reorder_messages"
    LOSE_NUDGES = "lose_nudges"
    # Two queued jobs as another version would have written them: with an unknown field, and unreadable
    NEWER_RECORD = "newer_record"
    # Time, and users
    JUMP_CLOCK = "jump_clock"
    JUMP_WORKER_CLOCK = "jump_worker_clock"
    CANCEL = "cancel"


#: How often each fault is in the deck that faults are dealt from. What takes half a minute to mend comes seldom.
WEIGHTS: Mapping[Fault, int] = MappingProxyType(
    {
        Fault.KILL_API: 2,
        Fault.KILL_DISPATCH: 3,
        Fault.KILL_GPU: 4,
        Fault.KILL_GPU_CHILD: 2,
        Fault.KILL_OVERFLOW: 3,
        Fault.KILL_CONTAINER: 4,
        Fault.KILL_MODAL: 1,
        Fault.KILL_EXPORTER: 1,
        Fault.STOP_DISPATCH: 1,
        Fault.STOP_GPU: 2,
        Fault.STOP_OVERFLOW: 1,
        Fault.HANG_ENGINE: 2,
        Fault.KILL_REDIS: 2,
        Fault.CUT_REDIS: 3,
        Fault.REFUSE_REDIS: 1,
        Fault.SLOW_REDIS: 2,
        Fault.HOLD_REDIS: 1,
        Fault.KILL_S3: 1,
        Fault.REFUSE_S3: 2,
        Fault.HANG_S3: 1,
        Fault.LOSE_S3_ANSWERS: 3,
        Fault.LOSE_MODAL_ANSWERS: 2,
        Fault.DUPLICATE_MESSAGES: 2,
        Fault.REORDER_MESSAGES: 2,
        Fault.LOSE_NUDGES: 2,
        Fault.NEWER_RECORD: 1,
        Fault.JUMP_CLOCK: 1,
        Fault.JUMP_WORKER_CLOCK: 2,
        Fault.CANCEL: 6,
    }
)

_STOPS = frozenset({Fault.STOP_DISPATCH, Fault.STOP_GPU, Fault.STOP_OVERFLOW})
#: How long an outage lasts, seconds, shortest and longest.
_OUTAGES: Mapping[Fault, tuple[float, float]] = MappingProxyType(
    {
        Fault.KILL_MODAL: (0.0, 2.0),
        Fault.KILL_REDIS: (0.0, 2.0),
        Fault.REFUSE_REDIS: (0.5, 3.0),
        Fault.SLOW_REDIS: (1.0, 4.0),
        Fault.HOLD_REDIS: (0.5, 3.0),
        Fault.KILL_S3: (0.0, 2.0),
        Fault.REFUSE_S3: (0.5, 4.0),
        # Longer than a lease of maintenance; shorter than what a worker waits for one answer.
        Fault.HANG_S3: (6.0, 12.0),
    }
)
#: How much of it: messages, answers, milliseconds of delay or of a jump; lowest and highest.
_AMOUNTS: Mapping[Fault, tuple[int, int]] = MappingProxyType(
    {
        Fault.SLOW_REDIS: (20, 120),
        # Five in a row are more than boto3 tries.
        Fault.LOSE_S3_ANSWERS: (1, 6),
        # Four in a row are as many as Modal's SDK tries, and then nobody knows the call.
        Fault.LOSE_MODAL_ANSWERS: (1, 8),
        Fault.DUPLICATE_MESSAGES: (2, 20),
        Fault.REORDER_MESSAGES: (4, 20),
        Fault.LOSE_NUDGES: (1, 10),
        # Up to an hour, ahead or back. The ledger's clock jumps by less than a lease, for that is what leases live by;
        # a worker's clock may be as wrong as it likes.
        Fault.JUMP_WORKER_CLOCK: (-3_600_000, 3_600_000),
    }
)


@dataclass(frozen=True)
class PlannedJob:
    """One job to be submitted. `number` tells it from all others of the run."""

    number: int
    at_s: float
    door: Door
    kind: str
    #: Whether it is sent again under the same key until it is accepted; else it is sent once.
    keyed: bool
    fields: Mapping[str, object]


@dataclass(frozen=True)
class PlannedFault:
    """One fault. `victim` picks whom it strikes, out of those that are there, as a share from 0 to below 1."""

    number: int
    at_s: float
    fault: Fault
    victim: float
    lasts_s: float = 0.0
    amount: int = 0

    def __str__(self) -> str:
        """For the printed plan."""
        facts = [f"lasts {self.lasts_s:.1f} s"] * (self.lasts_s > 0) + [f"amount {self.amount}"] * (self.amount != 0)
        return f"{self.at_s:7.1f} s  #{self.number:<4d} {self.fault:<19} victim {self.victim:.2f}  {', '.join(facts)}"


@dataclass(frozen=True)
class Plan:
    """Everything that is done in a run."""

    seed: int
    jobs: tuple[PlannedJob, ...]
    faults: tuple[PlannedFault, ...]

    @property
    def length_s(self) -> float:
        """When the last step is due."""
        return max([*(job.at_s for job in self.jobs), *(fault.at_s for fault in self.faults)], default=0.0)


def make_plan(seed: int, *, jobs: int, faults: int, lease_s: float) -> Plan:
    """The plan of a run; equal arguments give equal plans.

    Args:
        seed: for everything that is drawn.
        jobs: how many jobs come in.
        faults: how many faults strike.
        lease_s: life of a lease; a stopped process stays so for longer, and the clock jumps by less.
    """
    # A generator each: the faults of a seed stay the same when the number of jobs changes.
    length_s = max(jobs * JOB_EVERY_S, faults * FAULT_EVERY_S)
    return Plan(
        seed,
        _jobs(random.Random(f"jobs {seed}"), seed, jobs, length_s),
        _faults(random.Random(f"faults {seed}"), faults, length_s, lease_s),
    )


def _jobs(chance: random.Random, seed: int, count: int, length_s: float) -> tuple[PlannedJob, ...]:
    times = sorted(chance.uniform(0, length_s) for _ in range(count))
    return tuple(_job(chance, seed, number, at_s) for number, at_s in enumerate(times, start=1))


def _job(chance: random.Random, seed: int, number: int, at_s: float) -> PlannedJob:
    kind = "train" if chance.random() < _TRAIN_SHARE else "render"
    # The API takes renders only.
    door = chance.choice([Door.CLIENT, Door.CELERY] if kind == "train" else [Door.API, Door.CLIENT, Door.CELERY])
    fields: dict[str, object] = {
        "priority": chance.choice([0, 3, 5, 5, 5, 7, 9]),
        "burst": chance.choices(["never", "auto", "always"], [3, 4, 3])[0],
    }
    if chance.random() < 0.2:
        fields["deadline_s"] = round(chance.uniform(5, 120), 1)
    if kind == "train":
        recipe = chance.choice(list(_TINY))
        fields |= {**_RUN, **_TINY[recipe], "recipe": recipe, "seed": number}
        # Whoever trains has time: most of these runs would be late before torch is imported.
        fields.pop("deadline_s", None)
    else:
        # Most are done in a blink; some run long enough to be struck in the middle.
        seconds, size, fps = chance.choices([(1, "320x180", 8), (4, "320x180", 24), (8, "640x360", 24)], [85, 13, 2])[0]
        fields |= {"seconds": seconds, "size": size, "fps": fps, "prompt": f"chaos seed {seed} job {number}"}
    return PlannedJob(number, round(at_s, 3), door, kind, keyed=chance.random() < 0.9, fields=MappingProxyType(fields))


def _faults(chance: random.Random, count: int, length_s: float, lease_s: float) -> tuple[PlannedFault, ...]:
    span_s = (length_s - QUIET_START_S) / max(1, count)
    return tuple(
        _fault(chance, number, QUIET_START_S + (number - 1 + chance.random()) * span_s, fault, lease_s)
        for number, fault in enumerate(_deal(chance, count), start=1)
    )


def _deal(chance: random.Random, count: int) -> list[Fault]:
    """The first faults are one of each kind in a random order, then come whole decks, shuffled."""
    dealt = list(WEIGHTS)
    chance.shuffle(dealt)
    while len(dealt) < count:
        deck = [fault for fault, weight in WEIGHTS.items() for _ in range(weight)]
        chance.shuffle(deck)
        dealt += deck
    return dealt[:count]


def _fault(chance: random.Random, number: int, at_s: float, fault: Fault, lease_s: float) -> PlannedFault:
    # The same draws for every kind, so that a change of one kind's bounds leaves the others of a seed alone.
    victim, share, part = chance.random(), chance.random(), chance.random()
    lasts_s, amount = 0.0, 0
    if fault in _STOPS:
        lasts_s = lease_s * (1.2 + 0.4 * share)
    elif fault in _OUTAGES:
        shortest, longest = _OUTAGES[fault]
        lasts_s = shortest + (longest - shortest) * share
    if fault is Fault.JUMP_CLOCK:
        amount = round(lease_s * 1000 * (0.3 + 0.7 * part))
    elif fault in _AMOUNTS:
        lowest, highest = _AMOUNTS[fault]
        amount = lowest + int((highest - lowest + 1) * part)
    return PlannedFault(number, round(at_s, 3), fault, victim, round(lasts_s, 3), amount)
