"""What can go wrong with the ledger. Each error carries data and a sentence that says what to do."""


class LedgerError(Exception):
    """Any error of the ledger."""


class LedgerUnavailable(LedgerError):
    """Redis did not answer in time; nothing is known to have changed."""

    def __init__(self, address: str, reason: str, retry_after_s: float = 2.0) -> None:
        self.address = address
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(
            f"expected an answer from Redis at {address}, got: {reason.rstrip('.')}. Try again in {retry_after_s:g} s; "
            "if it stays so, run `overspill doctor`."
        )


class LedgerFull(LedgerError):
    """Redis has no memory left and refused the write whole."""

    def __init__(self, address: str, retry_after_s: float = 30.0) -> None:
        self.address = address
        self.retry_after_s = retry_after_s
        super().__init__(
            f"Redis at {address} refused the write: its maxmemory is used up. Raise maxmemory or shorten retention; "
            f"try again in {retry_after_s:g} s."
        )


class JobNotFound(LedgerError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"expected the id of a job, got {job_id[:80]!r}, which the ledger does not know.")


class RecordUnreadable(LedgerError):
    """A job's record is not one that this version can read; it is in quarantine, or will be when it is next touched."""

    def __init__(self, job_id: str, reason: str) -> None:
        self.job_id = job_id
        self.reason = reason
        super().__init__(
            f"expected a record that this version wrote for job {job_id}, got one of which {reason}. "
            "`overspill jobs --quarantined` lists such jobs; run the version that wrote it, or remove it."
        )


class IdempotencyConflict(LedgerError):
    """An idempotency key came again with another request."""

    def __init__(self, key: str, job_id: str) -> None:
        self.key = key
        self.job_id = job_id
        super().__init__(
            f"the idempotency key {key[:80]!r} already stands for job {job_id}, which asked for something else. "
            "Use a new key for a new request."
        )


class ModelNotFound(LedgerError):
    """A job wants to use a train job's result, and its tenant has no such job. Another tenant's counts as none."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"expected the id of one of the tenant's train jobs, got {job_id[:80]!r}: there is none.")


class TenantQuotaExceeded(LedgerError):
    """A tenant has as much as it may have. `what`: jobs, spec_bytes or jobs_per_minute."""

    def __init__(self, tenant: str, what: str, retry_after_s: int) -> None:
        self.tenant = tenant
        self.what = what
        self.retry_after_s = retry_after_s
        super().__init__(
            f"tenant {tenant} has reached its quota of {what}; the job was not accepted. Try again in "
            f"{retry_after_s} s, or raise it in OVERSPILL_TENANT_QUOTAS."
        )


class IllegalTransition(LedgerError):
    """A script was about to change a job's state against the table in ledger/states.py: a bug of ours."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(f"expected a transition that ledger/states.py allows, got {detail}.")


class UnknownOutcome(LedgerError):
    """A script answered with an outcome that this version does not know: two versions share one ledger."""

    def __init__(self, script: str, outcome: object) -> None:
        self.script = script
        self.outcome = outcome
        super().__init__(f"script {script} answered with the outcome {outcome!r}, which this version does not know.")
