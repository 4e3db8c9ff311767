"""What ended a job is said to its tenant in the words of a table: no address, path or host of ours is answered."""

import pytest

from api.messages import PUBLIC_MESSAGES, public_error
from ledger.errors import LedgerUnavailable
from ledger.retries import RULES, Cause, RetryRule
from tests.support.api_server import RunningApi
from tests.support.ledgers import start_inhouse, submit

#: What really stood in messages, and its like.
INTERNAL = (
    'Could not connect to the endpoint URL: "http://10.0.7.3:9000/overspill-artifacts/render/a/1/video.mp4"',
    "expected an answer from Redis at redis-0.internal:6379, got: timed out",
    "FileNotFoundError: [Errno 2] No such file or directory: '/srv/overspill/train/models/ftjob_1/best'",
    "the spawn could not be prepared: OSError: [Errno 28] No space left on device (host gpu-17)",
    "AuthError: Token ak-123 is not valid for workspace acme-prod",
)


@pytest.mark.parametrize("message", INTERNAL)
def test_no_answer_holds_an_internal_message(api: RunningApi, message: str) -> None:
    # given a job that has failed with a message of ours
    job_id = submit(api.ledger)
    record = start_inhouse(api.ledger)
    api.ledger.attempts.fail(
        record.id, record.attempt, cause=Cause.DELIVERY, message=message, max_attempts=1, jitter=0.5, rule=RetryRule(0)
    )
    # when its tenant asks, in every way there is
    answers = [
        api.http.get(f"/v1/videos/{job_id}"),
        api.http.get("/v1/videos"),
        api.http.get(f"/v1/videos/{job_id}/content"),
        api.http.delete(f"/v1/videos/{job_id}"),
    ]
    # then the code is there, in words of its own, and nothing of the message
    assert answers[0].json()["error"] == {"code": "delivery", "message": PUBLIC_MESSAGES["delivery"]}
    for answer in answers:
        assert not set(message.split()) & {word for word in answer.text.split() if len(word) > 7}, answer.text
    # and the detail is kept for `overspill why`
    assert api.ledger.jobs.get(job_id).error_message == message


def test_every_cause_has_its_sentence() -> None:
    ends = {*RULES, "cancelled", "budget_exhausted", "overloaded", "deadline_impossible"}
    assert {str(end) for end in ends} == set(PUBLIC_MESSAGES)


@pytest.mark.parametrize("code", [None, "", "at http://10.0.0.1", "x" * 65, "Ünbekannt"])
def test_a_code_that_is_none_is_not_shown(code: str | None) -> None:
    assert public_error(code)["code"] == "unknown"


def test_a_code_of_a_newer_version_is_shown_with_a_general_sentence() -> None:
    assert public_error("moon_phase")["code"] == "moon_phase"
    assert "operator" in public_error("moon_phase")["message"]


def test_a_ledger_that_is_away_is_not_named(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable("redis-0.internal:6379", "Connection refused by redis-0.internal")

    monkeypatch.setattr("ledger.jobs.Jobs.get", away)
    answer = api.http.get("/v1/videos/video_1")
    assert answer.status_code == 503
    assert "redis-0" not in answer.text + str(answer.headers)
