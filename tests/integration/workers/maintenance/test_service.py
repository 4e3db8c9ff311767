"""One duty's trouble stops no other; one process leads each; and what is shown is the last round that went well."""

import threading
from collections.abc import Callable

import pytest

from ledger import Ledger
from ledger.errors import LedgerUnavailable
from tests.support.waiting import until
from workers.maintenance.duties import DutyName, Pace
from workers.maintenance.service import LONGEST_PAUSE_S, Duty, Maintenance, MaintenanceService, StoreAway

NAME = DutyName.EXPIRED_LEASES
QUICK = Pace(interval_s=0.05, round_s=0.5)


class Work:
    """Counts its rounds, and does in each what it is told to."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self.act = act
        self.rounds = 0

    def __call__(self) -> None:
        self.rounds += 1
        self.act()


def fails(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def service(ledger: Ledger, work: Work, *, owner: str = "a", pace: Pace = QUICK) -> MaintenanceService:
    return MaintenanceService(Duty(NAME, work, pace), ledger, owner=owner)


def gauge(ledger: Ledger, name: str) -> tuple[float, int] | None:
    """The value, and when it was noted (milliseconds since 1970); None: never."""
    found = ledger.stats.read().gauges.get((name, (("duty", str(NAME)),)))
    return (found.value, found.at_ms) if found is not None else None


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), StoreAway("S3 is away")], ids=["a bug", "a store"])
def test_a_round_that_fails_ends_at_the_boundary_is_counted_and_is_no_good_round(
    ledger: Ledger, error: Exception
) -> None:
    # Given a duty that is led, and whose rounds fail
    work = Work(fails(error))
    one = service(ledger, work)
    # When it goes on, then nothing is raised, each failure is counted, and nothing says that it was done
    for number in (1, 2, 3):
        one.round()
        assert (gauge(ledger, "duty_failed") or (0, 0))[0] == number
    assert gauge(ledger, "duty_done") is None
    assert ledger.counters()[f"duty_failures_total|duty={NAME}"] == 3
    # And when a round goes well, that is when it was done, and the failures in a row are over
    work.act = lambda: None
    one.round()
    done = gauge(ledger, "duty_done")
    assert done is not None
    assert (gauge(ledger, "duty_failed") or (9, 9))[0] == 0
    # And one that fails later leaves that time as it was
    work.act = fails(error)
    one.round()
    assert gauge(ledger, "duty_done") == done


def test_a_duty_that_crashes_each_time_pauses_longer_and_longer_and_one_that_waits_for_redis_does_not(
    ledger: Ledger,
) -> None:
    work = Work(fails(ZeroDivisionError()))
    one = service(ledger, work, pace=Pace(1.0, 1.0))
    assert [one.round() for _ in range(7)] == [2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    work.act = lambda: None
    assert one.round() == 1.0
    work.act = fails(LedgerUnavailable("redis", "a test"))
    assert [one.round() for _ in range(3)] == [1.0, 1.0, 1.0]


def test_one_process_leads_and_another_follows_when_it_gives_up(ledger: Ledger) -> None:
    # Given two processes of which the first leads
    first, second = Work(), Work()
    leader, follower = service(ledger, first, owner="a"), service(ledger, second, owner="b")
    leader.start()
    until(lambda: first.rounds, lambda rounds: rounds > 1, timeout_s=10)
    follower.start()
    assert follower.ready(10)
    assert second.rounds == 0
    # When the first is stopped, then the second leads
    leader.stop()
    until(lambda: second.rounds, lambda rounds: rounds > 1, timeout_s=10)
    follower.stop()


def test_a_leader_that_dies_is_followed_when_its_lease_ends(ledger: Ledger) -> None:
    # Given a leader that is never heard of again
    pace = Pace(interval_s=0.05, round_s=0.5)
    dead, work = service(ledger, Work(), owner="a", pace=pace), Work()
    dead.round()
    lease_ms = ledger.client.pttl(f"{ledger.prefix}:lead:{NAME}")
    assert 0 < lease_ms <= pace.lease_s * 1000
    # When another process asks for the lease, then it has it within its life
    heir = service(ledger, work, owner="b", pace=pace)
    heir.round()
    assert work.rounds == 0
    until(heir.round, lambda _: work.rounds > 0, timeout_s=10)


def test_a_round_that_hangs_delays_no_other_duty_and_is_followed_by_another_process(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two duties of one process, of which one hangs in its round
    released, hung = threading.Event(), threading.Event()

    def hang() -> None:
        hung.set()
        released.wait(60)

    monkeypatch.setattr(MaintenanceService, "STOP_TIMEOUT_S", 0.2)
    other = Work()
    duties = [Duty(DutyName.DELETIONS, Work(hang), QUICK), Duty(DutyName.HELD_JOBS, other, QUICK)]
    here = Maintenance(duties, ledger)
    here.start()
    assert here.ready(10)
    assert hung.wait(10)
    # When time passes, then the other goes on, and another process takes the one that hangs
    rounds = other.rounds
    until(lambda: other.rounds, lambda now: now > rounds + 5, timeout_s=10)
    elsewhere_work = Work()
    elsewhere = Maintenance([Duty(DutyName.DELETIONS, elsewhere_work, QUICK)], ledger)
    elsewhere.start()
    until(lambda: elsewhere_work.rounds, lambda now: now > 0, timeout_s=10)
    # And both can be stopped, twice
    for one in (here, elsewhere, here):
        one.stop()
    assert other.rounds > rounds
    released.set()


def test_what_was_never_started_can_be_stopped_and_lets_go_of_what_it_holds(ledger: Ledger) -> None:
    closed: list[bool] = []
    Maintenance([Duty(NAME, Work(), QUICK)], ledger, close=lambda: closed.append(True)).stop()
    assert closed == [True]
