"""A service in a thread of its own, beside the tasks: start, ready, stop; may be stopped twice, or unstarted."""

import threading


class BackgroundService:
    """Subclasses write `run`: loop until `self.stopping` is set, and set `self.is_ready` once."""

    #: How long `stop` waits for `run` to end, seconds.
    STOP_TIMEOUT_S = 10.0

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self.is_ready = threading.Event()
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

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

    def run(self) -> None:
        """What it does, in its thread."""
        raise NotImplementedError
