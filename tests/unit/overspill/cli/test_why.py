"""`overspill why`: a job's life in plain words, out of a real ledger."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ledger import Ledger
from ledger.containers import ContainerUse, Usage
from ledger.decisions import Hold, Receipt, RunInhouse, RunOnModal
from ledger.jobs import Event
from ledger.limits import Limits
from ledger.models import Artifact, Kind, TrainJob
from ledger.outcomes import Held, Refused
from ledger.refusals import Refusal
from ledger.retries import Cause
from overspill.cli.why import life, view, words
from overspill.terminal.text import duration
from tests.support.ledgers import MODAL, ROOMY, fresh_ledger, limited, move_clock, start_inhouse, submit
from tests.support.redis_server import RedisServer

VIDEO = Artifact("videos", "a/1/video.mp4", None, 3, "0" * 64)
SEEN = {"waiting_inhouse": 9, "active_inhouse": 2, "live_slots": 2, "spilling": True, "spent_usd_micros": 1_500_000,
        "reserved_usd_micros": 250_000}  # fmt: skip
REPOSITORY = Path(__file__).parents[4]


@pytest.fixture
def ledger(redis_server: RedisServer) -> Iterator[Ledger]:
    with fresh_ledger(redis_server.url(2)) as fresh:
        yield fresh


def decide(ledger: Ledger, decision: RunInhouse | RunOnModal | Hold, rule: str, limits: Limits = ROOMY) -> object:
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=10)
    receipt = Receipt("watermark", rule, type(decision).__name__, SEEN)
    return limited(ledger, limits).placement.place(claimed, decision, receipt=receipt)


def told(ledger: Ledger, job_id: str) -> life.Life:
    record, now_ms = ledger.jobs.get(job_id), ledger.placement.view().now_ms
    return life.tell(
        record,
        history=ledger.jobs.history(job_id),
        receipts=ledger.jobs.receipts(job_id),
        attempts=[
            life.read_attempt(n, ledger.jobs.attempt(job_id, n), now_ms=now_ms) for n in range(1, record.attempt + 1)
        ],
        now_ms=now_ms,
    )


def seen_at(width: int, shown: life.Life) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(view.picture(shown, width=width))
    return console.export_text()


def spilled(ledger: Ledger) -> str:
    """A job whose first attempt, in-house, lost its worker, and whose second, on Modal, completed."""
    job_id = submit(ledger)
    start_inhouse(ledger, worker="gpu-1@here")
    ledger.attempts.fail(job_id, 1, cause=Cause.CRASH, message="killed by signal 9", max_attempts=9, jitter=0.0)
    move_clock(ledger, 5)
    decide(ledger, MODAL, "above_watermark")
    ledger.modal_calls.record_call(job_id, 2, call_id="fc-123", first_check_s=1, deadline_s=100)
    ledger.attempts.begin_delivery(job_id, 2)
    used = Usage([ContainerUse("ta-1", 1_000, 9_000)], usd_nanos_per_s=1_000_000, idle_window_s=2)
    ledger.attempts.complete(job_id, 2, artifact=VIDEO, measurements={"container_id": "ta-1"}, usage=used)
    return job_id


def test_a_life_is_told_from_its_door_to_its_end(ledger: Ledger) -> None:
    # given a job that failed in-house and completed on Modal
    shown = told(ledger, spilled(ledger))
    # when its life is told / then each step is there, in order, each decision with what was seen
    texts = [step.text for step in shown.steps]
    assert texts[0] == "accepted by overspill.submit()"
    assert texts[1].startswith("attempt 1 placed in-house, because")
    assert texts[2:4] == [
        "attempt 1 runs in-house: worker gpu-1@here",
        "attempt 1 failed: its process or container died; another is made",
    ]
    assert texts[4] == (
        "attempt 2 placed on Modal H100, because the in-house queue was deep enough to spill (above_watermark)"
    )
    assert shown.steps[4].seen[0] == "9 waited in-house, 2 of 2 slots busy"
    assert "$1.50 spent, $0.2500 set aside" in shown.steps[4].seen
    assert texts[5:] == [
        "attempt 2 runs on Modal H100: call fc-123",
        "attempt 2 has a result, which goes to S3",
        "completed: the result is published",
    ]
    # and so are its attempts, and what it cost
    assert [(one.where, one.outcome) for one in shown.attempts] == [("in-house", "crash"), ("modal H100", "completed")]
    assert shown.attempts[0].message == "killed by signal 9"
    assert shown.attempts[1].cost_usd_micros == 8_000
    assert shown.ending.startswith("completed on Modal H100 after ")
    assert shown.ending.endswith("for $0.0080")


def test_a_move_is_no_failure(ledger: Ledger) -> None:
    # given a training run that was called back, given back, cut into segments, moved home, and whose worker then died
    job_id = ledger.jobs.submit(TrainJob(recipe="image_classifier"), source="client").job_id
    key = f"{ledger.prefix}:attempt:{job_id}"
    ends = [("recalled", "slack_used_up"), ("given_back", "breaker_open"), ("given_back", "throttled"),
            ("segment_ended", "segment_ended"), ("moved_home", "moved_home"), ("lease_lost", "lease_lost")]  # fmt: skip
    told_of = []
    for number, (outcome, detail) in enumerate(ends, 1):
        ledger.client.hset(f"{key}:{number}", mapping={"pool": "modal", "gpu": "H100", "outcome": outcome})
        told_of.append(Event(number, "job.queued", "queued", number, None, None, detail))
    record = ledger.jobs.get(job_id)
    attempts = [life.read_attempt(n, ledger.jobs.attempt(job_id, n), now_ms=9) for n in range(1, len(ends) + 1)]
    running = Event(0, "job.running", "running", 1, "modal", "H100", "fc-1")
    history = [event for one in told_of for event in (running, one)]
    # when its life is told / then only the last is called a failure
    shown = life.tell(record, history=history, receipts=[], attempts=attempts, now_ms=10)
    texts = [step.text for step in shown.steps if step.event == "job.queued"]
    for number, (became, why) in enumerate(
        [
            ("was called back from the in-house queue, because", "its deadline left no more time"),
            ("was given back before its call was made, because", "its circuit breaker was open"),
            ("was given back before its call was made, because", "Modal had too many requests"),
            ("came to the end of its segment; ", "the next one goes on from there"),
            ("ended at a checkpoint; ", "the next one goes on from there, on our own GPUs"),
            ("failed: ", "its in-house worker stopped renewing its lease; another is made"),
        ]
    ):
        assert texts[number].startswith(f"attempt {number + 1} {became}")
        assert why in texts[number]
    # and the table of attempts has words for each
    assert [one.how for one in shown.attempts[:2]] == [
        "it waited for our own GPUs until its time was short",
        "it was given back before its call was made",
    ]


def test_a_refusal_names_the_limit_that_said_no(ledger: Ledger) -> None:
    # given a job that wanted Modal, was refused by the cap, held, and shed at the end of its hold time
    job_id = submit(ledger)
    full = Limits(month_cap_usd_micros=0, max_modal_attempts=10)
    (claimed,) = ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=10)
    receipt = Receipt("watermark", "month_budget", "Hold", {**SEEN, "wanted": "above_watermark"})
    assert isinstance(limited(ledger, full).placement.place(claimed, MODAL, receipt=receipt), Refused)
    hold = Hold("month_budget", again_in_s=1, timeout_s=3)
    assert isinstance(limited(ledger, full).placement.place(claimed, hold, receipt=receipt), Held)
    held = told(ledger, job_id)
    assert "the month's budget for Modal was spent or set aside (month_budget)" in held.ending
    move_clock(ledger, 4)
    ledger.maintenance.due_held(limit=10)
    # when its life is told / then the reason stands at the decision and at the end
    shown = told(ledger, job_id)
    assert shown.steps[1].text == "held, because the month's budget for Modal was spent or set aside (month_budget)"
    assert "wanted Modal because the in-house queue was deep enough to spill" in shown.steps[1].seen
    assert "it was refused: the budget for Modal is spent (budget_exhausted)" in shown.ending
    assert shown.attempts == []


@pytest.mark.parametrize("width", [40, 80, 200])
def test_it_fits_every_terminal(ledger: Ledger, width: int) -> None:
    # given a life / when it is shown / then it fits, and nothing of it is lost
    text = seen_at(width, told(ledger, spilled(ledger)))
    assert max(map(len, text.splitlines())) <= width
    words_only = re.sub(r"\s+", " ", text)
    for word in ("above_watermark", "completed", "deep enough"):
        assert word in words_only
    assert "fc-123" in text


def test_programs_get_all_of_it(ledger: Ledger) -> None:
    # given a life / when it is made into JSON and back / then receipts and attempts are whole
    facts = json.loads(json.dumps(view.facts(told(ledger, spilled(ledger)))))
    assert facts["steps"][4]["receipt"]["rule"] == "above_watermark"
    assert facts["steps"][4]["receipt"]["signals"] == SEEN
    assert facts["attempts"][1]["call_id"] == "fc-123"
    assert facts["attempts"][1]["cost_usd_micros"] == 8_000
    assert facts["job"]["state"] == "completed"


def test_what_we_have_no_words_for_is_shown_as_it_stands() -> None:
    # given signals of another version / when they are said / then nothing is left out, and units are kept
    phrases = words.signals(
        {"waiting_inhouse": 3, "price_usd_micros": 2_500_000, "wait_s": 12.25, "share_ratio": 0.5, "calm": False,
         "prices": {"H100": 4}, "tried": ["H100", "H200"], "unknown": None}
    )  # fmt: skip
    assert phrases == [
        "waiting inhouse 3", "price $2.50", "wait 12.25 s", "share 50%", "not calm", "prices: H100 4",
        "tried: H100, H200", "unknown: unknown",
    ]  # fmt: skip
    assert words.rule("some_new_rule") == "some new rule"


def test_every_cause_and_every_rule_of_a_policy_has_words() -> None:
    # given the causes of the ledger, and the rules that the policies' source names
    assert set(Cause) <= set(words.CAUSES)
    assert set(Refusal) <= set(words.RULES)
    rules = set()
    for path in (REPOSITORY / "workers" / "placement").glob("*.py"):
        returns = re.findall(r"^ +return (.*)$", path.read_text(), re.MULTILINE)
        rules |= {name for line in returns for name in re.findall(r'"([a-z]+(?:_[a-z]+)+)"', line)}
    rules -= {"invalid_request"}  # a code for the outside
    # then each has words
    assert rules
    assert rules <= set(words.RULES), rules - set(words.RULES)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")],
)
def test_durations_as_people_read_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
