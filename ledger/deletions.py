"""Objects that nothing points to any more: durable lists in the ledger, drained until their store has confirmed each.

An entry is written in the script that drops the last pointer to an object, so it outlives every process. A worker
claims entries for a while, deletes, and says what became of each; what is not said in time, or has failed, falls due
again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ledger.scripts import ScriptRunner

#: Pause after the first failure of an entry, seconds; it doubles with each further one.
FIRST_PAUSE_S = 5.0
#: The longest pause, seconds.
LONGEST_PAUSE_S = 3600.0


class Store(StrEnum):
    """Where an object lies."""

    S3 = "s3"
    #: Modal's volume of checkpoints.
    VOLUME = "volume"


class Result(StrEnum):
    """What became of a claimed entry."""

    #: The store has confirmed it.
    DELETED = "deleted"
    #: The store said no, or did not answer; it is tried again after a pause.
    FAILED = "failed"
    #: There is more of it, or its turn did not come; it stays due.
    UNFINISHED = "unfinished"
    #: It is no entry of ours; it is dropped.
    REFUSED = "refused"


@dataclass(frozen=True)
class DeleteObject:
    """One object in S3."""

    bucket: str
    key: str

    def __str__(self) -> str:
        """As the ledger keeps it."""
        return f"object {self.bucket} {self.key}"


@dataclass(frozen=True)
class DeleteFolder:
    """Everything under a prefix in S3. The prefix ends with a slash."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        """As the ledger keeps it."""
        return f"folder {self.bucket} {self.prefix}"


@dataclass(frozen=True)
class DeleteJobFiles:
    """What a train job has left on Modal's volume."""

    job_id: str

    def __str__(self) -> str:
        """As the ledger keeps it."""
        return f"job {self.job_id}"


Deletion = DeleteObject | DeleteFolder | DeleteJobFiles


def parse_deletion(text: str) -> Deletion:
    """Read an entry.

    Raises:
        ValueError: it has none of the three forms.
    """
    match text.split(" ", 2):
        case ["object", bucket, key] if bucket and key:
            return DeleteObject(bucket, key)
        case ["folder", bucket, prefix] if bucket and prefix.endswith("/"):
            return DeleteFolder(bucket, prefix)
        case ["job", job_id] if job_id:
            return DeleteJobFiles(job_id)
    raise ValueError(f"expected `object BUCKET KEY`, `folder BUCKET PREFIX/` or `job ID`, got {text!r}")


@dataclass(frozen=True)
class Claim:
    """Entries that one worker works on, each as text."""

    store: Store
    entries: Sequence[str]
    #: Tells this claim from later ones of the same entries.
    token: str


class Deletions:
    """The verbs of whoever drops objects, and of the service that deletes them."""

    def __init__(self, runner: ScriptRunner, *, prefix: str) -> None:
        self._runner = runner
        self._prefix = prefix

    def add(self, store: Store, deletions: Sequence[Deletion]) -> None:
        """Have objects deleted, now or when their store answers again.

        Raises:
            LedgerUnavailable: they were not noted.
        """
        if deletions:
            self._runner.call("note_deletions", store=store, entries=[str(one) for one in deletions])

    def claim(self, store: Store, *, limit: int, lease_s: float) -> Claim:
        """Take entries that are due, for `lease_s` seconds."""
        answer = self._runner.call("claim_deletions", store=store, limit=limit, lease_ms=int(lease_s * 1000))
        return Claim(store, list(answer["entries"] or []), str(answer["claim"]))

    def end(self, claim: Claim, entries: Sequence[str], result: Result) -> None:
        """Say what became of some entries of a claim. Those that another worker has claimed meanwhile stay."""
        if entries:
            self._runner.call(
                "end_deletions",
                store=claim.store,
                claim=claim.token,
                entries=list(entries),
                result=result,
                first_ms=int(FIRST_PAUSE_S * 1000),
                longest_ms=int(LONGEST_PAUSE_S * 1000),
            )

    def pending(self, store: Store) -> int:
        """How many entries are not confirmed yet."""
        number: int = self._runner.guarded(lambda: self._runner.client.zcard(f"{self._prefix}:deletions:{store}"))
        return number
