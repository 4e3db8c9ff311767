"""A segment of a training run on Modal that is over is another attempt, and no failure."""

from types import SimpleNamespace
from typing import Any

from infra.settings import Settings
from infra.settings.service import TRAIN_MAX_ATTEMPTS
from ledger.models import Kind
from ledger.nudges import decide
from ledger.outcomes import DueCall, Requeued
from ledger.retries import RULES, Cause
from modal_apps.envelope import Envelope, Timings
from workers.overflow.classify import CallSucceeded
from workers.overflow.completer import Completer

CALL = DueCall(
    "ftjob_" + "0" * 32, 3, Kind.TRAIN, "L4", "fc-1", now_ms=10_000, spawned_ms=1_000, call_deadline_ms=99_000
)
VALUE = {"outcome": "preempted", "checkpoint": "image_classifier/2026-11-22/x/step-7"}


def test_a_segment_that_is_over_is_followed_by_another() -> None:
    # Given a follower's completer, and a call whose segment ended with a checkpoint that was mirrored
    failed: list[dict[str, Any]] = []

    def fail(*_: object, **facts: Any) -> Requeued:
        failed.append(facts)
        return Requeued(decide(Kind.TRAIN))

    sent: list[object] = []
    ends: Any = SimpleNamespace(
        ledger=SimpleNamespace(attempts=SimpleNamespace(fail=fail)),
        settings=Settings(),
        nudger=SimpleNamespace(send=sent.append),
    )
    completer = Completer(ends)
    completer.train = SimpleNamespace(finish=lambda *_: None)  # type: ignore[assignment]  # the one verb that is asked
    envelope = Envelope(Timings(1.0, 2.0, 9.0), "ta-1", cold_start=True, peak_memory_bytes=1, value=VALUE)
    # When it is concluded
    assert completer.complete(CALL, CallSucceeded(envelope), None, noticed_ms=10_000)
    # Then the attempt ends by a cause that is forgiven as often as a long run needs, and its container is charged
    (facts,) = failed
    assert facts["cause"] is Cause.SEGMENT_ENDED
    assert facts["max_attempts"] == TRAIN_MAX_ATTEMPTS <= RULES[Cause.SEGMENT_ENDED].retries
    assert (
        facts["usage"].usd_nanos_per_s == Settings().price_of(Kind.TRAIN, "L4") > Settings().price_of(Kind.RENDER, "L4")
    )
    assert sent == [decide(Kind.TRAIN)]
