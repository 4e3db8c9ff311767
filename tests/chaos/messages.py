"""Does to Celery's messages what brokers do on a bad day: doubles, reorders, loses them, in Redis's lists."""

import json
import random
from typing import Any

import redis

#: The queues of the system; kombu keeps one list each for priority 0, which is what everybody here sends.
QUEUES = ("render", "train", "inhouse.render", "inhouse.train", "overflow")
#: What other services send; if one of these is lost nobody can know that it ever was.
_FOREIGN = ("tasks.render", "tasks.train")
#: Taken out whole, put back changed, in one step: no consumer sees it half done.
_REPLACE = """
local found = redis.call('LRANGE', KEYS[1], 0, -1)
if #found ~= tonumber(ARGV[1]) then return -1 end
redis.call('DEL', KEYS[1])
for i = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
return #ARGV - 1
"""


class Messages:
    """The broker's lists, read and written directly."""

    def __init__(self, broker: "redis.Redis", chance: random.Random) -> None:
        self._broker = broker
        self._chance = chance
        self._replace = broker.register_script(_REPLACE)

    def duplicate(self, count: int) -> int:
        """Put copies of up to `count` waiting messages back. Returns how many there were to copy."""
        copied = 0
        for queue in QUEUES:
            for raw in self._waiting(queue)[: count - copied]:
                self._broker.lpush(queue, raw)
                copied += 1
        return copied

    def reorder(self, count: int) -> str | None:
        """Double what waits in the longest queue up to `count` messages, and shuffle it whole. None: nothing waits."""
        queue = max(QUEUES, key=lambda name: len(self._waiting(name)))
        waiting = self._waiting(queue)
        if not waiting:
            return None
        shuffled = list(waiting)
        while len(shuffled) < count:
            shuffled.append(self._chance.choice(waiting))
        self._chance.shuffle(shuffled)
        written: Any = self._replace(keys=[queue], args=[len(waiting), *shuffled])
        return None if int(written) < 0 else f"{int(written)} in {queue}"

    def lose_nudges(self, count: int) -> str | None:
        """Remove up to `count` nudges of ours; what other services sent stays. None: none waits."""
        lost = 0
        for queue in QUEUES:
            for raw in self._waiting(queue):
                if lost < count and _task_of(raw) not in _FOREIGN:
                    removed: Any = self._broker.lrem(queue, 1, raw)  # type: ignore[arg-type]  # stubs know text only
                    lost += int(removed)
        return f"{lost} nudges" if lost else None

    def _waiting(self, queue: str) -> list[bytes]:
        found: Any = self._broker.lrange(queue, 0, 199)
        return list(found)


def _task_of(raw: bytes) -> str:
    """The task that a message names."""
    try:
        return str(json.loads(raw)["headers"]["task"])
    except (ValueError, KeyError, TypeError):
        return ""
