"""Queued jobs whose record another version has written: one with a field that is unknown, one that cannot be read."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from redis.exceptions import RedisError

from ledger import Ledger, LedgerError
from ledger.models import RenderJob
from tests.chaos.observations import RawLedger
from tests.support.settings import ledger_settings_of

#: What a newer version would write beside what this one knows.
UNKNOWN_FIELD: Mapping[str, object] = {"a_field_of_tomorrow": {"strength": 0.5}}
#: A spec that is no job in any version.
UNREADABLE_SPEC = "{"
_TIMEOUT_S = 5.0
#: KEYS: the job, claimed jobs; ARGV: its id, the spec. A job that somebody has begun to decide about is left alone.
_REWRITE = """
if redis.call('HGET', KEYS[1], 'state') ~= 'queued' or redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'spec', ARGV[2])
return 1
"""


class Planter:
    """Plants one such job; asked again and again until it has succeeded, for Redis may be away or a dispatcher faster.

    Args:
        raw: where the record is rewritten.
        url: of the ledger.
        prompt: tells the job from all others of the run.
        readable: with an unknown field; else unreadable.
    """

    def __init__(self, raw: RawLedger, *, url: str, prompt: str, readable: bool) -> None:
        self._raw = raw
        self._url = url
        self._prompt = prompt
        self._readable = readable
        self._tried: dict[str, str] = {}

    def __call__(self) -> str | None:
        """The job's id. None: not yet.

        Nobody is told of the job: a nudge for another one, or the service that repeats overdue nudges, finds it.
        """
        try:
            # (The answer to an earlier try may have been lost.)
            for job_id, spec in self._tried.items():
                if self._raw.client.hget(self._raw.key(f"job:{job_id}"), "spec") == spec:
                    return job_id
            return self._try()
        except (RedisError, LedgerError):
            return None

    def _try(self) -> str | None:
        prompt = f"{self._prompt}, try {len(self._tried) + 1}"
        job = RenderJob.model_validate({"prompt": prompt, "seconds": 1, "size": "320x180", "fps": 8, "burst": "never"})
        spec = json.dumps({**job.model_dump(mode="json"), **UNKNOWN_FIELD}) if self._readable else UNREADABLE_SPEC
        with Ledger(ledger_settings_of(ledger_url=SecretStr(self._url), ledger_timeout_s=_TIMEOUT_S)) as ledger:
            job_id = ledger.jobs.submit(job, source="client").job_id
        self._tried[job_id] = spec
        keys = [self._raw.key(f"job:{job_id}"), self._raw.key("claimed:render")]
        written: Any = self._raw.client.eval(_REWRITE, len(keys), *keys, job_id, spec)
        return job_id if written else None
