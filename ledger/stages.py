"""The stages of a budget: how near it is to its cap, in five words. One table, for Python and for the scripts.

Pure. What a stage means for a placement is in workers/placement/stages.py; the scripts raise an event when a budget
reaches a stage, once for each scope and period.
"""

from enum import IntEnum

#: From these shares of a cap on, warnings are raised.
WARN_50_RATIO, WARN_80_RATIO = 0.5, 0.8
#: From this share on only priority jobs may still spill, unless a setting says otherwise.
DRAIN_RATIO = 0.9


class Stage(IntEnum):
    """How near a budget is to its cap; a higher number is nearer."""

    OK = 0
    WARN_50 = 1
    WARN_80 = 2
    #: Only jobs of some priority may still spill.
    DRAIN = 3
    #: Nothing is left.
    STOP = 4

    @property
    def word(self) -> str:
        """As events, counters and people call it."""
        return self.name.lower()


def stage_of(
    committed_usd_micros: int,
    cap_usd_micros: int | None,
    *,
    drain_ratio: float = DRAIN_RATIO,
    least_usd_micros: int = 0,
) -> Stage:
    """The stage of a budget.

    Args:
        committed_usd_micros: spent and reserved, micro-dollars.
        cap_usd_micros: the cap; None: there is none.
        drain_ratio: the share of the cap from which on it drains; 1: it never drains, it stops.
        least_usd_micros: the least that is ever set aside at a time: if that does not fit any more, it has stopped.
    """
    if cap_usd_micros is None:
        return Stage.OK
    if committed_usd_micros >= cap_usd_micros or committed_usd_micros + least_usd_micros > cap_usd_micros:
        return Stage.STOP
    if committed_usd_micros >= drain_ratio * cap_usd_micros:
        return Stage.DRAIN
    if committed_usd_micros >= WARN_80_RATIO * cap_usd_micros:
        return Stage.WARN_80
    if committed_usd_micros >= WARN_50_RATIO * cap_usd_micros:
        return Stage.WARN_50
    return Stage.OK


def as_lua() -> str:
    """The same function and the words as Lua source, to stand before the scripts that move money."""
    words = ", ".join(f"[{stage.value}] = '{stage.word}'" for stage in Stage)
    return "\n".join(
        [
            f"local STAGES = {{ {words} }}",
            f"local STAGE_DRAIN, STAGE_STOP, DRAIN_RATIO = {Stage.DRAIN.value}, {Stage.STOP.value}, {DRAIN_RATIO}",
            "local function stage_of(committed, cap, drain_ratio)",
            f"  if committed >= cap then return {Stage.STOP.value} end",
            f"  if committed >= drain_ratio * cap then return {Stage.DRAIN.value} end",
            f"  if committed >= {WARN_80_RATIO} * cap then return {Stage.WARN_80.value} end",
            f"  if committed >= {WARN_50_RATIO} * cap then return {Stage.WARN_50.value} end",
            f"  return {Stage.OK.value}",
            "end",
        ]
    )
