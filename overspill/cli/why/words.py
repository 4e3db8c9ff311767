"""Rules, signals, causes and errors as text. A name without a text here is shown as it is. Pure."""

from collections.abc import Callable, Mapping

from ledger.refusals import Refusal
from ledger.retries import Cause
from overspill.terminal.text import dollars, plain

#: Why a job was sent where it was sent: the rules of the policies, and what the ledger's limits say.
RULES: Mapping[str, str] = {
    "burst_never": "the job must not run on Modal (burst: never)",
    "burst_always": "the job asked to run on Modal (burst: always)",
    "no_modal_class": "no Modal GPU class is allowed and fits",
    "no_live_slot": "no in-house GPU worker was alive",
    "above_watermark": "the in-house queue was deep enough to spill",
    "below_watermark": "the in-house queue was short enough",
    "spill_on": "an operator let everything spill that fits",
    "no_engine": "this deployment has no engine for it",
    "invalid_config": "it cannot be run as it is",
    "does_not_fit": "it fits on no GPU that it may have",
    "too_large_for_own_gpus": "it does not fit on our own GPUs",
    "too_few_own_gpus": "it asks for more GPUs than one of our own workers has",
    "outgrown_own_gpus": "its memory ran out on our own GPUs, or on one with no less",
    "data_is_inhouse": "its data can be read in-house only",
    "own_gpu_free": "one of our own GPUs was free",
    "own_gpu_idle": "our own GPUs idled, and migrating back paid",
    "waits_for_own_gpus": "there was time enough to wait for our own GPUs",
    "slack_used_up": "its deadline left no more time to wait for our own GPUs",
    "budget_drains": "what is left of the budget is for jobs of higher priority",
    Refusal.MONTH_BUDGET: "the month's budget for Modal was spent or set aside",
    Refusal.DAY_BUDGET: "the day's budget for Modal was spent or set aside",
    Refusal.TENANT_BUDGET: "the tenant's budget for Modal was spent or set aside",
    Refusal.KIND_BUDGET: "the budget of this kind of job for Modal was spent or set aside",
    Refusal.MONTH_DRAIN: "what is left of the month's budget is for jobs of higher priority",
    Refusal.DAY_DRAIN: "what is left of the day's budget is for jobs of higher priority",
    Refusal.TENANT_DRAIN: "what is left of the tenant's budget is for jobs of higher priority",
    Refusal.KIND_DRAIN: "what is left of the budget of this kind of job is for jobs of higher priority",
    Refusal.HOUR_RATE: "what runs on Modal costs as much an hour as it may",
    Refusal.GPUS_AT_CAP: "as many GPUs on Modal as allowed were in use",
    Refusal.CONTAINERS_AT_CAP: "as many containers on Modal as allowed were alive",
    Refusal.MODAL_CALLS_AT_CAP: "as many calls on Modal as allowed were alive",
    Refusal.SPILL_OFF: "an operator had turned spilling off",
    Refusal.BREAKER_OPEN: "Modal could not be used: its circuit breaker was open",
    "budget_exhausted": "the budget for Modal was spent or set aside",
}

#: Why an attempt, or with it the job, ended without a result.
CAUSES: Mapping[str, str] = {
    Cause.ERROR: "the engine raised an error",
    Cause.CRASH: "its process or container died",
    Cause.OUT_OF_MEMORY: "GPU or host memory ran out",
    Cause.TIMEOUT: "it ran for longer than it may",
    Cause.PREEMPTED: "its machine was taken away: by Modal, or its worker was asked to stop",
    Cause.CANCELLED_REMOTELY: "its call was cancelled on Modal, and not by us",
    Cause.GPU_EXHAUSTED: "no GPU of its class came for a long time",
    Cause.BUDGET: "it ran for longer than its reservation, and the budget had no more for it",
    Cause.LEASE_LOST: "its in-house worker stopped renewing its lease",
    Cause.SPAWN_REFUSED: "Modal refused to start the call",
    Cause.SPAWN_NOT_PREPARED: "the overflow worker could not prepare the spawn; no call was made",
    Cause.SPAWN_LOST: "Modal's answer to the spawn never came",
    Cause.NOT_ANNOUNCED: "its call could not note in Modal's book that it began",
    Cause.RESULT_LOST: "Modal does not know its call any more",
    Cause.RESULT_EXPIRED: "its call ended long ago, and Modal has dropped the result",
    Cause.RESULT_TOO_LARGE: "its result is larger than may be fetched",
    Cause.DELIVERY: "S3 did not take the result",
    Cause.INVALID_REQUEST: "the request cannot be done as it is",
    Cause.DATASET_PROBLEM: "its dataset cannot be trained on",
    Cause.CHECKPOINT_PROBLEM: "no checkpoint of it can be used or written",
    Cause.VOLUME_FULL: "the volume for its checkpoints is full",
    Cause.TRAINING_DIVERGED: "its loss is no number any more",
    Cause.SEGMENT_ENDED: "a segment of it is over, and the next one goes on from there",
    Cause.MOVED_HOME: "it came home to our own GPUs at a checkpoint",
    Cause.RECALLED: "it waited for our own GPUs until its time was short",
    Cause.NO_ENGINE: "this deployment has no engine for it",
    Cause.BAD_ENVELOPE: "what came back was not what this version expects",
    "requeued": "it was requeued before its call was made",
    "cancelled": "it was cancelled",
    "completed": "completed",
    "budget_exhausted": "it was refused: the budget for Modal is spent",
    "overloaded": "it was refused: there was no room for it in time",
    "deadline_impossible": "it was refused: its deadline could not be met any more",
}

