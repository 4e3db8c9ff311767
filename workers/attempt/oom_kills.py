"""How many processes of our memory group the kernel has killed because memory ran out.

The kernel counts them for each control group: cgroup v2 in `memory.events` (`oom_kill`), cgroup v1 in
`memory.oom_control` (https://docs.kernel.org/admin-guide/cgroup-v2.html, admin-guide/cgroup-v1/memory.html). A process
that is killed so has no last word; the number that has grown is the only one who tells.
"""

import re
from pathlib import Path

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_MOUNTED = Path("/sys/fs/cgroup")
_OF_THIS_PROCESS = Path("/proc/self/cgroup")


def oom_kills(*, groups: Path = _OF_THIS_PROCESS, mounted: Path = _MOUNTED) -> int | None:
    """Processes of this one's control group that were killed for memory, since the group was made.

    Args:
        groups: the groups that this process is in, as the kernel lists them.
        mounted: where the control groups are mounted.

    Returns:
        None where the kernel does not say: no control groups, or none of memory.
    """
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [count for line in lines for path in _files(line, mounted) if (count := _read(path)) is not None]
    return max(found, default=None)


def _files(line: str, mounted: Path) -> list[Path]:
    """Where the count of one group of a process may be: `<number>:<controllers>:<path>`."""
    _, controllers, path = line.split(":", 2)
    # Inside a container the group's own directory is often mounted as the root, whatever the path says.
    inside = [path.lstrip("/"), ""]
    if not controllers:
        return [mounted / own / "memory.events" for own in inside]
    if "memory" in controllers.split(","):
        return [mounted / "memory" / own / "memory.oom_control" for own in inside]
    return []


def _read(path: Path) -> int | None:
    try:
        count = _COUNT.search(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    return int(count[1]) if count else None
