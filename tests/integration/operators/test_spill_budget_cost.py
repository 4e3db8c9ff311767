"""The operator's hand: what it shows is what the ledger holds, and what it does is recorded with who and why."""

import csv
import io
import socket

import pytest

from ledger import Kind, Ledger
from ledger.containers import ContainerUse, Usage
from ledger.decisions import RunOnModal
from ledger.limits import Limits
from ledger.models import Artifact
from ledger.outcomes import Placed, Refused
from tests.integration.operators.conftest import Overspill
from tests.support.ledgers import RECEIPT, limited, move_clock, place, start_inhouse, submit

VIDEO = Artifact("videos", "a/1/video.mp4", None, 3, "0" * 64)
CAPS = Limits(month_cap_usd_micros=10_000_000, max_modal_attempts=100, tenant_caps_usd_micros={"acme": 4_000_000})
ON_H100 = RunOnModal(gpu="H100", reserve_usd_micros=1_000_000, usd_nanos_per_s=1_000_000)


def call(ledger: Ledger, *, tenant: str = "acme") -> str:
    """A job of a tenant whose call runs on Modal."""
    job_id = submit(ledger, tenant=tenant)
    place(ledger, ON_H100, limits=CAPS)
    ledger.modal_calls.record_call(job_id, 1, call_id=f"fc-{tenant}", first_check_s=1, deadline_s=100)
    return job_id


def finish(ledger: Ledger, job_id: str, *, seconds: int) -> None:
    """Its call has used a container for so long, which is gone."""
    ledger.attempts.begin_delivery(job_id, 1)
    now_ms = ledger.placement.view().now_ms
    use = ContainerUse(f"ta-{job_id}", now_ms - seconds * 1000, now_ms, gone=True)
    usage = Usage([use], usd_nanos_per_s=1_000_000, idle_window_s=2)
    ledger.attempts.complete(job_id, 1, artifact=VIDEO, measurements={}, usage=usage)


def test_the_budget_says_what_the_ledger_holds(ledger: Ledger, overspill: Overspill) -> None:
    # given a tenant with a finished call of $1.50 and one in flight
    finish(ledger, call(ledger), seconds=1500)
    call(ledger)
    # when the budget is asked for
    facts = overspill("budget", "--json").json
    # then every scope adds up, in micro-dollars
    scopes = {row["scope"]: row for row in facts["scopes"]}
    month = scopes[f"month {facts['month']}"]
    assert (month["cap_usd_micros"], month["spent_usd_micros"], month["reserved_usd_micros"]) == (
        10**7,
        1_500_000,
        10**6,
    )
    assert month["left_usd_micros"] == 7_500_000
    assert scopes["tenant acme"]["stage"] == "warn_50"
    assert facts["at_once"]["calls"] == {"used": 1, "cap": 100}
    # and a person sees the same
    shown = overspill("budget")
    assert shown.code == 0
    rows = {line.split("  ")[0]: line.split() for line in shown.out.splitlines()}
    assert rows["tenant acme"][2:] == ["$4.00", "$1.50", "$1.00", "$1.50", "warn", "50"]
    assert "was not compared this month" in shown.out
    assert shown.err == ""


