"""How many containers one pool should have now. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modal_local.records import PoolSettings


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool as it is.

    Attributes:
        backlog: inputs that wait.
        running: inputs that run.
        active: containers that take, or will take, new inputs.
        idle: containers with nothing to do and the time since when, longest first.
        blocked_until: no start before this time (crash-loop backoff).
        now: unix time in seconds.
    """

    settings: PoolSettings
    backlog: int
    running: int
    active: int
    idle: Sequence[tuple[str, float]]
    blocked_until: float
    now: float


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What to do: how many to start, which to stop, seconds until the next check (None: only on a change)."""

    start: int
    stop: tuple[str, ...]
    check_again_s: float | None


def target(view: PoolView) -> int:
    """The number of containers that the load and the limits ask for."""
    settings = view.settings
    load = view.backlog + view.running
    needed = math.ceil(load / settings.inputs_per_container)
    if needed:
        needed += settings.buffer_containers
    wanted = max(needed, settings.min_containers)
    return min(wanted, settings.max_containers) if settings.max_containers else wanted


def plan(view: PoolView) -> PoolPlan:
    """Starts what is missing at once; stops what is too much once it has been idle for the scaledown window."""
    wanted = target(view)
    missing = max(0, wanted - view.active)
    check_again: float | None = None
    if missing and view.blocked_until > view.now:
        check_again = view.blocked_until - view.now
        missing = 0
    surplus = max(0, view.active - wanted)
    over_limit = max(0, view.active - view.settings.max_containers) if view.settings.max_containers else 0
    stop: list[str] = []
    for task_id, since in view.idle:
        if len(stop) >= surplus:
            break
        left = since + view.settings.scaledown_window_s - view.now
        if left <= 0 or len(stop) < over_limit:
            stop.append(task_id)
        else:
            check_again = left if check_again is None else min(check_again, left)
            break
    else:
        if stop and len(stop) < surplus:  # the view may hold only the first of the idle ones
            check_again = 0.0
    return PoolPlan(missing, tuple(stop), check_again)


def backoff_s(failures: int, *, first_s: float = 0.5, longest_s: float = 30.0) -> float:
    """How long a pool waits after a number of failed starts in a row: doubled each time, up to a limit."""
    return 0.0 if failures <= 0 else min(longest_s, first_s * 2.0 ** (failures - 1))


def retry_delay_s(initial_ms: int, coefficient: float, longest_ms: int, failures: int) -> float:
    """The delay before a user's retry, from the function's retry policy; `failures` counts from 1."""
    delay_ms = initial_ms * max(coefficient, 1.0) ** max(0, failures - 1)
    return (min(delay_ms, longest_ms) if longest_ms else delay_ms) / 1000
