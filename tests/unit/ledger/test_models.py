"""What a job may be: every bound, and what is refused."""

import pytest
from pydantic import ValidationError

from ledger.models import Kind, RenderJob, new_job_id, parse_job


def _refused_fields(fields: dict[str, object]) -> set[str]:
    with pytest.raises(ValidationError) as caught:
        parse_job(Kind.RENDER, fields)
    return {str(detail["loc"][0]) for detail in caught.value.errors()}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""), ("prompt", "   \n"), ("prompt", "x" * 32_001), ("prompt", 7), ("prompt", "a\x00b"),
        ("prompt", "\ud800"),
        ("seconds", 0), ("seconds", -1), ("seconds", 1e9), ("seconds", "abc"), ("seconds", "4.5"), ("seconds", True),
        ("seconds", ""), ("seconds", None), ("seconds", float("nan")), ("seconds", "9" * 4000),
        ("size", "1x1"), ("size", "1280X720"), ("size", ""), ("size", 1280),
        ("fps", 0), ("fps", 61), ("seed", -1), ("seed", 2**32), ("priority", 10), ("deadline_s", 0.5),
        ("deadline_s", float("inf")), ("tenant", "UPPER"), ("tenant", ""), ("tenant", "a" * 65), ("burst", "maybe"),
        ("colour", "red"),
    ],
)  # fmt: skip
def test_a_field_out_of_its_bounds_is_refused_by_name(field: str, value: object) -> None:
    assert _refused_fields({"prompt": "a red ball", field: value}) == {field}


def test_numbers_may_come_as_strings_as_forms_send_them() -> None:
    job = RenderJob.model_validate({"prompt": "p", "seconds": "12", "fps": "30", "seed": "7"})
    assert (job.seconds, job.fps, job.seed) == (12, 30, 7)


def test_equal_requests_have_equal_digests_and_others_do_not() -> None:
    assert RenderJob(prompt="p").digest() == RenderJob.model_validate({"prompt": "p", "seconds": "4"}).digest()
    assert RenderJob(prompt="p").digest() != RenderJob(prompt="p", seed=1).digest()
    assert RenderJob(prompt="p").digest() != RenderJob(prompt="p", tenant="other").digest()


def test_ids_sort_by_time_and_name_their_kind() -> None:
    early, late = (new_job_id(Kind.RENDER, ms, bytes(10)) for ms in (1_700_000_000_000, 1_700_000_000_001))
    assert early < late
    assert early.startswith("video_")
    assert new_job_id(Kind.TRAIN, 1, bytes(10)).startswith("ftjob_")