#: What became of an attempt that was ended to be made again elsewhere: no failure of its own. `why` is its reason.
MOVES: Mapping[str, str] = {
    "requeued": "was requeued before its call was made, because {why}; another is made",
    Cause.RECALLED: "was called back from the in-house queue, because {why}; another is made",
    Cause.SEGMENT_ENDED: "came to the end of its segment; the next one goes on from there",
    Cause.MOVED_HOME: "ended at a checkpoint; the next one goes on from there, on our own GPUs",
}

#: Why Modal, or what a call needs, could not be used at that moment.
_UNAVAILABLE: Mapping[str, str] = {
    "store_away": "its inputs or its outputs could not be reached",
    "unavailable": "Modal was away",
    "timed_out": "Modal did not answer in time",
    "throttled": "Modal had too many requests",
    "token_refused": "Modal refused our token",
    "not_deployed": "the app was not deployed on Modal",
}

_UNITS: Mapping[str, str] = {"_ms": "ms", "_s": "s", "_bytes": "bytes", "_gib": "GiB"}


def rule(name: str) -> str:
    """A rule as a reason."""
    return RULES.get(name, plain(name))


def cause(name: str) -> str:
    """A cause as a reason."""
    return CAUSES.get(name, plain(name))


def end_of(outcome: str, detail: str) -> str:
    """How an attempt ended after which another is made, as a phrase about it.

    Args:
        outcome: as its record has it; empty: unknown.
        detail: what the event says of it.
    """
    move = MOVES.get(outcome or detail)
    return (
        move.format(why=_UNAVAILABLE.get(detail) or rule(detail))
        if move
        else f"failed: {cause(detail)}; another is made"
    )


def signals(seen: Mapping[str, object]) -> list[str]:
    """What a policy looked at, in short phrases."""
    phrases: dict[tuple[str, ...], Callable[..., str]] = {
        ("waiting_inhouse", "active_inhouse", "live_slots"): lambda waiting, busy, live: (
            f"{waiting} waited in-house, {busy} of {live} slots busy"
        ),
        ("high_watermark", "low_watermark"): lambda high, low: f"spill from {high}, stop at {low}",
        ("spilling",): lambda spilling: "spilling" if spilling else "not spilling",
        ("modal_attempts",): lambda attempts: f"{attempts} on Modal",
        ("spent_usd_micros", "reserved_usd_micros"): lambda spent, reserved: (
            f"{_amount(spent)} spent, {_amount(reserved)} set aside"
        ),
        ("wanted",): lambda wanted: f"wanted Modal because {rule(str(wanted))}",
    }
    there = {names: phrase for names, phrase in phrases.items() if all(name in seen for name in names)}
    found = [phrase(*(seen[name] for name in names)) for names, phrase in there.items()]
    together = {name for names in there for name in names}
    return found + [signal(name, value) for name, value in seen.items() if name not in together]


def signal(name: str, value: object) -> str:
    """One signal: its name in words, its value with its unit."""
    match value:
        case bool():
            text = plain(name) if value else f"not {plain(name)}"
        case None:
            text = f"{plain(name)}: unknown"
        case Mapping():
            text = f"{plain(name)}: " + ", ".join(signal(str(key), inner) for key, inner in value.items())
        case list() | tuple():
            text = f"{plain(name)}: " + ", ".join(map(str, value))
        case int() | float():
            text = _measure(name, value)
        case _:
            text = f"{plain(name)} {value}"
    return text


def _measure(name: str, value: float) -> str:
    """A number, in the unit that its name ends with."""
    if name.endswith("_usd_micros"):
        return f"{plain(name.removesuffix('_usd_micros'))} {_amount(value)}"
    if name.endswith("_ratio"):
        return f"{plain(name.removesuffix('_ratio'))} {value:.0%}"
    shown = f"{value:.4g}" if value % 1 else f"{value:.0f}"
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return f"{plain(name.removesuffix(suffix))} {shown} {unit}"
    return f"{plain(name)} {shown}"


def _amount(value: object) -> str:
    return dollars(int(value)) if isinstance(value, int | float) else str(value)
