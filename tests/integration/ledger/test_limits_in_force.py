"""The limits live in the ledger: one change holds for every process, whatever its environment says."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from ledger import Kind, Ledger
from ledger.decisions import RunOnModal
from ledger.limits import Difference, LimitRefused
from ledger.outcomes import Placed, Refused
from ledger.store import GivenLimits
from tests.support.ledgers import RECEIPT, submit

DOLLAR = 1_000_000
ONE_DOLLAR = RunOnModal("H100", reserve_usd_micros=DOLLAR, usd_nanos_per_s=1_000_000)


def process(ledger: Ledger, given: Mapping[str, int | float], heard: list[Difference] | None = None) -> Ledger:
    """Another process on the same ledger, whose environment names these limits."""

    def hear(found: Sequence[Difference]) -> None:
        (heard if heard is not None else []).extend(found)

    return Ledger(ledger.settings, given=GivenLimits(given, who="host:1", on_difference=hear))


def try_to_place(on: Ledger) -> Placed | Refused:
    """Submit a job and have this process place it on Modal."""
    submit(on)
    (claimed,) = on.placement.claim_queued(Kind.RENDER, limit=1, lease_s=60)
    outcome = on.placement.place(claimed, ONE_DOLLAR, receipt=RECEIPT)
    assert isinstance(outcome, Placed | Refused)
    return outcome


def test_a_lowered_cap_holds_for_a_process_that_was_not_restarted(ledger: Ledger) -> None:
    # given a dispatcher that started with a cap of $100, and an operator who lowers it to $1.50
    with process(ledger, {"month": 100 * DOLLAR}) as old:
        assert isinstance(try_to_place(old), Placed)
        ledger.money.set_limits({"month": 3 * DOLLAR // 2}, who="ann", why="too much")
        # when the old process places / then the lowered cap says no, and to a top-up too
        assert try_to_place(old) == Refused("month_budget")
        (call,) = old.money.live_calls()[0]
        assert old.modal_calls.top_up(call.job_id, call.attempt, reserve_usd_micros=2 * DOLLAR) == Refused(
            "month_budget"
        )


def test_a_cap_lowered_while_many_place_is_never_passed_afterwards(ledger: Ledger) -> None:
    # given eight old processes that race to place forty jobs of a dollar under a cap of $100
    for _ in range(40):
        submit(ledger)
    lowered = threading.Event()

    def race(_: int) -> list[bool]:
        placed_after = []
        with process(ledger, {"month": 100 * DOLLAR}) as old:
            while claims := old.placement.claim_queued(Kind.RENDER, limit=1, lease_s=60):
                after = lowered.is_set()
                outcome = old.placement.place(claims[0], ONE_DOLLAR, receipt=RECEIPT)
                placed_after.append(after and isinstance(outcome, Placed))
        return placed_after

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(race, number) for number in range(8)]
        # when somebody stops all of it meanwhile
        ledger.money.set_limits({"month": 0}, who="ann", why="stop")
        lowered.set()
        placed_after = [one for future in running for one in future.result()]
    # then nothing that was asked for after it was placed
    assert len(placed_after) == 40
    assert not any(placed_after)


def test_an_environment_fills_only_what_is_empty_each_field_on_its_own(ledger: Ledger) -> None:
    # given a ledger to which an operator has given one limit
    ledger.money.set_limits({"day": 5 * DOLLAR}, who="ann", why="a start")
    heard: list[Difference] = []
    # when a process starts whose environment names that one and others
    with process(ledger, {"day": 9 * DOLLAR, "month": 7 * DOLLAR, "tenant:acme": DOLLAR}, heard) as started:
        started.placement.view()
    # then only the others are filled, and the difference is said
    limits = ledger.money.limits()
    assert (limits.day_cap_usd_micros, limits.month_cap_usd_micros) == (5 * DOLLAR, 7 * DOLLAR)
    assert limits.tenant_caps_usd_micros == {"acme": DOLLAR}
    assert heard == [Difference("day", 9 * DOLLAR, 5 * DOLLAR)]
    # and what nobody has named has its default
    assert (limits.max_modal_attempts, limits.drain_ratio, limits.drain_priority) == (100, 0.9, 7)


def test_processes_that_start_together_agree(ledger: Ledger) -> None:
    barrier = threading.Barrier(8)

    def start(number: int) -> int:
        with process(ledger, {"month": number * DOLLAR}) as started:
            barrier.wait()
            started.placement.view()
            return started.money.limits().month_cap_usd_micros

    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(start, range(1, 9)))
    assert len(seen) == 1
    (change,) = ledger.money.limits_history()
    assert (change.name, change.was, int(change.now), change.who) == ("month", None, *seen, "host:1")


def test_a_ledger_that_is_emptied_under_a_process_is_filled_before_anything_is_placed(ledger: Ledger) -> None:
    with process(ledger, {"month": 0}) as running:
        running.placement.view()
        ledger.client.delete(f"{ledger.prefix}:limits")
        assert try_to_place(running) == Refused("month_budget")


def test_every_change_is_kept_with_who_and_why(ledger: Ledger) -> None:
    # given two changes and one that changes nothing
    ledger.money.set_limits({"month": 5 * DOLLAR, "tenant:acme": None}, who="ann@here", why="a launch")
    assert ledger.money.set_limits({"month": 5 * DOLLAR}, who="bob", why="again") == []
    ledger.money.unset_limits(["month"], who="bob@there", why="over")
    # when the history is asked for
    told = [(one.name, one.was, one.now, one.who, one.why) for one in ledger.money.limits_history()]
    # then it names every change, and the events do too
    assert told == [
        ("month", None, "5000000", "ann@here", "a launch"),
        ("tenant:acme", None, "none", "ann@here", "a launch"),
        ("month", "5000000", "100000000000", "bob@there", "over"),
    ]
    events = [one.detail for one in ledger.stats.events(limit=10) if one.event == "budget.limit"]
    assert events[0] == "month: 5000000 -> 100000000000 by bob@there: over"


def test_a_tenant_without_its_own_cap_any_more_has_that_of_every_tenant_and_is_not_filled_again(ledger: Ledger) -> None:
    given = {"tenant": 0, "tenant:default": 50 * DOLLAR}
    with process(ledger, given) as first:
        assert isinstance(try_to_place(first), Placed)
    ledger.money.unset_limits(["tenant:default"], who="ann", why="no more")
    with process(ledger, given) as second:
        assert try_to_place(second) == Refused("tenant_budget")
    # and one who is exempt has none
    ledger.money.set_limits({"tenant:default": None}, who="ann", why="a partner")
    assert isinstance(try_to_place(ledger), Placed)
    assert ledger.money.view().tenants["default"].cap_usd_micros is None


@pytest.mark.parametrize(
    "values",
    [
        {"month": None}, {"month": -1}, {"month": 10**16}, {"attempts": 1.5}, {"gpus": -1}, {"drain_ratio": 0},
        {"drain_ratio": 1.01}, {"drain_priority": 10}, {"tenant:": 1}, {"tenant:A b": 1}, {"kind:video": 1},
        {"hour": 1}, {"filled_ms": 1}, {"month": float("nan")}, {"day": float("inf")},
    ],
)  # fmt: skip
def test_a_wrong_limit_changes_nothing(ledger: Ledger, values: dict[str, float | None]) -> None:
    with pytest.raises(LimitRefused):
        ledger.money.set_limits({"gpus": 3, **values}, who="ann", why="oops")
    assert ledger.money.stored_limits() == {}


@pytest.mark.parametrize(
    "texts",
    [
        {"month": "none"}, {"month": "-1"}, {"month": "nan"}, {"month": "1e16"}, {"attempts": "1.5"}, {"hour": "1"},
        {"day": "default"}, {"drain_ratio": "0"}, {"filled_ms": "1"}, {"kind:video": "1"}, {"month": "inf"},
    ],
)  # fmt: skip
def test_the_script_checks_every_value_before_it_writes_the_first(ledger: Ledger, texts: dict[str, str]) -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="WRONG limit"):
        ledger.runner.call("limits", change={"day": "5", "zzz": "1", **texts}, who="", why="")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONG limit"):
        ledger.runner.call("limits", change={"day": "5"}, given=texts, who="", why="")
    assert ledger.money.stored_limits() == {}


def test_what_would_be_refused_is_what_is_refused_and_asking_changes_nothing(ledger: Ledger) -> None:
    # given a budget with room for one call
    ledger.money.set_limits({"month": 3 * DOLLAR // 2}, who="ann", why="")
    assert ledger.placement.would_refuse(ONE_DOLLAR, tenant="default", kind=Kind.RENDER, priority=5) is None
    assert isinstance(try_to_place(ledger), Placed)
    before = {key: ledger.client.dump(key) for key in ledger.client.scan_iter(f"{ledger.prefix}:*")}
    # when it is asked about the next / then it says what `place` says, and writes nothing
    assert ledger.placement.would_refuse(ONE_DOLLAR, tenant="default", kind=Kind.RENDER, priority=5) == "month_budget"
    assert {key: ledger.client.dump(key) for key in ledger.client.scan_iter(f"{ledger.prefix}:*")} == before
    assert try_to_place(ledger) == Refused("month_budget")
