"""An answer with an odd part ends its attempt by name, and leaves the books in order: through the real ledger."""

import copy
import hashlib
from typing import Any

import pytest

from infra.settings import Settings
from ledger import Ledger
from ledger.containers import ContainerUse, Usage
from ledger.models import Artifact, State
from ledger.outcomes import DueCall
from ledger.retries import Cause
from modal_apps.envelope import Envelope, Timings
from tests.security.containers.conftest import running_call
from tests.support.ledgers import ROOMY
from tests.support.mp4 import mp4
from tests.support.overflow import NoNudger, NoStore
from workers.overflow.classify import CallFailed, CallSucceeded, classify
from workers.overflow.completer import Completer
from workers.overflow.modal_sdk.port import Raised, Returned
from workers.resources import Resources

#: Half of a pair of surrogates, which is no text.
LONE = chr(0xD800)
VIDEO = mp4(width=720, height=1280, seconds=4, fps=24)
VALUE: dict[str, Any] = {
    "mp4": VIDEO,
    "thumbnail_webp": None,
    "sha256": hashlib.sha256(VIDEO).hexdigest(),
    "measurements": {"frames": 96, "note": "fine"},
}
GOOD = Envelope(
    Timings(1.0, 2.0, 3.0), "ta-1", cold_start=True, peak_memory_bytes=1, peak_gpu_memory_bytes=None, value=VALUE
).to_wire()
_UPLOADED = {"bytes": 64, "sha256": "0" * 64, "md5": "0" * 32, "was_there": False}


def _with(path: str, value: object) -> dict[str, Any]:
    """A good envelope with one part replaced."""
    wire = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    at: Any = wire
    for parent in parents:
        at = at[parent]
    at[last] = value
    return wire


def _cyclic() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def _wide() -> list[Any]:
    """Forty lists that each hold the next one twice: a trillion parts, to whoever walks them all."""
    found: list[Any] = [1]
    for _ in range(40):
        found = [found, found]
    return found


@pytest.fixture
def completer(ledger: Ledger) -> Completer:
    settings = Settings()
    return Completer(Resources(settings, ledger, NoStore(settings), NoNudger(settings)))


def _completed(completer: Completer, call: DueCall, wire: object) -> None:
    outcome = classify(Returned(wire))
    assert isinstance(outcome, CallSucceeded | CallFailed)
    assert completer.complete(call, outcome, None, noticed_ms=call.now_ms + 1000)


BAD = {
    "no dict": [1],
    "version that equals": _with("version", True),
    "version of a million digits": _with("version", 10**100_000),
    "value and error": _with("error", {"cause": "error", "message": "m", "retryable": True}),
    "value of bytes": _with("value", b"mp4"),
    "time is NaN": _with("timings.started_at", float("nan")),
    "time is infinite": _with("timings.finished_at", float("inf")),
    "time is a bool": _with("timings.started_at", True),
    "time is huge": _with("timings.finished_at", 10**400),
    "duration is negative": _with("timings.ran_s", -1),
    "duration is a century": _with("timings.container_age_s", 3.2e9),
    "container is no ASCII": _with("container_id", "ta-\udcff"),
    "container is long": _with("container_id", "t" * 100_000),
    "container is a number": _with("container_id", 7),
    "cold start is a number": _with("cold_start", 1),
    "memory is a bool": _with("peak_memory_bytes", True),
    "memory is huge": _with("peak_gpu_memory_bytes", 10**400),
    "memory is a fraction": _with("peak_memory_bytes", 1.5),
    "earlier is endless": _with("earlier", [["ta-0", 1.0]] * 100_000),
    "earlier is a text": _with("earlier", "ab"),
    "mp4 is a list": _with("value.mp4", [1, 2]),
    "mp4 is a text": _with("value.mp4", "mp4"),
    "mp4 is empty": _with("value.mp4", b""),
    "mp4 is a number": _with("value.mp4", 10**9),
    "thumbnail is a list": _with("value.thumbnail_webp", [1]),
    "digest is none": _with("value.sha256", "not-a-sha"),
    "digest in capitals": _with("value.sha256", "A" * 64),
    "digest of other digits": _with("value.sha256", "\u0661" * 64),
    "measurements are a list": _with("value.measurements", [1]),
    "measured NaN": _with("value.measurements.frames", float("nan")),
    "measured huge": _with("value.measurements.frames", 10**400),
    "measured bytes": _with("value.measurements.frames", b"1"),
    "measured by a number": _with("value.measurements", {1: 2}),
    "measured in a cycle": _with("value.measurements.frames", _cyclic()),
    "measured without end": _with("value.measurements.frames", _wide()),
    "uploaded is a list": _with("value.uploaded", [1]),
    "uploaded no video": _with("value.uploaded", {}),
    "uploaded bytes are a bool": _with("value.uploaded", {"video": {**_UPLOADED, "bytes": True}}),
    "uploaded bytes are huge": _with("value.uploaded", {"video": {**_UPLOADED, "bytes": 10**400}}),
    "uploaded no digest": _with("value.uploaded", {"video": {**_UPLOADED, "md5": "x"}}),
    "uploaded thumbnail is none": _with("value.uploaded", {"video": _UPLOADED, "thumbnail": None}),
}


