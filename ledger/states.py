"""The states of a job, and the one table of legal transitions.

    queued -> placed(inhouse|modal) -> running -> delivering -> completed
       |            |                     |            |
       +-> held ----+                     +------------+--> queued (a new attempt) | failed | cancelled
       +-> failed (shed: overloaded | budget_exhausted | deadline_impossible)

Python checks against `TRANSITIONS`; every Lua script gets the same table as its first lines (`as_lua`), so that
Python and Redis cannot disagree.
"""

from collections.abc import Mapping
from enum import StrEnum


class Pool(StrEnum):
    """Where an attempt runs."""

    #: Our own GPUs. A worker holds the attempt by a lease.
    INHOUSE = "inhouse"
    #: A Modal GPU class. Followers hold the call in turns.
    MODAL = "modal"


class State(StrEnum):
    """Where a job stands. A job is in exactly one state; the last three are terminal."""

    #: Accepted and waiting for a decision. Moved on by a dispatcher.
    QUEUED = "queued"
    #: Waiting in the control plane: in-house is full and Modal may not be used now. Moved on by maintenance.
    HELD = "held"
    #: Decided; the attempt waits for a GPU worker (in-house) or for its spawn (Modal).
    PLACED = "placed"
    #: The engine runs, or the Modal call was accepted. Moved on by the lease's holder or by a follower.
    RUNNING = "running"
    #: The result is there and is being put into S3.
    DELIVERING = "delivering"
    #: One whole artifact is published. Terminal.
    COMPLETED = "completed"
    #: Ended without an artifact; `error_code` says why. A shed job is failed too. Terminal.
    FAILED = "failed"
    #: Ended by a request to cancel. Terminal.
    CANCELLED = "cancelled"


#: The states that nothing leaves.
TERMINAL: frozenset[State] = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})

#: The one table: from a state, the states that a job may go to next.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.PLACED, State.HELD, State.FAILED, State.CANCELLED}),
    State.HELD: frozenset({State.QUEUED, State.PLACED, State.FAILED, State.CANCELLED}),
    State.PLACED: frozenset({State.RUNNING, State.QUEUED, State.FAILED, State.CANCELLED}),
    State.RUNNING: frozenset({State.DELIVERING, State.QUEUED, State.FAILED, State.CANCELLED}),
    State.DELIVERING: frozenset({State.COMPLETED, State.QUEUED, State.FAILED, State.CANCELLED}),
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}

#: What the outside sees: the Videos API knows four words (and jobs of ours may say `cancelled`).
PUBLIC_STATUS: Mapping[State, str] = {
    State.QUEUED: "queued",
    State.HELD: "queued",
    State.PLACED: "queued",
    State.RUNNING: "in_progress",
    State.DELIVERING: "in_progress",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}


#: The shape of a job's record. A record with another number was written by another version.
SCHEMA = 1


def as_lua() -> str:
    """The tables `LEGAL` and `TERMINAL`, and the schema, as Lua source, to stand at the head of every script."""
    rows = [
        f"  {before} = {{ {', '.join(f'{after} = true' for after in sorted(afters))} }},"
        for before, afters in TRANSITIONS.items()
    ]
    terminal = ", ".join(f"{state} = true" for state in sorted(TERMINAL))
    return "\n".join(["local LEGAL = {", *rows, "}", f"local TERMINAL = {{ {terminal} }}", f"local SCHEMA = {SCHEMA}"])


def as_mermaid() -> str:
    """The table as a mermaid state diagram, for docs/states.md (a test keeps the two the same)."""
    edges = [f"    {before} --> {after}" for before, afters in TRANSITIONS.items() for after in sorted(afters)]
    ends = [f"    {state} --> [*]" for state in sorted(TERMINAL)]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.QUEUED}", *edges, *ends])
