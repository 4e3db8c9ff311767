"""Whether this worker was asked to stop: said in its main process by a signal's handler, heard in the pool's processes.

Celery's warm shutdown waits for what runs, and tells it nothing. What runs for days has to know. It is one byte of
memory that the pool's processes inherit, and no lock: whoever holds a lock may be killed.
"""

import mmap


class StopRequest:
    """Shared with every process that is forked after it was made."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def make(self) -> None:
        """Ask. Safe in a signal's handler."""
        self._byte[0] = 1

    def is_made(self) -> bool:
        """Whether the worker was asked to stop."""
        return self._byte[0] == 1


#: This worker's. Made with the first import, which is the main process's.
stop_request = StopRequest()
