"""Rules, signals, causes and errors, each as a person says it. What is not known here is said as it stands. Pure."""

from collections.abc import Mapping

from ledger.retries import Cause
from overspill.cli.records import dollars

#: Why a job was sent where it was sent: the rules of the policies, and what the ledger's limits say.
RULES: Mapping[str, str] = {
    "burst_never": "the job said that it must not run on Modal",
    "burst_always": "the job said that it wants to run on Modal",
    "no_modal_class": "no Modal GPU class is allowed and fits",
    "no_live_slot": "no in-house GPU worker was alive",
    "above_watermark": "the in-house queue was deep enough to spill",
    "below_watermark": "the in-house queue was short enough",
    "budget_exhausted": "the budget for Modal was spent or set aside",
    "modal_calls_at_cap": "as many calls on Modal as allowed were alive",
}

#: Why an attempt, or with it the job, ended without a result.
CAUSES: Mapping[str, str] = {
    Cause.ERROR: "the engine raised an error",
    Cause.CRASH: "its process or container died",
    Cause.OUT_OF_MEMORY: "GPU or host memory ran out",
    Cause.TIMEOUT: "it ran for longer than it may",
    Cause.PREEMPTED: "Modal took the machine away",
    Cause.LEASE_LOST: "its in-house worker stopped renewing its lease",
    Cause.SPAWN_REFUSED: "Modal refused to start the call",
    Cause.SPAWN_LOST: "Modal's answer to the spawn never came",
    Cause.RESULT_LOST: "Modal does not have its result any more",
    Cause.DELIVERY: "S3 did not take the result",
    Cause.INVALID_REQUEST: "the request cannot be rendered as it is",
    Cause.NO_ENGINE: "this deployment has no engine for it",
    Cause.BAD_ENVELOPE: "what came back was not what this version expects",
    "cancelled": "it was cancelled",
    "completed": "completed",
    "budget_exhausted": "it was refused: the budget for Modal is spent",
    "overloaded": "it was refused: there was no room for it in time",
    "deadline_impossible": "it was refused: its deadline could not be met any more",
}

#: Signals that belong together are said together; the rest one by one.
_DEPTH = ("waiting_inhouse", "active_inhouse", "live_slots")
_WATERMARKS = ("high_watermark", "low_watermark")
_MONEY = ("spent_usd_micros", "reserved_usd_micros")
_UNITS: Mapping[str, str] = {"_ms": "ms", "_s": "s", "_bytes": "bytes", "_gib": "GiB"}


def rule(name: str) -> str:
    """A rule as a reason."""
    return RULES.get(name, plain(name))


def cause(name: str) -> str:
    """A cause as a reason."""
    return CAUSES.get(name, plain(name))


def plain(name: str) -> str:
    """A name of ours without its underscores."""
    return name.replace("_", " ").strip()


def signals(seen: Mapping[str, object]) -> list[str]:
    """What a policy looked at, in short phrases."""
    said = []
    if all(name in seen for name in _DEPTH):
        said.append(
            f"{seen['waiting_inhouse']} waited in-house, {seen['active_inhouse']} of {seen['live_slots']} slots busy"
        )
    if all(name in seen for name in _WATERMARKS):
        said.append(f"spill from {seen['high_watermark']}, stop at {seen['low_watermark']}")
    if "spilling" in seen:
        said.append("spilling" if seen["spilling"] else "not spilling")
    if "modal_attempts" in seen:
        said.append(f"{seen['modal_attempts']} on Modal")
    if all(name in seen for name in _MONEY):
        said.append(f"{_amount(seen['spent_usd_micros'])} spent, {_amount(seen['reserved_usd_micros'])} set aside")
    if "wanted" in seen:
        said.append(f"wanted Modal because {rule(str(seen['wanted']))}")
    together = {*_DEPTH, *_WATERMARKS, *_MONEY, "spilling", "modal_attempts", "wanted"}
    unsaid = {name: value for name, value in seen.items() if name not in together}
    # Of those that belong together and are not all there, each is said by itself.
    unsaid |= {
        name: seen[name] for group in (_DEPTH, _WATERMARKS, _MONEY) if not all(one in seen for one in group)
        for name in group if name in seen
    }  # fmt: skip
    return said + [signal(name, value) for name, value in unsaid.items()]


def signal(name: str, value: object) -> str:
    """One signal: its name in words, its value with its unit."""
    match value:
        case bool():
            said = plain(name) if value else f"not {plain(name)}"
        case None:
            said = f"{plain(name)}: unknown"
        case Mapping():
            said = f"{plain(name)}: " + ", ".join(signal(str(key), inner) for key, inner in value.items())
        case list() | tuple():
            said = f"{plain(name)}: " + ", ".join(map(str, value))
        case int() | float():
            said = _measure(name, value)
        case _:
            said = f"{plain(name)} {value}"
    return said


def _measure(name: str, value: float) -> str:
    """A number, in the unit that its name ends with."""
    if name.endswith("_usd_micros"):
        return f"{plain(name.removesuffix('_usd_micros'))} {_amount(value)}"
    if name.endswith("_ratio"):
        return f"{plain(name.removesuffix('_ratio'))} {value:.0%}"
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return f"{plain(name.removesuffix(suffix))} {shown} {unit}"
    return f"{plain(name)} {shown}"


def _amount(value: object) -> str:
    return dollars(int(value)) if isinstance(value, int | float) else str(value)


def span(seconds: float) -> str:
    """A length of time as people say it: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:  # noqa: PLR2004 - below ten, tenths count
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
