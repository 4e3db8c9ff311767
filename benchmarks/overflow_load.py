"""What `benchmarks.overflow` lets loose: how many calls, for how long each works, and what is set aside for it. Pure.

Calls are spawned one after the other, and all of them shall be in flight at once; so each works until an instant after
the last spawn, drawn evenly from a window that is wide enough for the followers.
"""

import random
from dataclasses import dataclass

#: Spawns a second, to guess how long all must last; the machine may be slower, and then fewer are in flight at once.
SPAWNS_PER_S = 150.0
#: Calls that end each second: for one follower, and for several together (all share the machine with Modal's stand-in).
ENDS_PER_S, ENDS_PER_S_OF_SEVERAL = 43.0, 90.0
#: After the last spawn, seconds.
MARGIN_S = 10.0
#: Up to so many calls, long ones outlast their reservation and are topped up. Reservations of more cover the longest:
#: top-ups of fifty thousand calls at once are more than two cores' worth of work.
TOPPED_UP_CALLS = 10_000


@dataclass(frozen=True)
class Load:
    """How many calls, for how many followers."""

    calls: int
    followers: int

    @property
    def first_end_s(self) -> float:
        """From the first spawn to the first end, seconds."""
        return MARGIN_S + self.calls / SPAWNS_PER_S

    @property
    def last_end_s(self) -> float:
        """From the first spawn to the last end, seconds."""
        rate = ENDS_PER_S if self.followers == 1 else ENDS_PER_S_OF_SEVERAL
        return self.first_end_s + self.calls / rate

    def works_s(self, number: int, chance: random.Random) -> float:
        """For how long the call that is spawned as `number`th works, seconds."""
        spawned_s = min(number, self.calls) / SPAWNS_PER_S
        return chance.uniform(self.first_end_s, self.last_end_s) - spawned_s

    def reserve_for_s(self, usual_s: float) -> float:
        """For how long a reservation is made, seconds, if the settings have `usual_s`."""
        return usual_s if self.calls <= TOPPED_UP_CALLS else max(usual_s, self.last_end_s)
