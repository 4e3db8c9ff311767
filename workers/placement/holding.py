"""What becomes of a job that Modal may not take now: it is held for a while, or shed at once. Pure."""

from ledger.decisions import Hold, Shed
from ledger.refusals import public_code


def instead_of_modal(reason: str, *, timeout_s: float, again_in_s: float) -> Hold | Shed:
    """The decision that follows a refusal.

    Args:
        reason: the limit that spoke (ledger/refusals.py).
        timeout_s: how long such a job is held, seconds; 0: it is shed at once.
        again_in_s: when it is looked at again, seconds.
    """
    if timeout_s <= 0:
        return Shed(public_code(reason), f"Modal may not be used now ({reason}), and such jobs are not held")
    return Hold(reason, again_in_s=again_in_s, timeout_s=timeout_s)
