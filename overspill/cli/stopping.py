"""What Ctrl-C means to whoever holds a stack: the first stops it in good order, the second at once."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def hear_interrupts() -> None:
    """Make SIGINT interrupt this process, even if whoever started it ignored the signal.

    A shell starts background commands with SIGINT ignored, and that is inherited: Ctrl-C and `kill -INT` would do
    nothing here, nor in the processes that this one starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class StopSignals:
    """For the time of a `with` block, SIGINT, SIGTERM and SIGHUP stop us in good order.

    The first raises KeyboardInterrupt where the program stands. Each later one, and each one inside `unhurried`, calls
    `at_once`, which must be safe in a signal handler.
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
        """From here on nothing interrupts: a signal only makes it faster."""
        self._stopping = True

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopping:
            self._at_once()
            return
        self._stopping = True
        raise KeyboardInterrupt
