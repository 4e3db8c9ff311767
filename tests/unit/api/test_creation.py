"""Fields into a job, or an honest no that names the field."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.creation import ACCEPTED, idempotency_key, is_retry, render_job
from api.errors import BadRequest
from api.forms import Upload
from ledger.models import BurstMode

# Machines differ: what is checked is the outcome, never how fast it was found.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


NO_SECONDS: tuple[Any, ...] = (0, -1, 1e9, "abc", "", "4.5", True, [], "0", "-1")


def make(fields: dict[str, Any], *, strict: bool = False) -> Any:
    return render_job(fields, tenant="acme", refuse_unknown=strict)


def test_the_fields_of_the_videos_api_and_ours_are_taken_as_text() -> None:
    job = make(
        {"prompt": "a ball", "model": "sora-2", "seconds": "8", "size": "1280x720", "fps": "30", "seed": "7",
         "priority": "9", "deadline_s": "90.5", "burst": "never"}
    )  # fmt: skip
    assert (job.prompt, job.model, job.seconds, job.size, job.fps, job.seed) == (
        "a ball", "sora-2", 8, "1280x720", 30, 7,
    )  # fmt: skip
    assert (job.priority, job.deadline_s, job.burst, job.tenant) == (9, 90.5, BurstMode.NEVER, "acme")


def test_null_is_absent() -> None:
    assert make({"prompt": "x", "seconds": None, "input_reference": None}).seconds == 4


def test_the_body_does_not_choose_the_tenant() -> None:
    assert make({"prompt": "x", "tenant": "other", "kind": "train"}).tenant == "acme"


@pytest.mark.parametrize(
    ("changed", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_required_field"),
        ({"prompt": ""}, "prompt", "invalid_value"),
        ({"prompt": " \n"}, "prompt", "invalid_value"),
        ({"prompt": "a\x00b"}, "prompt", "invalid_value"),
        ({"prompt": "\ud800"}, "prompt", "invalid_value"),
        ({"prompt": "x" * 32_001}, "prompt", "invalid_value"),
        ({"prompt": ["x"]}, "prompt", "invalid_value"),
        ({"prompt": Upload("p.txt", 3)}, "prompt", "invalid_value"),
        ({"size": "1x1"}, "size", "invalid_value"),
        ({"size": "1280X720"}, "size", "invalid_value"),
        *(({"seconds": value}, "seconds", "invalid_value") for value in NO_SECONDS),
        ({"fps": "1"}, "fps", "invalid_value"),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"priority": 10}, "priority", "invalid_value"),
        ({"deadline_s": "nan"}, "deadline_s", "invalid_value"),
        ({"deadline_s": "0"}, "deadline_s", "invalid_value"),
        ({"burst": "sometimes"}, "burst", "invalid_value"),
        ({"model": ""}, "model", "invalid_value"),
        ({"input_reference": Upload("cat.png", 3)}, "input_reference", "unsupported_field"),
        ({"input_reference": {"image_url": "https://x"}}, "input_reference", "unsupported_field"),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(changed: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        make({"prompt": "a ball", **changed})
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.status == 400


def test_an_unknown_field_is_ignored_unless_strict() -> None:
    fields = {"prompt": "x", "zoom": "2"}
    assert make(fields).prompt == "x"
    with pytest.raises(BadRequest) as refused:
        make(fields, strict=True)
    assert (refused.value.param, refused.value.code) == ("zoom", "unknown_field")


def test_a_prompt_is_never_echoed() -> None:
    with pytest.raises(BadRequest) as refused:
        make({"prompt": "secret" + "\x00"})
    assert "secret" not in refused.value.message


@patient
@given(st.dictionaries(st.sampled_from(sorted(ACCEPTED)), st.none() | st.text() | st.integers() | st.floats()))
def test_any_fields_are_taken_or_refused_by_name(fields: dict[str, Any]) -> None:
    try:
        refused_for = None
        assert make(fields).prompt
    except BadRequest as error:
        refused_for = error.param
    assert refused_for is None or refused_for in ACCEPTED


@pytest.mark.parametrize(
    ("header", "said"),
    [(None, False), ("0", False), ("1", True), ("12", True), ("x", False), ("-1", False), ("²", False)],
)
def test_a_repetition_says_so(header: str | None, *, said: bool) -> None:
    assert is_retry(header) is said


def test_an_idempotency_key_is_bounded() -> None:
    assert idempotency_key(None) is None
    assert idempotency_key("k" * 255) == "k" * 255
    for bad in ("", "k" * 256, "kä", "k\t"):
        with pytest.raises(BadRequest) as refused:
            idempotency_key(bad)
        assert refused.value.param == "Idempotency-Key"
