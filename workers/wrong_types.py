"""Keys of queues that hold something which is no list.

`BRPOP` asks for all queues of a worker at once, and one key of a wrong type makes Redis refuse the whole command. So
such a key is left out, told, and looked at again until somebody has mended it.
"""

import time
from collections.abc import Callable, Iterable

import structlog

log = structlog.get_logger(__name__)

#: Time between two looks at keys that are left out, seconds.
LOOK_AGAIN_S = 2.0
_FITTING = frozenset({"list", "none"})


def is_wrong_type(error: Exception) -> bool:
    """Whether Redis refused a command because a key holds something else."""
    return "WRONGTYPE" in str(error)


class WrongTypes:
    """The keys that one channel leaves out.

    Args:
        types_of: asks Redis for the types of keys.
        now: seconds on a clock that never jumps.
    """

    def __init__(
        self, types_of: Callable[[list[str]], list[str]], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._types_of = types_of
        self._now = now
        self._left_out: set[str] = set()
        self._looked_at = now()

    def usable(self, keys: Iterable[str]) -> list[str]:
        """The keys that may be asked for; those that were left out are looked at again from time to time."""
        if self._left_out and self._now() - self._looked_at >= LOOK_AGAIN_S:
            self.look_at(sorted(self._left_out))
        return [key for key in keys if key not in self._left_out]

    def look_at(self, keys: list[str]) -> None:
        """See which keys hold what they should not."""
        self._looked_at = self._now()
        for key, kind in zip(keys, self._types_of(keys), strict=True):
            if kind in _FITTING:
                if key in self._left_out:
                    self._left_out.discard(key)
                    log.info("broker.key_mended", key=_shown(key))
            elif key not in self._left_out:
                self._left_out.add(key)
                log.error("broker.wrong_type", key=_shown(key), found=kind)


def _shown(key: str) -> str:
    """The key as `redis-cli` would want it: the bytes of kombu's priority lists cannot be seen."""
    return key.encode("unicode_escape").decode()
