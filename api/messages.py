"""What a job's end is to its tenant: one sentence for each error code.

The ledger's own message may name addresses, buckets, paths, hosts or another program's words: it is for logs and for
`overspill why`, never for an answer.
"""

import re
from collections.abc import Mapping

from ledger.retries import Cause

_AGAIN = "Submit it again."
_ASK = "If it stays so, tell the operator of this service the id of the job."
_INTERRUPTED = f"The job was interrupted too often. {_AGAIN}"
_RESULT = f"The video was made and could not be kept. {_AGAIN} {_ASK}"
_CLOUD = f"The GPU cloud could not run the job. {_AGAIN} {_ASK}"

#: By error code: each cause of the ledger, and what ends a job without an attempt.
PUBLIC_MESSAGES: Mapping[str, str] = {
    "cancelled": "The job was cancelled.",
    "budget_exhausted": "The budget for GPUs was spent or set aside for as long as the job could wait.",
    "overloaded": "There was no room for the job for as long as it could wait. Submit it again later.",
    "deadline_impossible": "The deadline could not be kept on any GPU that the job may use. Ask for a later one.",
    Cause.ERROR: f"The engine failed at this job. {_ASK}",
    Cause.CRASH: f"The process that ran the job died, more than once. {_ASK}",
    Cause.OUT_OF_MEMORY: "The job needs more memory than the GPUs have that it may use. Ask for a smaller one.",
    Cause.TIMEOUT: "The job took longer than a job may take. Ask for a smaller one.",
    Cause.PREEMPTED: _INTERRUPTED,
    Cause.CANCELLED_REMOTELY: _INTERRUPTED,
    Cause.LEASE_LOST: _INTERRUPTED,
    Cause.GPU_EXHAUSTED: f"No GPU came for the job. {_AGAIN}",
    Cause.BUDGET: "The job took longer than the budget allowed.",
    Cause.SPAWN_REFUSED: _CLOUD,
    Cause.SPAWN_NOT_PREPARED: _CLOUD,
    Cause.SPAWN_LOST: _CLOUD,
    Cause.NOT_ANNOUNCED: _CLOUD,
    Cause.RESULT_LOST: _RESULT,
    Cause.RESULT_EXPIRED: _RESULT,
    Cause.RESULT_TOO_LARGE: "The video is larger than a result may be. Ask for a smaller one.",
    Cause.DELIVERY: _RESULT,
    Cause.BAD_ENVELOPE: _RESULT,
    Cause.INVALID_REQUEST: "The engine does not take this request: its model, or what is asked of it, is not on offer.",
    Cause.NO_ENGINE: "No engine here takes this job.",
    Cause.DATASET_PROBLEM: "The dataset cannot be trained on.",
    Cause.CHECKPOINT_PROBLEM: f"No checkpoint of the job could be used or written. {_ASK}",
    Cause.VOLUME_FULL: f"There was no space left for the job's files. {_ASK}",
    Cause.TRAINING_DIVERGED: "The training diverged: its loss is no number any more. Lower the learning rate.",
    Cause.SEGMENT_ENDED: _INTERRUPTED,
    Cause.MOVED_HOME: _INTERRUPTED,
    Cause.RECALLED: _INTERRUPTED,
}
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")


def public_error(code: str | None) -> dict[str, str]:
    """The `error` of a job that has ended without a video. A code that this version does not know is shown as it is."""
    shown = code if code is not None and _CODE.fullmatch(code) else "unknown"
    message = PUBLIC_MESSAGES.get(shown, f"The job ended without a video. {_ASK}")
    return {"code": shown, "message": message}
