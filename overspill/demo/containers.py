"""How many Modal containers live, asked of Modal in the background: the header must never wait for it."""

import threading
from types import TracebackType
from typing import Any, Self

import modal
from modal.exception import Error as ModalError

from modal_apps.names import RENDERER_APP, RENDERER_CLASS

_ASK_EVERY_S = 0.5


class ContainerCount:
    """The number of live containers over the GPU classes that were named. Use it in a `with` block."""

    def __init__(self) -> None:
        self._renderers: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="container-count", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(timeout=5)

    def watch(self, gpu: str) -> None:
        """Count this GPU class too. Each class is a pool of its own, by the options that the workers bind."""
        if gpu not in self._renderers:
            self._renderers[gpu] = modal.Cls.from_name(RENDERER_APP, RENDERER_CLASS).with_options(gpu=gpu)()

    @property
    def total(self) -> int | None:
        """How many there are; None: nothing is known."""
        return sum(self._counts.values()) if self._counts else None

    def _run(self) -> None:
        while not self._stopping.wait(_ASK_EVERY_S):
            for gpu, renderer in list(self._renderers.items()):
                try:
                    self._counts[gpu] = renderer.render.get_current_stats().num_total_runners
                except (ModalError, OSError):
                    self._counts.pop(gpu, None)  # a header without this number is still a header