def test_limits_are_changed_for_every_process_with_who_and_why(ledger: Ledger, overspill: Overspill) -> None:
    # given a job that would fit under the cap that its dispatcher's environment names
    submit(ledger)
    # when an operator sets limits
    said = overspill("budget", "set", "month=0.5", "tenant.acme=500", "attempts=20", "--why", "a slow month")
    # then the change is told, and holds at once
    assert said.out.splitlines() == [
        "attempts: empty -> 20",
        "month: empty -> $0.5000",
        "tenant.acme: empty -> $500.00",
    ]
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=10)
    assert ledger.placement.place(claimed, ON_H100, receipt=RECEIPT) == Refused("month_budget")
    # and everything shows it
    assert "$0.5000" in overspill("budget").out
    assert overspill("budget", "--json").json["limits"]["tenant:acme"] == 500_000_000
    # when one is taken back / then its default holds, and the history has all of it
    assert overspill("budget", "unset", "month", "tenant.acme", "--why", "over").code == 0
    rows = overspill("budget", "history").out.splitlines()
    assert len(rows) == 5
    assert f"month: $0.5000 -> $100,000.00, by ada@{socket.gethostname()}: over" in rows[3]
    assert f"tenant.acme: $500.00 -> every tenant's, by ada@{socket.gethostname()}: over" in rows[4]
    assert [row["name"] for row in overspill("budget", "history", "--limit", "1", "--json").json] == ["tenant:acme"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("set", "month=much", "--why", "x"), "expected a number or none for month, got 'much'"),
        (("set", "moth=5", "--why", "x"), "no limit has the name 'moth'"),
        (("set", "month=none", "--why", "x"), "month cannot be absent"),
        (("set", "drain_ratio=2", "--why", "x"), "expected a share above 0 and up to 1"),
        (("set", "gpus=1.5", "--why", "x"), "expected a whole number"),
        (("set", "kind.video=5", "--why", "x"), "no limit has the name 'kind.video'"),
        (("set", "month", "--why", "x"), "expected NAME=VALUE"),
        (("set", "month=5", "--why", " "), "--why cannot be empty"),
        (("set", "month=5"), "Missing option '--why'"),
        (("unset", "tenant.A", "--why", "x"), "no limit has the name 'tenant.A'"),
    ],
)
def test_a_wrong_limit_is_said_and_changes_nothing(
    ledger: Ledger, overspill: Overspill, arguments: tuple[str, ...], message: str
) -> None:
    said = overspill("budget", *arguments)
    assert said.code == 2
    assert message in " ".join(said.err.replace("│", " ").split())
    assert ledger.money.stored_limits() == {}


@pytest.mark.parametrize("by", ["tenant", "kind", "class", "day", "component"])
def test_a_months_cost_is_the_same_however_it_is_cut(ledger: Ledger, overspill: Overspill, by: str) -> None:
    # given two tenants that spent $1.50 and $0.50 on Modal, and something in-house
    finish(ledger, call(ledger, tenant="acme"), seconds=1500)
    finish(ledger, call(ledger, tenant="zeta"), seconds=500)
    submit(ledger)
    record = start_inhouse(ledger)
    ledger.attempts.begin_delivery(record.id, 1)
    ledger.attempts.complete(record.id, 1, artifact=VIDEO, measurements={}, cost_usd_micros=700)
    # when the cost is cut / then its parts are the whole, in each form
    facts = overspill("cost", "--by", by, "--json").json
    assert sum(row["modal_usd_micros"] for row in facts["rows"]) == 2_000_000
    assert sum(row["inhouse_usd_micros"] for row in facts["rows"]) == 700
    table = list(csv.DictReader(io.StringIO(overspill("cost", "--by", by, "--csv").out)))
    assert sum(float(row["total_usd"]) for row in table) == pytest.approx(2.0007)
    shown = overspill("cost", "--by", by).out
    assert shown.splitlines()[-1].split() == [facts["month"], "$2.00", "$0.0007", "$2.00"]
    # and another month is empty
    assert "nothing was spent in 2020-01" in overspill("cost", "--month", "2020-01").err


def test_spilling_is_turned_off_for_a_while_and_that_is_recorded(ledger: Ledger, overspill: Overspill) -> None:
    # given that nobody has said anything
    assert overspill("spill").out.startswith("spill auto: the policy decides")
    # when somebody turns spilling off for two hours
    said = overspill("spill", "off", "--why", "Modal's prices went mad", "--for", "2h")
    # then that is said, and it is so: the ledger refuses
    me = f"ada@{socket.gethostname()}"
    assert said.code == 0
    assert f"spill off: no job is placed on Modal; running calls continue; by {me}" in said.out
    assert "for another 2 h 0 min" in said.out
    submit(ledger)
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=100)
    assert limited(ledger, CAPS).placement.place(claimed, ON_H100, receipt=RECEIPT) == Refused("spill_off")
    # and it stands among the events, with who and why
    [event] = [event for event in ledger.stats.events(limit=20) if event.event == "spill.override"]
    assert f"by {me}: Modal's prices went mad" in (event.detail or "")
    # when the time is over / then the policy decides again
    move_clock(ledger, 7_201)
    assert overspill("spill", "--json").json["mode"] == "auto"
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=10)
    assert isinstance(limited(ledger, CAPS).placement.place(claimed, ON_H100, receipt=RECEIPT), Placed)


