"""Stop signals of a command: the first stops it in good order, the second at once."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def accept_interrupts() -> None:
    """Let SIGINT interrupt this process, even if its parent ignored the signal.

    A shell starts background commands with SIGINT ignored, and children inherit that: Ctrl-C and `kill -INT` would
    have no effect on this process, nor on the processes that it starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class StopSignals:
    """Within a `with` block, SIGINT, SIGTERM and SIGHUP stop the program in good order.

    The first signal raises KeyboardInterrupt in the main thread. Each later one, and each one after `begin_to_stop`,
    calls `at_once`, which must be safe in a signal handler.
    """

    def __init__(self, at_once: Callable[[], None]) -> None:
        self._at_once = at_once
        self._stopping = False
        self._before: dict[int, signal.Handlers | Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def begin_to_stop(self) -> None:
        """From now on a signal does not interrupt; it calls `at_once`."""
        self._stopping = True

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopping:
            self._at_once()
            return
        self._stopping = True
        raise KeyboardInterrupt
