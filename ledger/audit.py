"""The audit: every violation of what must always hold, asked of the ledger itself.

The invariants are those of the design: 1 one terminal state, 2 one artifact, 3 fencing, 4 caps, 5 no leaked call,
7 no transition without its event, receipt and counter. (6 and 8 are about time and depth; tests drive them.) Each page
of jobs is one script, so what is compared is of one instant, and an audit may run while everything works.
"""

from dataclasses import dataclass

from ledger.limits import Limits
from ledger.models import Kind
from ledger.scripts import ScriptRunner

_PAGE = 100


@dataclass(frozen=True)
class Violation:
    """One thing that should never be. `job_id` is empty if it is about sums."""

    invariant: int
    job_id: str
    what: str


def audit(runner: ScriptRunner, *, prefix: str, limits: Limits | None = None) -> list[Violation]:
    """Every violation; an empty list is the promise kept."""
    found: list[Violation] = []
    for kind in Kind:
        key = f"{prefix}:jobs:{kind}"
        cursor = 0
        while True:
            cursor, page = runner.guarded(lambda key=key, cursor=cursor: runner.client.zscan(key, cursor, count=_PAGE))
            ids = [member for member, _ in page]
            for start in range(0, len(ids), _PAGE):
                found += _violations(runner.call("audit_jobs", ids=ids[start : start + _PAGE]))
            if cursor == 0:
                break
    found += _violations(
        runner.call(
            "audit_totals",
            kinds=[str(kind) for kind in Kind],
            limits=limits.to_wire() if limits else None,
        )
    )
    return found


def _violations(answer: dict[str, object]) -> list[Violation]:
    rows = answer["violations"] or []
    assert isinstance(rows, list)  # noqa: S101 - cjson writes an empty table as {}
    return [Violation(int(row["invariant"]), row["id"], row["what"]) for row in rows]