def test_an_open_breaker_is_shown_beside_the_hand(ledger: Ledger, overspill: Overspill) -> None:
    # given a breaker that has opened
    ledger.modal_calls.move_breaker(version=0, phase="open", reason="token_refused", memory="{}")
    # when spilling is asked about / then it is said
    assert "Modal's circuit breaker is open: token_refused" in overspill("spill").out
    assert overspill("spill", "--json").json["breaker"] == {"phase": "open", "reason": "token_refused"}


def test_warm_containers_are_wished_for_and_taken_back(ledger: Ledger, overspill: Overspill) -> None:
    # given no wish
    assert "no warm containers" in overspill("prewarm").err
    # when somebody wishes for four
    said = overspill("prewarm", "4", "--gpu", "H100", "--for", "30m", "--why", "the launch")
    # then it is said what that costs at most, and it stands
    assert said.code == 0
    assert "costs $" in said.err
    [wish] = ledger.money.prewarms()
    assert (wish.number, wish.gpu, wish.why) == (4, "H100", "the launch")
    assert wish.until_ms - ledger.placement.view().now_ms == pytest.approx(1_800_000, abs=5_000)
    assert "4 warm H100 for render jobs, for another 30 min" in overspill("prewarm").out
    assert overspill("prewarm", "--json").json[0]["number"] == 4
    # and it can be taken back
    assert "no warm containers" in overspill("prewarm", "0", "--gpu", "H100").err


def test_calls_in_flight_are_listed(ledger: Ledger, overspill: Overspill) -> None:
    # given none / then that is said
    assert "no call is in flight" in overspill("calls").err
    # given one that has begun, and one that is being stopped
    job_id, other = call(ledger), call(ledger, tenant="zeta")
    move_clock(ledger, 30)
    ledger.jobs.cancel(other)
    # when they are listed / then each has its age, class and reservation
    first, second = overspill("calls", "--json").json
    assert (first["job_id"], first["stage"], first["reserved_usd_micros"]) == (job_id, "spawned", 1_000_000)
    assert first["age_s"] == pytest.approx(30, abs=2)
    assert second["stage"] == "stopping"
    shown = overspill("calls").out
    assert job_id in shown
    assert "fc-acme" in shown


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["spill", "sideways"], "sideways"),
        (["spill", "off", "--for", "soon"], "soon"),
        (["spill", "off", "--for", "0s"], "0s"),
        (["spill", "--why", "no reason"], "--why"),
        (["spill", "auto", "--for", "2h"], "--for"),
        (["prewarm", "-1"], "-1"),
        (["prewarm", "2", "--gpu", "H9000"], "H9000"),
        (["prewarm", "--gpu", "H100"], "how many"),
        (["cost", "--by", "mood"], "mood"),
        (["cost", "--month", "November"], "November"),
        (["cost", "--csv", "--json"], "both"),
        (["why", "video_unknown"], "video_unknown"),
        (["top", "--every", "0"], "0"),
    ],
)
def test_a_mistake_is_one_sentence_and_changes_nothing(
    ledger: Ledger, overspill: Overspill, arguments: list[str], names: str
) -> None:
    # given / when a command is given wrongly
    said = overspill(*arguments)
    # then one sentence names it, and the ledger is as it was
    assert said.code in (1, 2)
    assert said.out == ""
    assert said.err.startswith("overspill: ")
    assert names in said.err
    assert said.err.count("\n") == 1
    assert ledger.stats.events(limit=10) == []


def test_an_empty_ledger_can_be_asked_everything(overspill: Overspill, ledger: Ledger) -> None:
    # given a ledger in which nothing ever was / when it is asked / then every command answers
    for arguments in (["budget"], ["cost"], ["spill"], ["calls"], ["prewarm"], ["top", "--once"]):
        assert overspill(*arguments).code == 0, arguments


def test_without_a_ledger_it_is_one_sentence(overspill: Overspill, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a ledger that is away / when a command is run / then it says so
    monkeypatch.setenv("OVERSPILL_LEDGER_URL", "redis://127.0.0.1:1/0")
    for arguments in (["budget"], ["cost"], ["spill", "off"], ["calls"], ["prewarm", "1"], ["budget", "true-up"]):
        said = overspill(*arguments)
        assert (said.code, said.out) == (1, "")
        assert said.err.count("\n") == 1
