"""What a run has told. Pure, but for who reads it."""

import datetime as dt
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LINE = re.compile(r"^(\S+ \S+) +step (\d+)/\d+  (started|stopped|progress|evaluated|checkpoint)\b", re.MULTILINE)


@dataclass(frozen=True)
class Said:
    """One thing that a run has said of itself."""

    #: Seconds since 1970; whole ones, where Modal's logs tell no more.
    at: float
    kind: str
    step: int
    at_home: bool = False


def read_log(text: str) -> list[Said]:
    """What containers have printed (`modal app logs --timestamps`), oldest first."""
    return [
        Said(dt.datetime.fromisoformat(match[1]).timestamp(), match[3], int(match[2])) for match in _LINE.finditer(text)
    ]


def read_rows(rows: Sequence[Mapping[str, Any]]) -> list[Said]:
    """What the ledger was told by in-house attempts, oldest first."""
    return [Said(float(row["at"]), str(row["kind"]), int(row["step"]), at_home=True) for row in rows]


def in_order(containers: Sequence[Said], at_home: Sequence[Said]) -> list[Said]:
    """Both together. A run is in one place at a time, and takes longer than a second to move."""
    return sorted([*containers, *at_home], key=lambda one: int(one.at))


def starts(said: Sequence[Said]) -> list[int]:
    """The steps at which a run was begun."""
    return [one.step for one in said if one.kind == "started"]


def reached(said: Sequence[Said]) -> int:
    """The newest step that the last start has told of."""
    return said[-1].step if said else 0


def begun_again(said: Sequence[Said], spawned: Sequence[float]) -> int:
    """Of a run's starts in containers, those that no new attempt explains.

    Args:
        said: what all its containers have printed.
        spawned: when each attempt on Modal was spawned, seconds since 1970; a start is of the newest before it.
    """
    begun = [one.at for one in said if one.kind == "started"]
    of_each = Counter(max((at for at in spawned if int(at) <= start), default=0.0) for start in begun)
    return sum(number - 1 for number in of_each.values())