@pytest.mark.parametrize("name", BAD)
def test_an_answer_with_an_odd_part_ends_its_attempt_and_settles_it(
    ledger: Ledger, completer: Completer, name: str
) -> None:
    # Given a call that is at work
    call = running_call(ledger)
    # When it answers so
    _completed(completer, call, BAD[name])
    # Then its attempt has ended by name, nothing is reserved for it, and the books are in order
    assert ledger.jobs.attempt(call.job_id, 1)["outcome"] == "bad_envelope"
    assert ledger.jobs.get(call.job_id).state is State.FAILED
    assert ledger.audit(ROOMY) == []


@pytest.mark.parametrize("odd", [LONE, "a\udfffb", "\ud83d\ude00", "\x00", "é" * 10_000])
def test_an_odd_text_is_made_valid_and_the_job_completes(ledger: Ledger, completer: Completer, odd: str) -> None:
    call = running_call(ledger)
    _completed(completer, call, _with("value.measurements.note", odd))
    assert ledger.jobs.get(call.job_id).state is State.COMPLETED
    assert ledger.audit(ROOMY) == []


@pytest.mark.parametrize("odd", [LONE, "a\udfffb", "x" * 100_000, "\x00"])
@pytest.mark.parametrize("raised", [False, True])
def test_an_odd_error_ends_its_attempt(ledger: Ledger, completer: Completer, odd: str, *, raised: bool) -> None:
    call = running_call(ledger)
    error = {"cause": "error", "message": odd, "retryable": True}
    answer = Raised(ValueError(odd)) if raised else Returned({**GOOD, "value": None, "error": error})
    outcome = classify(answer)
    assert isinstance(outcome, CallFailed)
    assert completer.complete(call, outcome, None, noticed_ms=call.now_ms + 1000)
    assert ledger.jobs.attempt(call.job_id, 1)["outcome"] == "error"
    assert ledger.audit(ROOMY) == []


@pytest.mark.parametrize(
    "error",
    [ValueError(10**5_000), ValueError(_cyclic()), KeyError(_wide), UnicodeDecodeError("x", b"\xff", 0, 9, "y")],
)
def test_an_exception_that_cannot_be_shown_has_words_all_the_same(error: Exception) -> None:
    deep: Any = ()
    for _ in range(20_000):
        deep = (deep,)
    for one in (error, ValueError(deep)):
        outcome = classify(Raised(one))
        assert isinstance(outcome, CallFailed)
        assert outcome.cause is Cause.ERROR


@pytest.mark.parametrize("text", [LONE, '{"a": "\udcff"}', "\\ud800"])
def test_what_a_script_cannot_take_leaves_no_half_written_books(ledger: Ledger, text: str) -> None:
    # Given an attempt that is being delivered, and one that runs
    delivered, failed = running_call(ledger), running_call(ledger)
    ledger.attempts.begin_delivery(delivered.job_id, 1)
    use = ContainerUse("ta-1", delivered.now_ms, delivered.now_ms + 1000)
    usage = Usage([use], usd_nanos_per_s=1_000_000, idle_window_s=60)
    # When they end with a text that no UTF-8 can hold
    artifact = Artifact("b", "k" + text, None, 1, "0" * 64)
    ledger.attempts.complete(delivered.job_id, 1, artifact=artifact, measurements={text: [text]}, usage=usage)
    ledger.attempts.fail(failed.job_id, 1, cause=Cause.ERROR, message=text, max_attempts=1, jitter=0)
    # Then they have ended
    assert ledger.jobs.get(delivered.job_id).state is State.COMPLETED
    assert ledger.jobs.get(failed.job_id).state is State.FAILED
    assert ledger.audit(ROOMY) == []


def test_measurements_that_are_no_json_are_refused_before_anything_is_written(ledger: Ledger) -> None:
    call = running_call(ledger)
    ledger.attempts.begin_delivery(call.job_id, 1)
    before = ledger.jobs.attempt(call.job_id, 1)
    runner = ledger.attempts._runner
    for measurements, artifact in (('{"a": "\\ud800"}', "{}"), ("{}", "no JSON"), ("", "{}")):
        with pytest.raises(Exception, match=r"complete|script|JSON|Expected"):  # Redis's own
            runner.call(
                "complete", id=call.job_id, attempt=1, artifact=artifact, measurements=measurements,
                cost_usd_micros=5, usage=None,
            )  # fmt: skip
    assert ledger.jobs.attempt(call.job_id, 1) == before
    assert ledger.audit(ROOMY) == []
