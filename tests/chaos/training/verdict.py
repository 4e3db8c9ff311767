"""What has to hold at the end, and the last line. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.training.told import Restarts

KILLS = 5


@dataclass(frozen=True)
class Struck:
    """One strike: where it struck, how, and how many steps had to be done again."""

    pool: str
    how: str
    lost_steps: int


@dataclass(frozen=True)
class Verdict:
    """How it went.

    Attributes:
        seed: for the moments of the strikes.
        strikes: in their order.
        outcomes: of the job's attempts, by cause.
        restarts: begun again by Modal in the same call.
        interval_steps: between two checkpoints.
        weights_equal: with those of the run that nothing struck.
        took_s: from the submission to the end.
        complaints: what else went wrong.
    """

    seed: int
    strikes: Sequence[Struck]
    outcomes: Mapping[str, int]
    restarts: Restarts
    interval_steps: int
    weights_equal: bool
    took_s: float
    complaints: Sequence[str] = field(default=())

    @property
    def all_complaints(self) -> list[str]:
        """What is not as it should be."""
        said = list(self.complaints)
        struck = Counter((one.pool, one.how) for one in self.strikes)
        kills = [one for one in self.strikes if one.how == "killed"]
        if len(kills) != KILLS:
            said.append(f"expected {KILLS} kills, there were {len(kills)}")
        said += [
            f"expected a kill to cost at most {self.interval_steps} steps, one {one.pool} cost {one.lost_steps}"
            for one in kills
            if one.lost_steps > self.interval_steps
        ]
        said += [
            f"expected an orderly end to cost nothing, {one.how} {one.pool} cost {one.lost_steps} steps"
            for one in self.strikes
            if one.how != "killed" and one.lost_steps > 0
        ]
        expected = {
            "crash": (struck["inhouse", "killed"], self.outcomes.get("crash", 0)),
            "preempted, in-house": (struck["inhouse", "asked to stop"], self.outcomes.get("preempted", 0)),
            "preempted, on Modal": (struck["modal", "preempted"], self.restarts.preempted),
            "killed, on Modal": (struck["modal", "killed"], self.restarts.killed),
        }
        said += [
            f"expected {name} to be counted {done} times, it was {counted} times"
            for name, (done, counted) in expected.items()
            if done != counted
        ]
        if not self.outcomes.get("segment_ended"):
            said.append("expected a segment to end, none did")
        if {one.pool for one in self.strikes} != {"inhouse", "modal"}:
            said.append("expected the run to be struck in-house and on Modal")
        if not self.weights_equal:
            said.append("the weights differ from those of the run that nothing struck")
        return said

    @property
    def last_line(self) -> str:
        """What a script reads."""
        kills = [one for one in self.strikes if one.how == "killed"]
        home = sum(one.pool == "inhouse" for one in kills)
        orderly = len(self.strikes) - len(kills)
        lost = "/".join(str(one.lost_steps) for one in kills) or "-"
        return (
            f"chaos-train: seed {self.seed}, {len(kills)} kills ({home} in-house, {len(kills) - home} on Modal), "
            f"{orderly} orderly ends, {self.outcomes.get('segment_ended', 0)} segments, "
            f"weights {'equal' if self.weights_equal else 'DIFFER'}, "
            f"steps lost {lost} of {self.interval_steps} at most, {self.took_s:.0f} s"
        )
