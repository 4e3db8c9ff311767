"""Stops a process, and kills it together with everything that it started."""

import time
from collections.abc import Callable
from contextlib import suppress

import psutil

#: A stop signal takes effect within this; a process inside the kernel (a dead disk, a dead GPU) takes longer, seconds.
STOPS_WITHIN_S = 1.0
_LOOK_EVERY_S = 0.01
#: A tree that grows for longer than this many looks is not one of ours.
_MOST_LOOKS = 100


def kill_tree(process_id: int, *, parent_id: int, confirm: Callable[[], bool]) -> bool:
    """Stop a child process, ask whether it is to die, and kill it with all its descendants; or let it go on.

    A stopped process does nothing between the answer and its end. Its descendants die first: what starts them again,
    or would be left behind by its own death, is stopped meanwhile.

    Args:
        process_id: whom.
        parent_id: whose child it must be; a process id may have been given to somebody else.
        confirm: asked once it is stopped.

    Returns:
        Whether it was killed, or was dead.
    """
    try:
        process = psutil.Process(process_id)
        if process.ppid() != parent_id:
            return True
        process.suspend()
    except psutil.NoSuchProcess:
        return True
    _wait_for_stop(process)
    if not confirm():
        with suppress(psutil.NoSuchProcess):
            process.resume()
        return False
    for descendant in _stopped_descendants(process):
        with suppress(psutil.Error):
            descendant.kill()
    with suppress(psutil.NoSuchProcess):
        process.kill()
    return True


def _wait_for_stop(process: psutil.Process) -> None:
    until = time.monotonic() + STOPS_WITHIN_S
    with suppress(psutil.NoSuchProcess):
        while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE) and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S)


def _stopped_descendants(process: psutil.Process) -> list[psutil.Process]:
    """All of them, none of which can start another one any more."""
    found: dict[int, psutil.Process] = {}
    for _ in range(_MOST_LOOKS):
        try:
            new = [one for one in process.children(recursive=True) if one.pid not in found]
        except psutil.NoSuchProcess:
            break
        if not new:
            break
        for one in new:
            with suppress(psutil.Error):  # one that is not ours to stop (setuid) keeps no other from its end
                one.suspend()
            found[one.pid] = one
    return list(found.values())
