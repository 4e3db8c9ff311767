"""A service in a thread of its own, beside the tasks: start, ready, stop; may be stopped twice, or unstarted."""

import threading

import structlog

log = structlog.get_logger(__name__)


class BackgroundService:
    """Subclasses write `run`: loop until `self.stopping` is set, and set `self.is_ready` once.

    A `run` that raises is logged and begun again: a service that has silently ended is worse than one that crashes.
    """

    #: How long `stop` waits for `run` to end, seconds.
    STOP_TIMEOUT_S = 10.0
    #: Pause before a `run` that raised is begun again, seconds.
    PAUSE_AFTER_CRASH_S = 1.0

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self.is_ready = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ready(self, timeout_s: float) -> bool:
        """Wait until it is at work. False: it was not within `timeout_s` seconds."""
        return self.is_ready.wait(timeout_s)

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self.STOP_TIMEOUT_S)

    def _keep_running(self) -> None:
        while not self.stopping.is_set():
            try:
                self.run()
            except Exception:
                log.exception("service.crashed", service=type(self).__name__)
                self.stopping.wait(self.PAUSE_AFTER_CRASH_S)
            else:
                return

    def run(self) -> None:
        """What it does, in its thread."""
        raise NotImplementedError
