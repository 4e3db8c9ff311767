"""How much memory this process has had at most, as Linux counts it."""

import resource
import sys
from pathlib import Path

_KIB = 1024


def peak_memory_bytes() -> int:
    """Peak resident memory of this program, bytes.

    Linux: `VmHWM`, which begins with the program. `getrusage` is the fallback only: its peak goes over an exec, so a
    small program that a large one started would be told the large one's.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * _KIB
    except (OSError, StopIteration, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * _KIB
