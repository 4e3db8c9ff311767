"""What has to hold at the end, and the last line. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

KILLS = 5


@dataclass(frozen=True)
class Struck:
    """One strike: where it struck, how, and how many steps had to be done again.

    `moved`: it went on in the other pool. A move takes what has been brought to S3, which may be a checkpoint less.
    """

    pool: str
    how: str
    lost_steps: int
    moved: bool = False


@dataclass(frozen=True)
class Verdict:
    """How it went.

    Attributes:
        seed: for the moments of the strikes.
        strikes: in their order.
        outcomes: of the job's attempts, by cause.
        begun_again: how often Modal began a call once more.
        interval_steps: between two checkpoints.
        weights_equal: with those of the run that nothing struck.
        took_s: from the submission to the end.
        complaints: what else went wrong.
    """

    seed: int
    strikes: Sequence[Struck]
    outcomes: Mapping[str, int]
    begun_again: int
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
            if one.lost_steps > self.interval_steps * (2 if one.moved else 1)
        ]
        said += [
            f"expected an orderly end to cost nothing, {one.how} {one.pool} cost {one.lost_steps} steps"
            for one in self.strikes
            if one.how != "killed" and one.lost_steps > (self.interval_steps if one.moved else 0)
        ]
        expected = {
            # Its worker tells of a dead process at once, but for where a lease of seconds lapses before.
            "killed, in-house": (
                struck["inhouse", "killed"],
                self.outcomes.get("crash", 0) + self.outcomes.get("lease_lost", 0),
            ),
            "preempted, in-house": (struck["inhouse", "asked to stop"], self.outcomes.get("preempted", 0)),
            "begun again, on Modal": (
                sum(one.pool == "modal" and not one.moved for one in self.strikes),
                self.begun_again,
            ),
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
