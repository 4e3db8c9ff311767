"""How long a container's start is held back, on top of what the process itself takes."""

import math
import random

from modal_local.settings import SettingsError

# Shape of the drawn starts: median 8 s, 95 % below 21 s. Of the order that public posts name for a warm image with a
# model of some gigabytes; not measured on Modal.
_MEDIAN_S = 8.0
_SIGMA = 0.6
# After this many starts a function with memory snapshots restores instead of starting, which takes a part of the time.
_STARTS_BEFORE_SNAPSHOT = 2
_RESTORE_SHARE = 0.25


class ColdStarts:
    """Draws cold-start delays.

    Args:
        text: seconds, or `dist`.
        seed: for the draws.

    Raises:
        SettingsError: the text is neither.
    """

    def __init__(self, text: str, seed: int) -> None:
        self._random = random.Random(seed)
        self._fixed_s: float | None = None
        if text != "dist":
            try:
                self._fixed_s = float(text)
            except ValueError:
                raise SettingsError(f"--cold-start: expected seconds or `dist`, got {text!r}.") from None
            if not 0 <= self._fixed_s < math.inf:
                raise SettingsError(f"--cold-start: expected seconds from 0 up, got {text}.")

    def draw(self, snapshots: bool, earlier_starts: int) -> float:
        """Seconds for the next start.

        Args:
            snapshots: whether the function has memory snapshots enabled.
            earlier_starts: how many containers of it have been started.
        """
        seconds = self._fixed_s
        if seconds is None:
            seconds = self._random.lognormvariate(math.log(_MEDIAN_S), _SIGMA)
        if snapshots and earlier_starts >= _STARTS_BEFORE_SNAPSHOT:
            seconds *= _RESTORE_SHARE
        return seconds
