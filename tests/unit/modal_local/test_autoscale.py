"""How many containers a pool gets, and which of them go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modal_local.records import PoolSettings
from modal_local.scheduler.autoscale import PoolView, backoff_s, plan, retry_delay_s, target


def view(**changes: object) -> PoolView:
    settings = PoolSettings(**{k: v for k, v in changes.items() if k in PoolSettings.__dataclass_fields__})  # type: ignore[arg-type]  # by name
    rest = {k: v for k, v in changes.items() if k not in PoolSettings.__dataclass_fields__}
    base = {"backlog": 0, "running": 0, "active": 0, "idle": (), "blocked_until": 0.0, "now": 1000.0}
    return PoolView(settings=settings, **{**base, **rest})  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("given_view", "wanted"),
    [
        (view(), 0),
        (view(backlog=3), 3),
        (view(backlog=3, running=2, active=2), 5),
        (view(backlog=7, inputs_per_container=4), 2),
        (view(backlog=9, max_containers=2), 2),
        (view(min_containers=2), 2),
        (view(backlog=1, buffer_containers=2), 3),
        (view(buffer_containers=2), 0),
        (view(backlog=1, buffer_containers=5, max_containers=3), 3),
    ],
)
def test_target(given_view: PoolView, wanted: int) -> None:
    assert target(given_view) == wanted
    assert plan(given_view).start == max(0, wanted - given_view.active)


def test_an_idle_container_goes_after_its_window_and_not_before() -> None:
    early = plan(view(active=1, idle=[("a", 960.0)], scaledown_window_s=60.0))
    assert (early.stop, early.check_again_s) == ((), 20.0)
    assert plan(view(active=1, idle=[("a", 940.0)], scaledown_window_s=60.0)).stop == ("a",)


def test_the_minimum_stays_and_the_longest_idle_goes_first() -> None:
    idle = [("old", 0.0), ("new", 1.0)]
    assert plan(view(active=2, idle=idle, min_containers=1)).stop == ("old",)


def test_above_a_lowered_maximum_idle_ones_go_at_once() -> None:
    assert plan(view(active=2, idle=[("a", 999.0), ("b", 999.5)], max_containers=1)).stop == ("a",)


def test_a_crash_looping_pool_waits_out_its_backoff() -> None:
    decided = plan(view(backlog=2, blocked_until=1004.0))
    assert (decided.start, decided.check_again_s) == (0, 4.0)


@given(
    backlog=st.integers(0, 50),
    running=st.integers(0, 50),
    active=st.integers(0, 50),
    idle=st.integers(0, 50),
    least=st.integers(0, 5),
    most=st.integers(0, 20),
)
def test_a_plan_never_leaves_the_limits(
    backlog: int, running: int, active: int, idle: int, least: int, most: int
) -> None:
    pool = view(
        backlog=backlog,
        running=running,
        active=active,
        idle=[(str(number), 0.0) for number in range(min(idle, active))],
        min_containers=min(least, most) if most else least,
        max_containers=most,
    )
    decided = plan(pool)
    after = active + decided.start - len(decided.stop)
    assert not (decided.start and decided.stop)
    if most:
        assert after <= max(most, active)
    assert after >= min(active, target(pool))


def test_backoff_doubles_up_to_a_limit() -> None:
    assert [backoff_s(failures) for failures in (-1, 0, 1, 2, 3)] == [0.0, 0.0, 0.5, 1.0, 2.0]
    assert backoff_s(60) == 30.0


def test_retry_delays_follow_the_policy() -> None:
    assert [retry_delay_s(1000, 2.0, 60_000, n) for n in (1, 2, 3, 9)] == [1.0, 2.0, 4.0, 60.0]
    assert retry_delay_s(0, 1.0, 0, 5) == 0.0
